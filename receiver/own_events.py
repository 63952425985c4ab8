"""What otelbee records of a source beside the source's records: the same names, attributes and times from every source."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Final

GAP: Final = "otelbee.source.gap"
LOSS: Final = "otelbee.source.loss"
PEER_PANIC: Final = "otelbee.source.peer_panic"
"""A program that pushes to us crashed, and says so."""
LOSS_REASON: Final = "otelbee.loss.reason"
LOSS_RECORDS: Final = "otelbee.loss.records"
"""Attributes of a :data:`LOSS`: why, in one of a few words, and how many."""


def gap(since: str, until: str, reason: str) -> dict[str, str]:
    """Return the attributes of a :data:`GAP` between two times as :func:`rfc3339` writes them."""
    return {"otelbee.gap.from": since, "otelbee.gap.to": until, "otelbee.gap.reason": reason}


def rfc3339(time_ns: int | None = None) -> str:
    """Write a Unix time in nanoseconds, or the present, in RFC 3339, UTC, to the microsecond."""
    seconds = (time.time_ns() if time_ns is None else time_ns) / 1e9
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
