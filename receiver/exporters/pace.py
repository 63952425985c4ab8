"""An exporter that wraps an exporter: how many requests may be under way, by how the last ones ended."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from receiver.errors import Held, Retryable
from translators.batch import Batch, Signal

if TYPE_CHECKING:
    from receiver.types import Exporter


class Pace:
    """Begins with one request of a signal at a time, allows one more after each success, half after each failure.

    So that a Collector that has come back is not felled by everything that waited for it: its ``memory_limiter`` counts
    what it has already read. A request that waits for its turn has not begun, and no timeout runs for it.
    """

    def __init__(self, exporter: Exporter, most: int) -> None:
        """Let up to ``most`` requests of a signal through to ``exporter`` at the same time."""
        self._exporter = exporter
        self._lanes = {signal: _Lane(most) for signal in Signal}

    async def export(self, batch: Batch) -> None:
        """Wait for a turn and export. A refusal of the batch itself says nothing about how much is too much."""
        lane = self._lanes[batch.signal]
        await lane.enter()
        try:
            await self._exporter.export(batch)
        except (Retryable, Held):
            lane.limit = max(1, lane.limit // 2)
            raise
        else:
            lane.limit = min(lane.limit + 1, lane.most)
        finally:
            lane.leave()

    async def close(self) -> None:
        """Close what it wraps."""
        await self._exporter.close()


class _Lane:
    """The requests of one signal."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = 1
        self._under_way = 0
        self._ended = asyncio.Event()

    async def enter(self) -> None:
        while self._under_way >= self.limit:
            self._ended.clear()
            await self._ended.wait()
        self._under_way += 1

    def leave(self) -> None:
        self._under_way -= 1
        self._ended.set()
