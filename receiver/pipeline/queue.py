"""The queue of one signal: enter, store, take, acknowledge. In memory here, on disk in :mod:`receiver.pipeline.disk`."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from receiver.pipeline.room import Room
    from translators.batch import Batch


class Entry(NamedTuple):
    """A batch in the queue."""

    batch: Batch
    source: str
    arrived_s: float
    """Time of the event loop."""
    delivered: asyncio.Future[None] | None = None
    """Of the put that brought it; several entries may share one. None where delivery is told to nobody."""
    id: int = 0
    """Of its row, on disk."""


class Stored(NamedTuple):
    """What became of a put that has its room."""

    queued: asyncio.Future[None] | None
    """Done when the queue has it, or fails with QueueFull; None when it has it already. Not to be cancelled."""
    delivered: asyncio.Future[None]
    """Done when the last of its batches is acknowledged, or is where no crash can take it; may be ignored."""


class Queue(Protocol):
    """First in, first out. Bounded by its room, what was taken and not acknowledged included."""

    room: Room
    is_durable: bool
    """Whether what it has survives this process."""

    @property
    def pending_bytes(self) -> int:
        """Bytes that nobody has taken yet."""
        ...

    @property
    def oldest_arrival_s(self) -> float:
        """When the next entry to take arrived, in time of the event loop; the queue must not be empty."""
        ...

    def store(self, batches: Sequence[Batch], *, wait: bool) -> Stored:
        """Queue all of one or more batches or none; their bytes must have entered the room."""
        ...

    async def reached(self, size_bytes: int) -> None:
        """Wait until so many bytes are pending or the queue is closed. One caller at a time."""
        ...

    async def take(self, max_bytes: int) -> list[Entry]:
        """Take the oldest entries, as many as fit ``max_bytes`` but at least one; empty when there is none."""
        ...

    def acknowledge(self, entries: Sequence[Entry]) -> None:
        """Forget entries that were delivered or dropped for good, and let in who waits."""
        ...

    def close(self) -> None:
        """Let nothing more in; who waits for room is refused, who waits for entries is woken."""
        ...

    def abandon(self) -> int:
        """Let go of everything; returns the items that are lost, without those that were taken."""
        ...


class Arrivals:
    """Wakes the one who waits for a number of bytes."""

    def __init__(self, room: Room) -> None:
        """Also wake it when ``room`` is closed."""
        self._room = room
        self._pending_bytes = 0
        self._threshold: tuple[int, asyncio.Future[None]] | None = None

    @property
    def pending_bytes(self) -> int:
        """Bytes that have arrived and were not taken."""
        return self._pending_bytes

    def add(self, size_bytes: int) -> None:
        """Count what arrived, or with a minus what was taken."""
        self._pending_bytes += size_bytes
        self.wake()

    async def reached(self, size_bytes: int) -> None:
        """Wait until so many bytes are pending or the room is closed. One caller at a time."""
        if self._pending_bytes >= size_bytes or self._room.closed:
            return
        self._threshold = (size_bytes, asyncio.get_running_loop().create_future())
        try:
            await self._threshold[1]
        finally:
            self._threshold = None

    def wake(self) -> None:
        """Look whether the wait is over."""
        if self._threshold is None:
            return
        size_bytes, reached = self._threshold
        if (self._pending_bytes >= size_bytes or self._room.closed) and not reached.done():
            reached.set_result(None)


class MemoryQueue:
    """A queue that ends with its process."""

    is_durable = False

    def __init__(self, room: Room) -> None:
        """Hold what has entered ``room``."""
        self.room = room
        self._entries: deque[Entry] = deque()
        self._arrivals = Arrivals(room)
        self._unfinished: dict[asyncio.Future[None], int] = {}

    @property
    def pending_bytes(self) -> int:
        """Bytes that nobody has taken yet."""
        return self._arrivals.pending_bytes

    @property
    def oldest_arrival_s(self) -> float:
        """When the next entry to take arrived, in time of the event loop; the queue must not be empty."""
        return self._entries[0].arrived_s

    def store(self, batches: Sequence[Batch], *, wait: bool) -> Stored:  # noqa: ARG002 - memory is there at once
        """Queue one or more batches."""
        loop = asyncio.get_running_loop()
        delivered: asyncio.Future[None] = loop.create_future()
        source, now_s = source_of(batches), loop.time()
        self._entries.extend(Entry(batch, source, now_s, delivered) for batch in batches)
        self._unfinished[delivered] = len(batches)
        self._arrivals.add(size_of(batches))
        return Stored(None, delivered)

    async def reached(self, size_bytes: int) -> None:
        """Wait until so many bytes are pending or the queue is closed. One caller at a time."""
        await self._arrivals.reached(size_bytes)

    async def take(self, max_bytes: int) -> list[Entry]:
        """Take the oldest entries, as many as fit ``max_bytes`` but at least one; empty when there is none."""
        taken = take(self._entries, max_bytes)
        self._arrivals.add(-size_of([entry.batch for entry in taken]))
        return taken

    def acknowledge(self, entries: Sequence[Entry]) -> None:
        """Forget entries that were delivered or dropped for good, and let in who waits."""
        for entry in entries:
            assert entry.delivered is not None
            self._unfinished[entry.delivered] -= 1
            if not self._unfinished[entry.delivered]:
                del self._unfinished[entry.delivered]
                if not entry.delivered.done():  # its owner may have cancelled it
                    entry.delivered.set_result(None)
        self.room.leave(sizes_of(entries))

    def close(self) -> None:
        """Let nothing more in; who waits for room is refused, who waits for entries is woken."""
        self.room.close()
        self._arrivals.wake()

    def abandon(self) -> int:
        """Let go of everything, and cancel the futures of what was never acknowledged."""
        items = sum(entry.batch.items for entry in self._entries)
        self._entries.clear()
        self._arrivals.add(-self.pending_bytes)
        for delivered in self._unfinished:
            delivered.cancel()
        self._unfinished.clear()
        self.room.clear()
        return items


def take(entries: deque[Entry], max_bytes: int) -> list[Entry]:
    """Take from the left as many as fit ``max_bytes``, but at least one."""
    taken: list[Entry] = []
    size = 0
    while entries:
        size += len(entries[0].batch.data)
        if taken and size > max_bytes:
            break
        taken.append(entries.popleft())
    return taken


def source_of(batches: Sequence[Batch]) -> str:
    """The source of a put; an intake puts only what its own source emitted."""
    return batches[0].parts[0].source if batches[0].parts else ""


def size_of(batches: Sequence[Batch]) -> int:
    """Bytes of all of them."""
    return sum(len(batch.data) for batch in batches)


def sizes_of(entries: Sequence[Entry]) -> dict[str, int]:
    """Bytes by source."""
    sizes: dict[str, int] = {}
    for entry in entries:
        sizes[entry.source] = sizes.get(entry.source, 0) + len(entry.batch.data)
    return sizes
