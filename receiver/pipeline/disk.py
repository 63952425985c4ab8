"""The queue of one signal on disk. Memory holds only what is next."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import TYPE_CHECKING

import orjson

from receiver.pipeline.queue import Arrivals, Entry, Stored, size_of, sizes_of, source_of, take
from receiver.storage import Row
from translators.batch import Batch, Part

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from receiver.pipeline.room import Room
    from receiver.storage import Numbered, Storage
    from translators.batch import Signal

_log = logging.getLogger(__name__)

WINDOW_BYTES = 8 << 20
"""What is in memory of what nobody has taken yet; the rest is read when it is needed."""


class DiskQueue:
    """A queue that survives its process; what an earlier run left in it comes first.

    New entries are kept in memory too while nothing older is on disk alone, so that a queue that is emptied as fast
    as it is filled is written, but never read.
    """

    is_durable = True

    def __init__(self, signal: Signal, room: Room, storage: Storage, on_damaged: Callable[[int], None]) -> None:
        """Hold what has entered ``room``; ``on_damaged`` is told of items that could not be read back."""
        self.room = room
        self._signal = signal
        self._storage = storage
        self._on_damaged = on_damaged
        self._arrivals = Arrivals(room)
        self._window: deque[Entry] = deque()
        self._window_bytes = 0
        self._read_id = 0
        self._stored_id = storage.backlog_last_id
        for backlog in storage.backlog:
            if backlog.signal == signal:
                room.hold(backlog.source, backlog.size_bytes)
                self._arrivals.add(backlog.size_bytes)

    @property
    def pending_bytes(self) -> int:
        """Bytes that nobody has taken yet."""
        return self._arrivals.pending_bytes

    @property
    def oldest_arrival_s(self) -> float:
        """When the next entry to take arrived, in time of the event loop; long ago where it is on disk alone."""
        return self._window[0].arrived_s if self._window else 0.0

    def store(self, batches: Sequence[Batch], *, wait: bool) -> Stored:
        """Store one or more batches in one commit; with ``wait`` it waits until the disk has room."""
        now_ns, source = time.time_ns(), source_of(batches)
        rows = [_row(self._signal, batch, source, now_ns) for batch in batches]
        queued: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def on_stored(first_id: asyncio.Future[int]) -> None:
            if error := first_id.exception():
                self.room.leave({source: size_of(batches)})
                queued.set_exception(error)
                queued.exception()  # who put it may be gone
            else:
                self._stored(batches, source, first_id.result())
                queued.set_result(None)

        self._storage.append(rows, wait=wait).add_done_callback(on_stored)
        return Stored(queued, queued)

    async def reached(self, size_bytes: int) -> None:
        """Wait until so many bytes are pending or the queue is closed. One caller at a time."""
        await self._arrivals.reached(size_bytes)

    async def take(self, max_bytes: int) -> list[Entry]:
        """Take the oldest entries, as many as fit ``max_bytes`` but at least one; empty when there is none."""
        if self._window_bytes < min(max_bytes, self.pending_bytes):
            await self._read()
        taken = take(self._window, max_bytes)
        size = size_of([entry.batch for entry in taken])
        self._window_bytes -= size
        self._arrivals.add(-size)
        return taken

    def acknowledge(self, entries: Sequence[Entry]) -> None:
        """Delete entries that were delivered or dropped for good; who waits is let in when they are gone."""
        newest: dict[str, int] = {}
        for entry in entries:
            event_ns = max((part.newest_event_ns for part in entry.batch.parts), default=0)
            newest[entry.source] = max(newest.get(entry.source, 0), min(event_ns, time.time_ns()))
        self._delete([entry.id for entry in entries], newest, sizes_of(entries))

    def close(self) -> None:
        """Let nothing more in; who waits for room is refused, who waits for entries is woken."""
        self.room.close()
        self._arrivals.wake()

    def abandon(self) -> int:
        """Let go of what is in memory; nothing is lost."""
        self._window.clear()
        return 0

    def _stored(self, batches: Sequence[Batch], source: str, first_id: int) -> None:
        size = size_of(batches)
        is_next = self._window_bytes == self.pending_bytes and self._window_bytes + size <= WINDOW_BYTES
        self._stored_id = first_id + len(batches) - 1
        if is_next:
            now_s = asyncio.get_running_loop().time()
            self._window.extend(
                Entry(batch, source, now_s, id=first_id + position) for position, batch in enumerate(batches)
            )
            self._window_bytes += size
            self._read_id = self._stored_id
        self._arrivals.add(size)

    async def _read(self) -> None:
        """Fill the window; one caller at a time."""
        room_bytes = max(1, WINDOW_BYTES - self._window_bytes)
        rows = await self._storage.load(self._signal, self._read_id, self._stored_id, room_bytes)
        now_s, now_ns = asyncio.get_running_loop().time(), time.time_ns()
        damaged: list[Numbered] = []
        for numbered in rows:
            self._read_id = numbered.id
            if numbered.is_intact:
                # A wall clock that was set back must not make anything wait.
                age_s = max(0, now_ns - numbered.row.arrived_ns) / 1e9
                self._window.append(_entry(self._signal, numbered, now_s - age_s))
                self._window_bytes += len(numbered.row.data)
            else:
                damaged.append(numbered)
        if damaged:
            self._drop(damaged)

    def _drop(self, damaged: Sequence[Numbered]) -> None:
        items = sum(numbered.row.items for numbered in damaged)
        _log.error(
            "storage: %d items of %s lost: the disk gave back other bytes than were written", items, self._signal
        )
        self._on_damaged(items)
        sizes: dict[str, int] = {}
        for numbered in damaged:
            sizes[numbered.row.source] = sizes.get(numbered.row.source, 0) + len(numbered.row.data)
        self._arrivals.add(-sum(sizes.values()))
        self._delete([numbered.id for numbered in damaged], {}, sizes)

    def _delete(self, ids: Sequence[int], newest_event_ns: dict[str, int], sizes: dict[str, int]) -> None:
        def on_deleted(done: asyncio.Future[None]) -> None:
            if not done.cancelled():
                self.room.leave(sizes)

        self._storage.delete(ids, sum(sizes.values()), newest_event_ns).add_done_callback(on_deleted)


def _row(signal: Signal, batch: Batch, source: str, now_ns: int) -> Row:
    # No event is newer than its arrival, whatever its own clock says.
    newest_event_ns = min(max((part.newest_event_ns for part in batch.parts), default=0), now_ns)
    parts = orjson.dumps([tuple(part) for part in batch.parts])
    return Row(signal.value, source, batch.items, newest_event_ns, now_ns, parts, batch.data)


def _entry(signal: Signal, numbered: Numbered, arrived_s: float) -> Entry:
    row = numbered.row
    parts = tuple(Part(*part) for part in orjson.loads(row.parts))
    return Entry(Batch(signal, row.items, row.data, parts), row.source, arrived_s, id=numbered.id)
