"""How a client says who it is: a bearer token from a file."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator

from receiver.errors import StartError
from receiver.fields import Section
from receiver.net.files import Watch

_log = logging.getLogger(__name__)

_MAX_BYTES: Final = 16 << 10
"""Of the file: what a header may have for most servers."""


def absolute(path: Path) -> Path:
    """Check that a path of the configuration does not depend on where otelbee was started."""
    if not path.is_absolute():
        raise ValueError(f"'{path}' is not an absolute path; begin it with /")
    return path


class TokenFile(Section):
    """Where the token is."""

    filename: Annotated[Path, AfterValidator(absolute)]
    """Holds the token and nothing else, but a line break at its end; read anew when it changes."""


class Auth(Section):
    """Who this client is; the key is that of the Collector's authenticator."""

    bearertokenauth: TokenFile
    """``authorization: Bearer TOKEN`` with every request."""


class BearerToken:
    """The token in a file, as it is now."""

    def __init__(self, config: TokenFile) -> None:
        """Read the file.

        Raises:
            StartError: It cannot be read, or what it holds is no token.
        """
        self._path = config.filename
        self._watch = Watch([self._path])
        self._token = _read(self._path)

    def header(self) -> tuple[str, str]:
        """Name and value of the header."""
        return "authorization", f"Bearer {self._token}"

    def renew(self) -> bool:
        """Read the file if it changed; whether there is another token now. A file that is wrong changes nothing."""
        if not self._watch.changed():
            return False
        try:
            token, self._token = self._token, _read(self._path)
        except StartError as error:
            _log.warning("%s; the token from before is still used", error)
            return False
        return token != self._token


def _read(path: Path) -> str:
    """The token; no message says what is in the file."""
    where = f"exporter::otlp_grpc::auth: {path}"
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
