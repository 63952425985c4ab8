"""``otelbee init``: a first configuration, commented and valid, for what is found on this machine.

It looks as the doctor does and takes nothing. What is found is on; what is not, or would tell the same twice, stands there
in comments with the reason. Listeners are on only where there is nothing else to read, and then on localhost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from receiver.config import load_text
from receiver.errors import StartError
from receiver.init.node import Places, look
from receiver.init.text import text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from receiver.doctor import Finding

__all__ = ["First", "Places", "check", "first", "save"]


class First(NamedTuple):
    """A first configuration, and what was found and not found."""

    text: str
    findings: Sequence[Finding]


async def first(places: Places | None = None) -> First:
    """Look at this machine and write a configuration for it."""
    found = await look(places or Places())
    written = text(found.sources, found.exporter, found.rest)
    load_text(written)
    return First(written, found.findings)


def check(file: Path | None, *, force: bool) -> None:
    """Refuse to write over a file; raises StartError."""
    if file is not None and file.exists() and not force:
        raise StartError(f"{file} is there already; name another file, or write over it with --force")


def save(text: str, file: Path) -> None:
    """Write a configuration, and the folder for it where that is missing; raises StartError."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StartError(f"{file}: cannot be written: {error.strerror}") from error
