"""The queue of one signal: put, take, acknowledge. Bounded in bytes, what was taken and not acknowledged included."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from typing import TYPE_CHECKING, NamedTuple

from receiver.errors import QueueFull, TooLarge

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from translators.batch import Batch

_RETRY_AFTER_S = 1.0
"""What a refused sender is told to wait: about the time in which a flush makes room."""


class Entry(NamedTuple):
    """A batch in the queue."""

    batch: Batch
    delivered: asyncio.Future[None]
    """Of the put that brought it; several entries may share one."""
    source: str
    arrived_s: float
    """Time of the event loop."""


class _Waiter(NamedTuple):
    batches: Sequence[Batch]
    source: str
    size: int
    queued: asyncio.Future[asyncio.Future[None]]


class MemoryQueue:
    """First in, first out. Sources that wait for room are served in turn.

    Where several sources feed the queue, none may hold more than half of it, so that the one whose peer floods it
    cannot shut out the others. A source feeds the queue from its first put on, even if that is refused.
    """

    def __init__(self, capacity_bytes: int, on_level: Callable[[int], None]) -> None:
        """Hold up to ``capacity_bytes``; ``on_level`` is told the bytes held whenever they change."""
        self.capacity_bytes = capacity_bytes
        self._on_level = on_level
        self._entries: deque[Entry] = deque()
        self._pending_bytes = 0
        self._held_bytes = 0
        self._held_by: Counter[str] = Counter()
        self._sources: set[str] = set()
        self._unfinished: dict[asyncio.Future[None], int] = {}
        self._waiters: deque[_Waiter] = deque()
        self._threshold: tuple[int, asyncio.Future[None]] | None = None
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether nothing more is let in."""
        return self._closed

    @property
    def pending_bytes(self) -> int:
        """Bytes that nobody has taken yet."""
        return self._pending_bytes

    @property
    def oldest_arrival_s(self) -> float:
        """When the next entry to take arrived, in time of the event loop; the queue must not be empty."""
        return self._entries[0].arrived_s

    def check(self, batches: Sequence[Batch], *, wait: bool) -> None:
        """Raise what :meth:`put` of the same batches would raise now."""
        source, size = _source(batches), _size(batches)
        self._sources.add(source)
        if size > self._share():
            raise self._too_large(size)
        if self._closed or (not wait and not self._fits(source, size)):
            raise QueueFull(_RETRY_AFTER_S)

    async def put(self, batches: Sequence[Batch], *, wait: bool) -> asyncio.Future[None]:
        """Queue all of one or more batches or none; the result is done when the last of them is acknowledged.

        A put that is cancelled while it waits has queued nothing, or everything if its turn had just come.

        Raises:
            QueueFull: There is no room, or others wait for room already (only without ``wait``), or it is closed.
            TooLarge: There can never be room.
        """
        self.check(batches, wait=wait)
        source, size = _source(batches), _size(batches)
        if self._fits(source, size):
            return self._append(batches, source, size)
        waiter = _Waiter(batches, source, size, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            return await waiter.queued
        except asyncio.CancelledError:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
                self._admit()
            raise

    async def reached(self, size_bytes: int) -> None:
        """Wait until so many bytes are pending or the queue is closed. One caller at a time."""
        if self._pending_bytes >= size_bytes or self._closed:
            return
        self._threshold = (size_bytes, asyncio.get_running_loop().create_future())
        try:
            await self._threshold[1]
        finally:
            self._threshold = None

    def take(self, max_bytes: int) -> list[Entry]:
        """Take the oldest entries, as many as fit ``max_bytes`` but at least one; empty when there is none."""
        taken: list[Entry] = []
        size = 0
        while self._entries:
            entry_size = len(self._entries[0].batch.data)
            if taken and size + entry_size > max_bytes:
                break
            taken.append(self._entries.popleft())
            size += entry_size
        self._pending_bytes -= size
        return taken

    def acknowledge(self, entries: Sequence[Entry]) -> None:
        """Forget entries that were delivered or dropped for good, and let in who waits."""
        for entry in entries:
            size = len(entry.batch.data)
            self._held_bytes -= size
            self._held_by[entry.source] -= size
            self._unfinished[entry.delivered] -= 1
            if not self._unfinished[entry.delivered]:
                del self._unfinished[entry.delivered]
                if not entry.delivered.done():  # its owner may have cancelled it
                    entry.delivered.set_result(None)
        self._admit()
        self._on_level(self._held_bytes)

    def close(self) -> None:
        """Let nothing more in; who waits for room is refused, who waits for entries is woken."""
        self._closed = True
        for waiter in self._waiters:
            if not waiter.queued.done():
                waiter.queued.set_exception(QueueFull(_RETRY_AFTER_S))
        self._waiters.clear()
        self._wake()

    def abandon(self) -> list[Entry]:
        """Take everything that is left, and end the futures of what was never acknowledged."""
        left = list(self._entries)
        self._entries.clear()
        self._pending_bytes = self._held_bytes = 0
        for delivered in self._unfinished:
            delivered.cancel()
        self._unfinished.clear()
        self._on_level(0)
        return left

    def _share(self) -> int:
        return self.capacity_bytes if len(self._sources) <= 1 else self.capacity_bytes // 2

    def _too_large(self, size: int) -> TooLarge:
        return TooLarge(
            f"{size} bytes are more than a source may have in the queue ({self._share()}); "
            "send less at once or raise sending_queue.queue_size"
        )

    def _fits(self, source: str, size: int) -> bool:
        """Whether a put would succeed now. Who waits comes first, unless it is another whose own share stops it."""
        if self._held_bytes + size > self.capacity_bytes or self._over_share(source, size):
            return False
        return all(waiter.source != source and self._over_share(waiter.source, waiter.size) for waiter in self._waiters)

    def _over_share(self, source: str, size: int) -> bool:
        return self._held_by[source] + size > self._share()

    def _append(self, batches: Sequence[Batch], source: str, size: int) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        delivered: asyncio.Future[None] = loop.create_future()
        now_s = loop.time()
        self._entries.extend(Entry(batch, delivered, source, now_s) for batch in batches)
        self._unfinished[delivered] = len(batches)
        self._pending_bytes += size
        self._held_bytes += size
        self._held_by[source] += size
        self._on_level(self._held_bytes)
        self._wake()
        return delivered

    def _admit(self) -> None:
        """Let in, in turn, who waits and has room now; a source at its share does not hold up the others."""
        still: deque[_Waiter] = deque()
        at_share: set[str] = set()
        while self._waiters:
            waiter = self._waiters.popleft()
            if waiter.queued.done():  # cancelled
                continue
            if waiter.size > self._share():  # another source has begun to feed the queue
                waiter.queued.set_exception(self._too_large(waiter.size))
            elif waiter.source in at_share or self._over_share(waiter.source, waiter.size):
                at_share.add(waiter.source)
                still.append(waiter)
            elif self._held_bytes + waiter.size > self.capacity_bytes:
                still.append(waiter)
                break
            else:
                waiter.queued.set_result(self._append(waiter.batches, waiter.source, waiter.size))
        self._waiters = still + self._waiters

    def _wake(self) -> None:
        if self._threshold is None:
            return
        size_bytes, reached = self._threshold
        if (self._pending_bytes >= size_bytes or self._closed) and not reached.done():
            reached.set_result(None)


def _source(batches: Sequence[Batch]) -> str:
    """The source of a put; an intake puts only what its own source emitted."""
    return batches[0].parts[0].source if batches[0].parts else ""


def _size(batches: Sequence[Batch]) -> int:
    return sum(len(batch.data) for batch in batches)
