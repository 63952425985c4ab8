"""An exporter that wraps an exporter: measures how long requests take, and how late events are when they arrive."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from receiver.telemetry import Telemetry
    from receiver.types import Exporter
    from translators.batch import Batch


class Measured:
    """Tells ``telemetry`` of every attempt of ``exporter``, and of the events in those that succeed."""

    def __init__(self, exporter: Exporter, telemetry: Telemetry, *, clock_ns: Callable[[], int] = time.time_ns) -> None:
        """Measure ``exporter``; ``clock_ns`` gives Unix time in nanoseconds."""
        self._exporter = exporter
        self._telemetry = telemetry
        self._clock_ns = clock_ns

    async def export(self, batch: Batch) -> None:
        """Export; an attempt that is given up (a timeout) counts for as long as it lasted."""
        began_s = time.perf_counter()
        try:
            await self._exporter.export(batch)
        finally:
            self._telemetry.export_lasted(batch.signal, time.perf_counter() - began_s)
        now_ns = self._clock_ns()
        for part in batch.parts:
            if part.newest_event_ns:
                self._telemetry.delivered(part.source, max(0, now_ns - part.newest_event_ns) / 1e9)

    async def close(self) -> None:
        """Close what it wraps."""
        await self._exporter.close()
