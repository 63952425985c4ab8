"""What an event says beside its processes, ready to be joined into a record."""

from __future__ import annotations

from typing import NamedTuple


class Detail(NamedTuple):
    """The part of a record that does not depend on who did it, and therefore repeats."""

    attributes: bytes
    severity: bytes
    """``LogRecord.severity_number``, encoded."""
    word: bytes
    """First word of the body."""
    tail: bytes
    """Rest of the body, with its leading space; may be empty."""
    fingerprint: bytes
    """Stands for ``attributes`` in the record's id."""
    process: bytes = b""
    """Process message, where it did not stand at the beginning of the event."""
    parent: bytes = b""
    unknown_fields: int = 0
    mapped: tuple[str, bytes, bytes] | None = None
    """Loader: the path that was mapped; its build id's attribute when that is the executable itself, and otherwise."""
