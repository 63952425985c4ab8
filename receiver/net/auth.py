"""Who may send to a listener: bearer tokens or passwords from a file, with the names that they stand for.

The file has one ``name:secret`` a line; empty lines and lines that begin with ``#`` say nothing. A secret is written as
it is, or as ``sha256:`` and the hexadecimal digest of its bytes, so that the file does not hold it. Bearer tokens of one
name may be several, so that a new one can be given out before the old one ends.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import logging
import re
import stat
from pathlib import Path
from typing import Annotated, Final, NamedTuple, Self

from pydantic import AfterValidator, model_validator

from receiver.errors import StartError, Unauthenticated
from receiver.fields import Section
from receiver.net.files import Watch

_log = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@/-]{0,127}")
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_MAX_BYTES: Final = 1 << 20
"""Of the file: ten thousand senders."""


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("not an absolute path")
    return path


class Secrets(Section):
    """Where the secrets are."""

    filename: Annotated[Path, AfterValidator(_absolute)]
    """``name:secret`` lines; read anew when it changes. It may not be readable or writable by everybody."""


class Auth(Section):
    """How senders say who they are; the keys are those of the Collector's authenticators."""

    bearertokenauth: Secrets | None = None
    """``Authorization: Bearer SECRET``."""
    basicauth: Secrets | None = None
    """``Authorization: Basic`` with name and secret."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.bearertokenauth is None) == (self.basicauth is None):
            raise ValueError("name exactly one of bearertokenauth and basicauth, with its filename")
        return self


class _Known(NamedTuple):
    name: str
    digest: bytes
    """SHA-256 of the secret."""


class Authenticator:
    """Checks ``Authorization`` headers; what is compared takes the same time whatever is presented."""

    def __init__(self, config: Auth) -> None:
        """Read the file.

        Raises:
            StartError: It cannot be read, everybody may read or write it, or a line is wrong.
        """
        secrets = config.bearertokenauth or config.basicauth
        assert secrets is not None
        self.challenge = "Bearer" if config.bearertokenauth else 'Basic realm="otelbee", charset="UTF-8"'
        """For HTTP's ``WWW-Authenticate``."""
        self._bearer = config.bearertokenauth is not None
        self._path = secrets.filename
        self._watch = Watch([self._path])
        self._known = _read(self._path)

    def principal(self, authorization: str | None) -> str:
        """The name of who sent this header.

        Raises:
            Unauthenticated: Nobody is known by it.
        """
        self._reload()
        scheme, _, credentials = (authorization or "").partition(" ")
        wanted = "bearer" if self._bearer else "basic"
        if scheme.lower() != wanted:
            raise Unauthenticated(f"an Authorization header of the scheme {wanted.capitalize()} is required")
        name, secret = (None, credentials.strip().encode()) if self._bearer else _basic(credentials)
        digest = hashlib.sha256(secret).digest()
        found = ""
        for known in self._known:
            same = hmac.compare_digest(known.digest, digest)
            if same and name in {None, known.name}:
                found = known.name
        if not found:
            raise Unauthenticated(f"nobody is known by this {'token' if self._bearer else 'name and password'}")
        return found

    def _reload(self) -> None:
        if not self._watch.changed():
            return
        try:
            self._known = _read(self._path)
        except StartError as error:
            _log.warning("%s; who was known before still is", error)
        else:
            _log.info("%s was read anew: %d secrets", self._path, len(self._known))


def _basic(credentials: str) -> tuple[str, bytes]:
    try:
        name, _, password = base64.b64decode(credentials.strip(), validate=True).partition(b":")
        return name.decode(), password
    except (binascii.Error, ValueError):
        raise Unauthenticated("the Basic credentials are not base64 of name:password") from None


def _read(path: Path) -> tuple[_Known, ...]:
    try:
        mode = path.stat().st_mode
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise StartError(f"auth: {path} cannot be read: {error.strerror}") from error
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        raise StartError(
            f"auth: {path} may be read or written by everybody (mode {stat.S_IMODE(mode):04o}); run chmod o= {path}, or in "
            "Kubernetes give the secret's volume defaultMode: 0440"
        )
    if len(content) > _MAX_BYTES:
        raise StartError(f"auth: {path} is larger than {_MAX_BYTES} bytes; is it a file of name:secret lines?")
    known = tuple(
        _line(path, number, line)
        for number, line in enumerate(content.splitlines(), 1)
        if line.strip() and not line.lstrip().startswith(b"#")
    )
    if not known:
        raise StartError(f"auth: {path} knows nobody; write name:secret lines")
    names: dict[bytes, str] = {}
    for one in known:
        if names.setdefault(one.digest, one.name) != one.name:
            raise StartError(f"auth: {path} gives {names[one.digest]} and {one.name} the same secret")
    return known


def _line(path: Path, number: int, line: bytes) -> _Known:
    """Understand one line; no message says what is in it, because it may be a secret alone."""
    name, colon, secret = line.strip().decode(errors="replace").partition(":")
    secret = secret.strip()
    if not colon or not secret or not _NAME.fullmatch(name):
        raise StartError(
            f"auth: {path}:{number} is no name:secret; a name has letters, digits and _ . @ / - and begins with a letter "
            "or digit"
        )
    digest = _DIGEST.fullmatch(secret)
    return _Known(name, bytes.fromhex(digest[1]) if digest else hashlib.sha256(secret.encode()).digest())
