"""The pipeline: admits batches, queues them per signal, joins them and hands them to the exporter."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NamedTuple, Self

from receiver.errors import QueueFull, TooLarge
from receiver.pipeline.delivery import Delivery
from receiver.pipeline.hold import HELD
from receiver.pipeline.join import Joiner
from receiver.pipeline.queue import MemoryQueue
from translators.batch import Signal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from receiver.net.backoff import Backoff
    from receiver.pipeline.config import QueueConfig
    from receiver.telemetry import Telemetry
    from receiver.types import Exporter
    from translators.batch import Batch

_log = logging.getLogger(__name__)


class _Lane(NamedTuple):
    """What one signal has to itself."""

    queue: MemoryQueue
    joiner: Joiner


class Pipeline:
    """An async context manager that sends what is put into it. The exporter belongs to the caller.

    Signals have queues of their own: a Collector without a pipeline for one must not stop the others.
    """

    def __init__(
        self,
        config: QueueConfig,
        exporter: Exporter,
        telemetry: Telemetry,
        *,
        dead_letter: Exporter | None = None,
        held: Backoff = HELD,
    ) -> None:
        """Queue as ``config`` says, send to ``exporter``, count in ``telemetry``.

        What can never be delivered goes to ``dead_letter``; what is held is tried again after ``held``.
        """
        self._telemetry = telemetry
        self._config = config
        self._delivery = Delivery(exporter, telemetry, config.batch.max_size, dead_letter=dead_letter, held=held)
        self._lanes = {signal: self._lane(signal) for signal in Signal}
        self._consumers: list[asyncio.Task[None]] = []

    def _lane(self, signal: Signal) -> _Lane:
        capacity = self._config.queue_size

        def on_level(held_bytes: int) -> None:
            self._telemetry.queue(signal, held_bytes, capacity)

        on_level(0)
        queue = MemoryQueue(capacity, on_level)
        return _Lane(queue, Joiner(signal, queue, self._config.batch))

    async def __aenter__(self) -> Self:
        """Start to send."""
        self._consumers = [
            asyncio.create_task(self._consume(lane), name=f"pipeline {signal}")
            for signal, lane in self._lanes.items()
            for _ in range(self._config.num_consumers)
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop; what :meth:`drain` did not send is dropped and counted."""
        await self.drain(0)

    async def put(self, batches: Sequence[Batch], *, wait: bool) -> asyncio.Future[None]:
        """Queue batches, atomically per signal; the result is done when all are delivered or dropped and counted.

        With ``wait`` this waits for room, in turn with others. Without, all signals are queued or none.

        Raises:
            QueueFull: No room now (without ``wait``), or the pipeline is closing.
            TooLarge: More than the source may ever have in the queue of one signal.
        """
        per_signal: dict[Signal, list[Batch]] = {}
        for batch in batches:
            per_signal.setdefault(batch.signal, []).append(batch)
        try:
            for signal, own in per_signal.items():
                self._lanes[signal].queue.check(own, wait=wait)
            delivered = [await self._lanes[signal].queue.put(own, wait=wait) for signal, own in per_signal.items()]
        except (QueueFull, TooLarge):
            for batch in batches:
                self._telemetry.enqueue_failed(batch.signal, batch.items)
            raise
        return delivered[0] if len(delivered) == 1 else _together(delivered)

    async def drain(self, deadline_s: float) -> None:
        """Refuse what comes, send what waits at once, and give up after ``deadline_s`` seconds.

        What is left then is dropped and counted, with one line in the log.
        """
        for lane in self._lanes.values():
            lane.queue.close()
        if self._consumers:
            await asyncio.wait(self._consumers, timeout=deadline_s)
            for consumer in self._consumers:
                consumer.cancel()
            await asyncio.gather(*self._consumers, return_exceptions=True)
            self._consumers.clear()
        lost = {signal: self._abandon(signal) for signal in Signal}
        if any(lost.values()):
            listed = ", ".join(f"{items} items of {signal}" for signal, items in lost.items() if items)
            _log.warning("Shut down before everything was sent; dropped %s", listed)

    async def _consume(self, lane: _Lane) -> None:
        while (joined := await lane.joiner.take()) is not None:
            await self._delivery.deliver(joined.batch)
            lane.queue.acknowledge(joined.entries)

    def _abandon(self, signal: Signal) -> int:
        left = self._lanes[signal].queue.abandon()
        items = sum(entry.batch.items for entry in left) + self._delivery.unsent.pop(signal, 0)
        if items:
            self._telemetry.dropped(signal, items, "shutdown")
        return items


def _together(futures: Sequence[asyncio.Future[None]]) -> asyncio.Future[None]:
    """One future for several, which may be ignored: done with the last of them, cancelled with the first that is."""
    together: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    left = len(futures)

    def on_done(one: asyncio.Future[None]) -> None:
        nonlocal left
        left -= 1
        if together.done():
            return
        if one.cancelled():
            together.cancel()
        elif not left:
            together.set_result(None)

    for one in futures:
        one.add_done_callback(on_done)
    if not futures:
        together.set_result(None)
    return together
