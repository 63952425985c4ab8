"""The one way in which strings from processes reach a record: through the redactor, when there is one."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from translators import wire

if TYPE_CHECKING:
    from collections.abc import Sequence

    from translators.redact import Redactor


class Redaction:
    """Applies a redactor, or nothing."""

    __slots__ = ("_arguments", "redactor")

    def __init__(self, redactor: Redactor | None) -> None:
        """Take the redactor; None leaves everything as it is."""
        self.redactor = redactor
        self._arguments = ("", "", "")

    def text(self, value: str) -> str:
        """Redact one string: a path, a hook's argument, a name that a process chose."""
        return value if self.redactor is None or not value else self.redactor.text(value)

    def arguments(self, value: str, path: str) -> str:
        """Redact Tetragon's flat argument string of the executable at ``path``."""
        if self.redactor is None or not value:
            return value
        # An event needs it several times in a row, and a match is counted once.
        if self._arguments[:2] != (value, path):
            self._arguments = (value, path, self.redactor.flat(value, path))
        return self._arguments[2]

    def argv(self, values: Sequence[str]) -> list[str]:
        """Redact an argument list."""
        return list(values) if self.redactor is None else self.redactor.argv(values)

    def variable(self, name: str, value: str) -> str:
        """Redact the value of an environment variable."""
        return value if self.redactor is None else self.redactor.environment(name, value)

    def data(self, value: bytes) -> bytes:
        """Redact bytes that a process wrote or read."""
        return value if self.redactor is None or not value else self.redactor.data(value)

    def take_count(self) -> int:
        """Return how many matches were replaced since the last call."""
        return 0 if self.redactor is None else sum(self.redactor.take_counts().values())


RAW = wire.Key("tetragon.event.raw")
RAW_LENGTH = wire.Key("tetragon.event.raw_length")
RAW_SHA256 = wire.Key("tetragon.event.raw_sha256")


def raw_attributes(data: bytes, *, withheld: bool) -> bytes:
    """Encode an event that could not be read: whole, or only its length and SHA-256 where it may hold secrets."""
    if not withheld:
        return RAW.blob(data) + RAW_LENGTH.integer(len(data))
    return RAW_LENGTH.integer(len(data)) + RAW_SHA256.text(hashlib.sha256(data).hexdigest())
