"""Who may put how much into a queue: bounded in bytes, in turn, and no source more than half of it."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from typing import TYPE_CHECKING, NamedTuple

from receiver.errors import QueueFull, TooLarge

if TYPE_CHECKING:
    from collections.abc import Callable

RETRY_AFTER_S = 1.0
"""What a refused sender is told to wait: about the time in which a flush makes room."""


class _Waiter(NamedTuple):
    source: str
    size: int
    admitted: asyncio.Future[None]


class Room:
    """The bytes of one queue. Sources that wait for room are served in turn.

    Where several sources feed the queue, none may hold more than half of it, so that the one whose peer floods it
    cannot shut out the others. A source feeds the queue from its first put on, even if that is refused.
    """

    def __init__(self, capacity_bytes: int, on_level: Callable[[int, bool], None]) -> None:
        """Give out up to ``capacity_bytes``.

        ``on_level`` is told the bytes held, and whether somebody found no room since any were given back, whenever
        one of them changes.
        """
        self._capacity_bytes = capacity_bytes
        self._on_level = on_level
        self._held_bytes = 0
        self._held_by: Counter[str] = Counter()
        self._sources: set[str] = set()
        self._waiters: deque[_Waiter] = deque()
        self._full = False
        self.closed = False
        """Whether nothing more is let in."""

    def check(self, source: str, size: int, *, wait: bool) -> None:
        """Raise what :meth:`enter` would raise now."""
        self._sources.add(source)
        if size > self._share():
            raise self._too_large(size)
        if self._held_bytes + size > self._capacity_bytes:
            self._full = True
            self._on_level(self._held_bytes, self._full)
        if self.closed or (not wait and not self._fits(source, size)):
            raise QueueFull(RETRY_AFTER_S)

    async def enter(self, source: str, size: int, *, wait: bool) -> None:
        """Hold ``size`` bytes for ``source``. Whoever is cancelled while it waits holds nothing.

        Raises:
            QueueFull: There is no room, or others wait for room already (only without ``wait``), or it is closed.
            TooLarge: There can never be room.
        """
        self.check(source, size, wait=wait)
        if self._fits(source, size):
            self.hold(source, size)
            return
        waiter = _Waiter(source, size, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            await waiter.admitted
        except asyncio.CancelledError:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
                self._admit()
            elif not waiter.admitted.cancelled() and waiter.admitted.exception() is None:
                self.leave({source: size})  # its turn had just come
            raise

    def hold(self, source: str, size: int) -> None:
        """Hold bytes whether there is room or not: what an earlier run left."""
        self._sources.add(source)
        self._held_bytes += size
        self._held_by[source] += size
        self._on_level(self._held_bytes, self._full)

    def leave(self, sizes: dict[str, int]) -> None:
        """Give back bytes by source, and let in who waits."""
        for source, size in sizes.items():
            self._held_bytes -= size
            self._held_by[source] -= size
        self._full = False
        self._admit()
        self._on_level(self._held_bytes, self._full)

    def clear(self) -> None:
        """Forget what everybody holds."""
        self._held_bytes = 0
        self._held_by.clear()
        self._full = False
        self._on_level(0, self._full)

    def close(self) -> None:
        """Let nothing more in; who waits is refused."""
        self.closed = True
        for waiter in self._waiters:
            if not waiter.admitted.done():
                waiter.admitted.set_exception(QueueFull(RETRY_AFTER_S))
        self._waiters.clear()

    def _share(self) -> int:
        return self._capacity_bytes if len(self._sources) <= 1 else self._capacity_bytes // 2

    def _too_large(self, size: int) -> TooLarge:
        return TooLarge(
            f"{size} bytes are more than a source may have in the queue ({self._share()}); "
            "send less at once or raise sending_queue.queue_size"
        )

    def _fits(self, source: str, size: int) -> bool:
        """Whether there is room now. Who waits comes first, unless it is another whose own share stops it."""
        if self._held_bytes + size > self._capacity_bytes or self._over_share(source, size):
            return False
        return all(waiter.source != source and self._over_share(waiter.source, waiter.size) for waiter in self._waiters)

    def _over_share(self, source: str, size: int) -> bool:
        return self._held_by[source] + size > self._share()

    def _admit(self) -> None:
        """Let in, in turn, who waits and has room now; a source at its share does not hold up the others."""
        still: deque[_Waiter] = deque()
        at_share: set[str] = set()
        while self._waiters:
            waiter = self._waiters.popleft()
            if waiter.admitted.done():  # cancelled
                continue
            if waiter.size > self._share():  # another source has begun to feed the queue
                waiter.admitted.set_exception(self._too_large(waiter.size))
            elif waiter.source in at_share or self._over_share(waiter.source, waiter.size):
                at_share.add(waiter.source)
                still.append(waiter)
            elif self._held_bytes + waiter.size > self._capacity_bytes:
                self._full = True
                still.append(waiter)
                break
            else:
                self.hold(waiter.source, waiter.size)
                waiter.admitted.set_result(None)
        self._waiters = still + self._waiters
