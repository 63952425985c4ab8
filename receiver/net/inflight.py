"""The bytes of requests on their way in, bounded for all connections of a source together.

A request reserves its bytes before its body is read and gives them back when the queue has it, or refused it. No peer
may hold more than half. Who waits for room is served in turn; while somebody waits, a body that has been arriving for
long makes room, so that slow senders cannot shut out the others.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

from receiver.errors import TooLarge, TryLater

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

_RETRY_AFTER_S = 1.0


class Timing(NamedTuple):
    """Seconds; tests are less patient."""

    body_s: float = 10.0
    """For a whole body to arrive."""
    grace_s: float = 1.0
    """The same while others wait for room."""
    patience_s: float = 5.0
    """For room."""


MAX_WAITERS = 1024


class _Waiter(NamedTuple):
    reservation: Reservation
    size: int
    admitted: asyncio.Future[None]


class InFlight:
    """So many bytes, shared."""

    def __init__(self, capacity_bytes: int, timing: Timing = Timing()) -> None:  # noqa: B008 - immutable
        """Admit up to ``capacity_bytes`` at once, up to half of it for one peer."""
        self.capacity_bytes = capacity_bytes
        self.share_bytes = capacity_bytes // 2
        self.timing = timing
        self.held_bytes = 0
        self._held_by: Counter[str] = Counter()
        self._waiters: deque[_Waiter] = deque()
        self._readers: dict[Reservation, float] = {}  # since when, in order
        self._nudge: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def reserve(self, size: int, peer: str) -> AsyncIterator[Reservation]:
        """Wait for room for ``size`` bytes of ``peer``, and hold it while the context is open.

        Raises:
            TryLater: There is no room in time.
            TooLarge: There never can be.
        """
        reservation = Reservation(self, peer)
        try:
            await self._wait(reservation, size)
            yield reservation
        finally:
            reservation.resize(0)

    def fits(self, size: int, peer: str) -> bool:
        """Whether ``peer`` may hold so many bytes more."""
        return self.held_bytes + size <= self.capacity_bytes and self._held_by[peer] + size <= self.share_bytes

    def hold(self, size: int, peer: str) -> None:
        """Hold so many bytes more, or less where it is negative."""
        self.held_bytes += size
        self._held_by[peer] += size
        if not self._held_by[peer]:
            del self._held_by[peer]
        if size < 0:
            self._admit()
            self._press()

    @asynccontextmanager
    async def reading(self, reservation: Reservation) -> AsyncIterator[None]:
        """Bound the time in which a body arrives; see :meth:`Reservation.reading`."""
        loop = asyncio.get_running_loop()
        bound = asyncio.timeout(self.timing.body_s)
        try:
            async with bound:
                reservation.bound = bound
                self._readers[reservation] = loop.time()
                self._press()
                yield
        except TimeoutError:
            if not bound.expired():
                raise
            raise TryLater("the request did not arrive in time", _RETRY_AFTER_S) from None
        finally:
            self._readers.pop(reservation, None)
            reservation.bound = None

    async def _wait(self, reservation: Reservation, size: int) -> None:
        if size > self.share_bytes:
            raise TooLarge(f"{size} bytes are more than a sender may have on their way in ({self.share_bytes})")
        if not self._waiters and self.fits(size, reservation.peer):
            reservation.resize(size)
            return
        if len(self._waiters) >= MAX_WAITERS:
            raise TryLater("too many requests wait for room", _RETRY_AFTER_S)
        waiter = _Waiter(reservation, size, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        self._admit()
        self._press()
        try:
            async with asyncio.timeout(self.timing.patience_s):
                await waiter.admitted
        except TimeoutError:
            raise TryLater("too many requests are on their way in", _RETRY_AFTER_S) from None
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
                self._admit()

    def _admit(self) -> None:
        """Let in, in turn, who has room now; a peer at its share does not hold up the others."""
        still: deque[_Waiter] = deque()
        while self._waiters:
            waiter = self._waiters.popleft()
            if waiter.admitted.done():
                continue
            if self.fits(waiter.size, waiter.reservation.peer):
                waiter.reservation.resize(waiter.size)
                waiter.admitted.set_result(None)
                continue
            still.append(waiter)
            if self.held_bytes + waiter.size > self.capacity_bytes:
                break
        self._waiters = still + self._waiters

    def _press(self) -> None:
        """While somebody waits, end the oldest reading once it took ``grace_s``."""
        if self._nudge is not None or not self._waiters or not self._readers:
            return
        loop = asyncio.get_running_loop()
        self._nudge = loop.call_at(next(iter(self._readers.values())) + self.timing.grace_s, self._end_oldest)

    def _end_oldest(self) -> None:
        self._nudge = None
        loop = asyncio.get_running_loop()
        if self._waiters and self._readers:
            oldest, since_s = next(iter(self._readers.items()))
            if loop.time() >= since_s + self.timing.grace_s and oldest.bound is not None:
                del self._readers[oldest]
                oldest.bound.reschedule(loop.time())
                return  # its release looks who is next
        self._press()


class Reservation:
    """What one request holds."""

    def __init__(self, budget: InFlight, peer: str) -> None:
        """Hold nothing yet of ``budget``."""
        self._budget = budget
        self.peer = peer
        self.size = 0
        self.bound: asyncio.Timeout | None = None

    def resize(self, size: int) -> None:
        """Hold ``size`` bytes, which are known to fit."""
        change, self.size = size - self.size, size
        if change:
            self._budget.hold(change, self.peer)

    def grow(self, size: int) -> None:
        """Hold at least ``size`` bytes, without waiting.

        Raises:
            TryLater: There is no room.
        """
        if size > self.size:
            if not self._budget.fits(size - self.size, self.peer):
                raise TryLater("too many requests are on their way in", _RETRY_AFTER_S)
            self.resize(size)

    def reading(self) -> AbstractAsyncContextManager[None]:
        """Bound the time in which the body arrives, more tightly while others wait for room.

        The context raises :class:`~receiver.errors.TryLater` when it did not.
        """
        return self._budget.reading(self)
