"""How many requests are under way at the same time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from receiver.errors import ExportError, Held, Permanent, Retryable
from receiver.exporters.pace import Pace
from tests.receiver.exporters.otlp_server import request
from translators.batch import Signal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from translators.batch import Batch

pytestmark = pytest.mark.timeout(10)


class Doorman:
    """An exporter whose requests wait until each is answered: with None, or with an error."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self.waiting: list[asyncio.Future[None]] = []
        self.closed = False

    async def export(self, _: Batch) -> None:
        """Wait for the answer."""
        self.waiting.append(asyncio.get_running_loop().create_future())
        await self.waiting[-1]

    async def close(self) -> None:
        """Remember it."""
        self.closed = True

    async def answer(self, error: ExportError | None = None) -> None:
        """Answer the oldest request, and let what follows from it happen."""
        answer = self.waiting.pop(0)
        if error is None:
            answer.set_result(None)
        else:
            answer.set_exception(error)
        for _ in range(5):
            await asyncio.sleep(0)


@pytest.fixture
async def crowd() -> AsyncIterator[tuple[Pace, Doorman]]:
    """Fifty requests that want through a pace of at most four."""
    doorman = Doorman()
    pace = Pace(doorman, 4)
    requests = [asyncio.create_task(pace.export(request())) for _ in range(50)]
    await asyncio.sleep(0)
    yield pace, doorman
    for each in requests:
        each.cancel()
    await asyncio.gather(*requests, return_exceptions=True)


async def test_one_more_after_each_success(crowd: tuple[Pace, Doorman]) -> None:
    """It begins with one, and ends with num_consumers."""
    _, doorman = crowd
    under_way = [len(doorman.waiting)]
    for _ in range(5):
        await doorman.answer()
        under_way.append(len(doorman.waiting))
    assert under_way == [1, 2, 3, 4, 4, 4]


@pytest.mark.parametrize("error", [Retryable("UNAVAILABLE"), Held("UNAUTHENTICATED", "act")])
async def test_half_after_a_failure(crowd: tuple[Pace, Doorman], error: ExportError) -> None:
    """When all that was under way has failed it is one again, never none, and it grows again."""
    _, doorman = crowd
    for _ in range(3):
        await doorman.answer()
    under_way = []
    for _ in range(5):
        await doorman.answer(error)
        under_way.append(len(doorman.waiting))
    assert under_way == [3, 2, 1, 1, 1]
    await doorman.answer()
    assert len(doorman.waiting) == 2


async def test_refusal_of_the_data_changes_nothing(crowd: tuple[Pace, Doorman]) -> None:
    """It says nothing about how much is too much."""
    _, doorman = crowd
    await doorman.answer()
    await doorman.answer(Permanent("INVALID_ARGUMENT"))
    assert len(doorman.waiting) == 2


async def test_signals_have_their_own(crowd: tuple[Pace, Doorman]) -> None:
    """Spans do not wait for logs."""
    pace, doorman = crowd
    spans = asyncio.create_task(pace.export(request(Signal.TRACES)))
    await asyncio.sleep(0)
    assert len(doorman.waiting) == 2
    spans.cancel()
    await asyncio.gather(spans, return_exceptions=True)


async def test_who_is_cancelled_makes_room(crowd: tuple[Pace, Doorman]) -> None:
    """Whether it waited for its turn or for its answer."""
    pace, doorman = crowd
    doorman.waiting[0].cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert sum(not each.done() for each in doorman.waiting) == 1
    await pace.close()
    assert doorman.closed
