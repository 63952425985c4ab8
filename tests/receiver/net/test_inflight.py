"""The room for requests on their way in: bounded, shared fairly, and not held by the slow."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from receiver.errors import TooLarge, TryLater
from receiver.net import inflight
from receiver.net.inflight import InFlight, Timing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def started(work: Awaitable[None]) -> asyncio.Task[None]:
    """A task that has run to its first wait."""
    task = asyncio.ensure_future(work)
    await asyncio.sleep(0)
    assert isinstance(task, asyncio.Task)
    return task


def holder(room: InFlight, size: int, peer: str) -> Callable[[asyncio.Event], Awaitable[None]]:
    """A request that holds room until it is told."""

    async def hold(until: asyncio.Event) -> None:
        async with room.reserve(size, peer):
            await until.wait()

    return hold


async def test_room_is_given_back_whatever_happens() -> None:
    """After success, an error, a resize and a cancellation nothing is held."""
    room = InFlight(100)
    async with room.reserve(40, "a") as reservation:
        reservation.resize(10)
        assert room.held_bytes == 10
        reservation.grow(30)
        reservation.grow(20)
        assert room.held_bytes == 30
    with pytest.raises(ZeroDivisionError):
        async with room.reserve(40, "a"):
            raise ZeroDivisionError
    task = await started(holder(room, 40, "a")(asyncio.Event()))
    assert room.held_bytes == 40
    task.cancel()
    await asyncio.wait({task})
    assert room.held_bytes == 0
    assert not room._held_by


async def test_one_peer_has_half() -> None:
    """It waits for its own, and holds up nobody."""
    room, end = InFlight(100, Timing(patience_s=0.05)), asyncio.Event()
    first = await started(holder(room, 50, "a")(end))
    second = await started(holder(room, 10, "a")(end))
    async with room.reserve(50, "b"):
        assert room.held_bytes == 100
    with pytest.raises(TryLater, match="too many requests are on their way in; retry after 1 s"):
        await second
    end.set()
    await first


async def test_who_waits_is_served_in_turn() -> None:
    """A small one does not overtake a large one of another peer."""
    room, end, order = InFlight(100), asyncio.Event(), []

    async def note(size: int, peer: str) -> None:
        async with room.reserve(size, peer):
            order.append(peer)

    holding = [await started(holder(room, 40, peer)(end)) for peer in "ab"]
    waiting = [await started(note(50, "large")), await started(note(10, "small"))]
    assert order == []
    end.set()
    await asyncio.gather(*holding, *waiting)
    assert order == ["large", "small"]
    assert room.held_bytes == 0


async def test_what_can_never_fit_is_said_at_once() -> None:
    """More than half can never be had."""
    with pytest.raises(TooLarge, match="51 bytes are more than a sender may have on their way in"):
        async with InFlight(100).reserve(51, "a"):
            pass


async def test_to_grow_does_not_wait() -> None:
    """Bodies that grow while they wait for each other would wait for ever."""
    room = InFlight(100)
    async with room.reserve(10, "a") as reservation:
        with pytest.raises(TryLater):
            reservation.grow(51)
        assert room.held_bytes == 10


async def test_a_body_that_does_not_arrive_ends() -> None:
    """Within the time for bodies, though nobody waits."""
    room = InFlight(100, Timing(body_s=0.05))
    async with room.reserve(10, "a") as reservation:
        with pytest.raises(TryLater, match="did not arrive in time"):
            async with reservation.reading():
                await asyncio.Event().wait()


async def test_the_oldest_slow_body_makes_room_for_who_waits() -> None:
    """One after the other, and only as many as are needed."""
    room = InFlight(100, Timing(body_s=60, grace_s=0.05, patience_s=60))
    ended: list[str] = []

    async def slow(peer: str) -> None:
        try:
            async with room.reserve(30, peer) as reservation, reservation.reading():
                await asyncio.Event().wait()
        except TryLater:
            ended.append(peer)

    tasks = [await started(slow(peer)) for peer in "abc"]
    began = time.monotonic()
    async with room.reserve(40, "good"):
        assert time.monotonic() - began < 5
    assert ended == ["a"]
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert room.held_bytes == 0


async def test_a_timeout_inside_is_not_taken_for_ours() -> None:
    """What the reader itself raises passes."""
    async with InFlight(100).reserve(10, "a") as reservation:
        with pytest.raises(TimeoutError):
            async with reservation.reading():
                raise TimeoutError


async def test_there_are_not_endlessly_many_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Further ones are refused at once."""
    monkeypatch.setattr(inflight, "MAX_WAITERS", 2)
    room, end = InFlight(100), asyncio.Event()
    tasks = [await started(holder(room, 50, "a")(end)) for _ in range(3)]
    with pytest.raises(TryLater, match="too many requests wait for room"):
        async with room.reserve(1, "a"):
            pass
    end.set()
    await asyncio.gather(*tasks)


async def test_who_gives_up_waiting_lets_the_next_in() -> None:
    """A cancelled waiter holds nothing up."""
    room, end = InFlight(100), asyncio.Event()
    holding = [await started(holder(room, 40, peer)(end)) for peer in "ab"]
    large = await started(holder(room, 50, "c")(end))
    small = await started(holder(room, 10, "d")(end))
    assert room.held_bytes == 80
    large.cancel()
    await asyncio.wait({large})
    await asyncio.sleep(0)
    assert room.held_bytes == 90
    end.set()
    await asyncio.gather(*holding, small)
    assert room.held_bytes == 0
