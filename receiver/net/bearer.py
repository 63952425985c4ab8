"""How a client says who it is: a bearer token from a file."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from receiver.errors import StartError
from receiver.fields import AbsolutePath, Section
from receiver.net.files import Watch

if TYPE_CHECKING:
    from pathlib import Path

_log = logging.getLogger(__name__)

_MAX_BYTES: Final = 16 << 10
"""Of the file: what a header may have for most servers."""


class TokenFile(Section):
    """Where the token is."""

    filename: AbsolutePath
    """Holds the token and nothing else, but a line break at its end; read anew when it changes."""


class Auth(Section):
    """Who this client is; the key is that of the Collector's authenticator."""

    bearertokenauth: TokenFile
    """``authorization: Bearer TOKEN`` with every request."""


class BearerToken:
    """The token in a file, as it is now."""

    def __init__(self, config: TokenFile, where: str) -> None:
        """Read the file; ``where`` is what the configuration calls it, for messages.

        Raises:
            StartError: It cannot be read, or what it holds is no token.
        """
        self._where = f"{where}: {config.filename}"
        self._path = config.filename
        self._watch = Watch([self._path])
        self._token = _read(self._path, self._where)

    def header(self) -> tuple[str, str]:
        """Name and value of the header."""
        return "authorization", f"Bearer {self._token}"

    def renew(self) -> bool:
        """Read the file if it changed; whether there is another token now. A file that is wrong changes nothing."""
        if not self._watch.changed():
            return False
        try:
            token, self._token = self._token, _read(self._path, self._where)
        except StartError as error:
            _log.warning("%s; the token from before is still used", error)
            return False
        return token != self._token


def _read(path: Path, where: str) -> str:
    """The token; no message says what is in the file."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise StartError(f"{where} cannot be read: {error.strerror}") from None
    token = content.strip().decode("ascii", errors="replace")
    if not token:
        raise StartError(f"{where} is empty; write the token into it")
    if len(content) > _MAX_BYTES or not token.isascii() or not token.isprintable() or " " in token:
        raise StartError(f"{where} holds no token: a single word of printable ASCII, without Bearer before it")
    return token
