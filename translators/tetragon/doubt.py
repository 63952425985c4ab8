"""Event times that a wrong clock must have made: marked and counted, never changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from translators import wire

if TYPE_CHECKING:
    from translators.batch import Origin

TOLERANCE_NS = 300_000_000_000
"""Clocks are set while events are under way; what is further off than this is no such case."""

_ANOMALY = wire.Key("otelbee.time_anomaly")
FUTURE = _ANOMALY.text("future")
BEFORE_BOOT = _ANOMALY.text("before_boot")


def plausible_ns(origin: Origin, now_ns: int) -> tuple[int, int]:
    """The earliest and the latest time, Unix nanoseconds, that an event which is read now may have; 0 is none."""
    return max(1, origin.boot_ns - TOLERANCE_NS), now_ns + TOLERANCE_NS
