"""The pipeline: admits batches, queues them per signal, joins them and hands them to the exporter."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, NamedTuple, Self

from receiver.errors import QueueFull, TooLarge
from receiver.pipeline.delivery import Delivery
from receiver.pipeline.disk import DiskQueue
from receiver.pipeline.hold import HELD
from receiver.pipeline.join import Joiner
from receiver.pipeline.queue import MemoryQueue, Queue, size_of, source_of
from receiver.pipeline.room import Room
from translators.batch import Signal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from receiver.net.backoff import Backoff
    from receiver.pipeline.config import QueueConfig
    from receiver.pipeline.queue import Entry
    from receiver.storage import Storage
    from receiver.telemetry import Telemetry
    from receiver.types import Exporter
    from translators.batch import Batch

_log = logging.getLogger(__name__)

_BEHIND_BYTES = 1 << 20
"""Sources that have read more than this ahead are in a burst: at 100,000 events a second, after 25 ms."""
_PUT_OFF_SHARE = 0.4
"""Of a queue: where more than this waits it is sent, whatever is to be read. A source may have half."""
_PUT_OFF_S = 2.0
"""From the beginning of a burst: where reading stays behind for longer, sending is what frees room for it."""
_LOOK_S = 0.02
"""Between two looks, in a burst only."""


class _Lane(NamedTuple):
    """What one signal has to itself."""

    queue: Queue
    joiner: Joiner
    under_way: list[Sequence[Entry]]
    """Taken and not acknowledged yet, oldest first."""

    def age_s(self) -> float:
        """Seconds since the oldest entry arrived; 0 where there is none."""
        arrivals = [entries[0].arrived_s for entries in self.under_way]
        if self.queue.pending_bytes and (oldest_s := self.queue.oldest_arrival_s):
            arrivals.append(oldest_s)
        return time.monotonic() - min(arrivals) if arrivals else 0.0  # the clock of the event loop


class Pipeline:
    """An async context manager that sends what is put into it. The exporter belongs to the caller.

    Signals have queues of their own: a Collector without a pipeline for one must not stop the others.
    """

    def __init__(
        self,
        config: QueueConfig,
        exporter: Exporter,
        telemetry: Telemetry,
        storage: Storage | None = None,
        *,
        dead_letter: Exporter | None = None,
        held: Backoff = HELD,
    ) -> None:
        """Queue as ``config`` says, in ``storage`` or in memory, send to ``exporter``, count in ``telemetry``.

        What can never be delivered goes to ``dead_letter``; what is held is tried again after ``held``.
        """
        self._storage = storage
        self._telemetry = telemetry
        self._config = config
        self._delivery = Delivery(exporter, telemetry, config.batch.max_size, dead_letter=dead_letter, held=held)
        self._lanes = {signal: self._lane(signal) for signal in Signal}
        self._consumers: list[asyncio.Task[None]] = []
        self._behind_since_s: float | None = None

    def _lane(self, signal: Signal) -> _Lane:
        capacity = self._config.queue_size

        def on_level(held_bytes: int, full: bool) -> None:  # noqa: FBT001 - what the room tells
            self._telemetry.queue(signal, held_bytes, capacity, full=full)

        def on_damaged(items: int) -> None:
            self._telemetry.dropped(signal, items, "storage_damaged")

        on_level(0, False)  # noqa: FBT003 - what the room tells
        room = Room(capacity, on_level)
        storage = self._storage
        queue = MemoryQueue(room) if storage is None else DiskQueue(signal, room, storage, on_damaged)
        lane = _Lane(queue, Joiner(signal, queue, self._config.batch), [])
        self._telemetry.queue_age(signal, lane.age_s)
        return lane

    async def __aenter__(self) -> Self:
        """Start to send, first what an earlier run left."""
        if self._storage is not None and (left := sum(each.items for each in self._storage.backlog)):
            _log.info("%d items in storage are sent first", left)
        self._consumers = [
            asyncio.create_task(self._consume(lane), name=f"pipeline {signal}")
            for signal, lane in self._lanes.items()
            for _ in range(self._config.num_consumers)
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop; what :meth:`drain` did not send stays in storage, or is dropped and counted."""
        await self.drain(0)

    async def put(self, batches: Sequence[Batch], *, wait: bool) -> asyncio.Future[None]:
        """Queue batches, atomically per signal, and return when the queue has them: on disk, with storage.

        With ``wait`` this waits for room, in turn with others. Without, all signals have room or none is queued.

        Returns:
            A future that is done when all are delivered or dropped and counted; with storage it is done already.

        Raises:
            QueueFull: No room now (without ``wait``), or the pipeline is closing.
            TooLarge: More than the source may ever have in the queue of one signal.
        """
        per_signal: dict[Queue, list[Batch]] = {}
        for batch in sorted(batches, key=_signal):  # in one order, so that no two puts wait for each other's room
            per_signal.setdefault(self._lanes[batch.signal].queue, []).append(batch)
        try:
            await _enter(per_signal, wait=wait)
            stored = [queue.store(own, wait=wait) for queue, own in per_signal.items()]  # in one commit
            for each in stored:
                if each.queued is not None:
                    await asyncio.shield(each.queued)
        except (QueueFull, TooLarge):
            for batch in batches:
                self._telemetry.enqueue_failed(batch.signal, batch.items)
            raise
        return stored[0].delivered if len(stored) == 1 else _together([each.delivered for each in stored])

    async def drain(self, deadline_s: float) -> None:
        """Refuse what comes, send what waits at once, and give up after ``deadline_s`` seconds.

        What is left then stays in storage, or is dropped and counted, with one line in the log.
        """
        for lane in self._lanes.values():
            lane.queue.close()
        self._delivery.stop_waiting()
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
            lane.under_way.append(joined.entries)
            try:
                await self._let_reading_go_first(lane)
                await self._delivery.deliver(joined.batch)
            finally:
                lane.under_way.remove(joined.entries)
            lane.queue.acknowledge(joined.entries)

    async def _let_reading_go_first(self, lane: _Lane) -> None:
        """Put off sending while a burst is read, at most until the queue has filled to a share.

        What an agent has to say is lost where it is not read in time; what is queued is not lost by being sent later.
        On a machine with few cores sending costs twice: the Collector that it keeps busy runs there, too.
        """
        limit_bytes = _PUT_OFF_SHARE * self._config.queue_size
        while self._is_burst():
            if lane.queue.pending_bytes >= limit_bytes:
                return
            await asyncio.sleep(_LOOK_S)

    def _is_burst(self) -> bool:
        """Whether sources have lately begun to read more than can be translated at once."""
        if self._telemetry.read_ahead_bytes() <= _BEHIND_BYTES:
            self._behind_since_s = None
            return False
        now_s = time.monotonic()
        if self._behind_since_s is None:
            self._behind_since_s = now_s
        return now_s - self._behind_since_s < _PUT_OFF_S

    def _abandon(self, signal: Signal) -> int:
        queue = self._lanes[signal].queue
        items = queue.abandon()
        if not queue.is_durable:
            items += self._delivery.unsent.pop(signal, 0)
        if items:
            self._telemetry.dropped(signal, items, "shutdown")
        return items


async def _enter(per_signal: dict[Queue, list[Batch]], *, wait: bool) -> None:
    """Have room in every queue, or in none."""
    asked = [(queue.room, source_of(own), size_of(own)) for queue, own in per_signal.items()]
    for room, source, size in asked:
        room.check(source, size, wait=wait)
    entered: list[tuple[Room, str, int]] = []
    try:
        for room, source, size in asked:
            await room.enter(source, size, wait=wait)
            entered.append((room, source, size))
    except BaseException:
        for room, source, size in entered:
            room.leave({source: size})
        raise


def _signal(batch: Batch) -> str:
    return batch.signal


def _together(futures: Sequence[asyncio.Future[None]]) -> asyncio.Future[None]:
    """One future for several, which may be ignored: done with the last of them, cancelled with the first that is."""
    together: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    pending = [one for one in futures if not one.done()]
    left = len(pending)

    def on_done(one: asyncio.Future[None]) -> None:
        nonlocal left
        left -= 1
        if together.done():
            return
        if one.cancelled():
            together.cancel()
        elif not left:
            together.set_result(None)

    for one in pending:
        one.add_done_callback(on_done)
    if not pending:
        together.set_result(None)
    return together
