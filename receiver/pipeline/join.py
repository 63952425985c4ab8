"""Joins what waits in a queue into requests of a good size.

Requests of logs, traces and metrics have exactly one repeated field, so their concatenation is the request that holds
the items of all. Profiles also have a dictionary that is addressed by position: they are never joined.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from typing import TYPE_CHECKING, NamedTuple

from translators.batch import Batch, Signal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from receiver.pipeline.config import BatchConfig
    from receiver.pipeline.queue import Entry, Queue

_SPREAD = 0.25
"""A wait is up to this share longer than ``flush_timeout``, so that many instances do not flush in step."""


class Joined(NamedTuple):
    """One request and the entries of the queue that it is made of."""

    batch: Batch
    entries: Sequence[Entry]


class Joiner:
    """Takes from ``queue`` when a request is full, or its oldest entry has waited long enough."""

    def __init__(self, signal: Signal, queue: Queue, config: BatchConfig) -> None:
        """Join batches of ``signal`` up to ``config.max_size``."""
        self._signal = signal
        self._queue = queue
        self._max_bytes = 1 if signal is Signal.PROFILES else config.max_size
        self._flush_timeout_s = config.flush_timeout.total_seconds()
        self._turn = asyncio.Lock()

    async def take(self) -> Joined | None:
        """Wait for the next request; None when the queue is closed and empty. Callers are served in turn."""
        async with self._turn:
            await self._queue.reached(1)
            if self._queue.pending_bytes:
                await self._fill()
            entries = await self._queue.take(self._max_bytes)
        return Joined(join([entry.batch for entry in entries]), entries) if entries else None

    async def _fill(self) -> None:
        wait_s = self._flush_timeout_s * random.uniform(1, 1 + _SPREAD)  # noqa: S311 - spreads load, hides nothing
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(self._queue.oldest_arrival_s + wait_s):
                await self._queue.reached(self._max_bytes)


def join(batches: Sequence[Batch]) -> Batch:
    """Concatenate one or more batches of one signal."""
    if len(batches) == 1:
        return batches[0]
    return Batch(
        batches[0].signal,
        sum(batch.items for batch in batches),
        b"".join(batch.data for batch in batches),
        tuple(itertools.chain.from_iterable(batch.parts for batch in batches)),
    )
