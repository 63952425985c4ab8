"""Room is given fairly."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from receiver.errors import QueueFull, TooLarge
from receiver.pipeline.queue import MemoryQueue, size_of, source_of
from receiver.pipeline.room import Room
from tests.receiver.pipeline.sinks import sized

if TYPE_CHECKING:
    from translators.batch import Batch

pytestmark = pytest.mark.timeout(10)


def queue(capacity: int = 4000) -> MemoryQueue:
    """A queue whose level nobody watches."""
    return MemoryQueue(Room(capacity, lambda *_: None))


async def admit(into: MemoryQueue, batches: list[Batch], *, wait: bool) -> asyncio.Future[None]:
    """Put batches, as a pipeline does."""
    await into.room.enter(source_of(batches), size_of(batches), wait=wait)
    return into.store(batches, wait=wait).delivered


def put(into: MemoryQueue, size: int, source: str) -> asyncio.Task[asyncio.Future[None]]:
    """Begin a put that waits for room."""
    return asyncio.create_task(admit(into, [sized(size, source)], wait=True))


async def settle() -> None:
    """Let every task go as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def free(from_queue: MemoryQueue, count: int = 1) -> None:
    """Take and acknowledge so many entries."""
    from_queue.acknowledge([(await from_queue.take(1))[0] for _ in range(count)])


async def test_first_come_first_served() -> None:
    """Puts of one source are admitted in the order in which they began to wait."""
    full = queue(1000)
    await admit(full, [sized(1000)], wait=True)
    waiting = [put(full, size, "test") for size in (900, 500, 400)]
    await settle()
    await free(full)
    await settle()
    assert [task.done() for task in waiting] == [True, False, False]
    await free(full)
    await settle()
    assert [task.done() for task in waiting] == [True, True, True]


async def test_large_put_is_not_overtaken_for_ever() -> None:
    """While one waits for much room, smaller ones behind it wait too, and pushes are refused."""
    full = queue(2000)
    await admit(full, [sized(1000)], wait=True)
    await admit(full, [sized(1000)], wait=True)
    large = put(full, 2000, "test")
    await settle()
    await free(full)
    with pytest.raises(QueueFull):
        await admit(full, [sized(500)], wait=False)
    small = put(full, 500, "test")
    await settle()
    assert not small.done()
    await free(full)
    await settle()
    assert large.done()
    assert not small.done()
    await free(full)
    await small


async def test_one_source_may_fill_the_queue_alone() -> None:
    """Where only one feeds, the whole queue is its own."""
    alone = queue()
    for _ in range(4):
        await admit(alone, [sized(1000)], wait=False)
    with pytest.raises(QueueFull):
        await admit(alone, [sized(1000)], wait=False)


async def test_no_source_holds_more_than_half() -> None:
    """Where several feed, each has at most half; the others' room stays theirs, and in-flight bytes count."""
    shared = queue()
    await admit(shared, [sized(1000, "b")], wait=False)
    for _ in range(2):
        await admit(shared, [sized(1000, "a")], wait=False)
    await shared.take(10_000)  # under way, not acknowledged
    with pytest.raises(QueueFull):
        await admit(shared, [sized(500, "a")], wait=False)
    await admit(shared, [sized(1000, "b")], wait=False)
    with pytest.raises(TooLarge, match=r"\(2000\)"):
        await admit(shared, [sized(2001, "a")], wait=True)


async def test_source_at_its_share_does_not_hold_up_others() -> None:
    """Who waits only because of its own share is passed by another source."""
    shared = queue()
    await admit(shared, [sized(300, "b")], wait=False)
    await admit(shared, [sized(2000, "a")], wait=False)
    waiting = put(shared, 500, "a")
    await settle()
    await admit(shared, [sized(500, "b")], wait=False)
    assert not waiting.done()
    await free(shared, 2)
    await waiting


async def test_who_waits_for_room_is_not_passed_by_other_sources() -> None:
    """Who waits for room in the whole queue is next, before a smaller put of another source that would fit."""
    shared = queue()
    for size, source in ((300, "b"), (1700, "b"), (1500, "a")):
        await admit(shared, [sized(size, source)], wait=False)
    large = put(shared, 1000, "c")
    small = put(shared, 400, "d")
    await settle()
    await free(shared)
    await settle()
    assert not large.done()
    assert not small.done()
    await free(shared)
    await large
    await small


async def test_flooding_source_gives_way_to_a_new_one() -> None:
    """A refused newcomer counts as feeding: the queue that one source had filled drains to half before it goes on."""
    flooded = queue()
    for _ in range(4):
        await admit(flooded, [sized(1000, "a")], wait=False)
    newcomer = put(flooded, 1000, "b")
    more = put(flooded, 1000, "a")
    await settle()
    await free(flooded)
    await settle()
    assert newcomer.done()
    assert not more.done()
    await free(flooded)
    await settle()
    assert not more.done()
    await free(flooded)
    await more


async def test_waiter_that_can_never_fit_is_told() -> None:
    """When a second source halves the share, a larger put that waits is refused instead of waiting for ever."""
    shrunk = queue()
    await admit(shrunk, [sized(4000, "a")], wait=False)
    waiting = put(shrunk, 3000, "a")
    await settle()
    newcomer = put(shrunk, 500, "b")
    await settle()
    await free(shrunk)
    with pytest.raises(TooLarge):
        await waiting
    await newcomer


async def test_cancelled_waiter_leaves_its_place() -> None:
    """A put that is cancelled queues nothing, and who stood behind it is let in."""
    full = queue(2000)
    await admit(full, [sized(1000)], wait=True)
    large = put(full, 1500, "test")
    small = put(full, 500, "test")
    await settle()
    large.cancel()
    await small
    assert large.cancelled() or large.cancelling()
    assert full.pending_bytes == 1500
    await asyncio.gather(large, return_exceptions=True)


async def test_put_of_several_batches_is_done_with_the_last() -> None:
    """One future for all batches of a put, whichever request takes which."""
    several = queue()
    delivered = await admit(several, [sized(500), sized(600)], wait=False)
    await free(several)
    assert not delivered.done()
    await free(several)
    assert delivered.done()


async def test_atomic_put() -> None:
    """Either all batches of a put are queued or none."""
    almost_full = queue(2000)
    await admit(almost_full, [sized(1000)], wait=False)
    with pytest.raises(QueueFull):
        await admit(almost_full, [sized(600), sized(600)], wait=False)
    assert almost_full.pending_bytes == 1000


async def test_a_queue_is_full_from_a_refusal_until_something_leaves() -> None:
    """A few bytes that fit nobody are no room, and what is given back is."""
    told: list[tuple[int, bool]] = []
    room = Room(100, lambda held, full: told.append((held, full)))
    await room.enter("a", 90, wait=False)
    with pytest.raises(QueueFull):
        await room.enter("a", 20, wait=False)
    assert told[-1] == (90, True)
    room.leave({"a": 40})
    assert told[-1] == (50, False)
