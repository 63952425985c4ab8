"""Retry and timeout, around an exporter that follows a script."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from receiver.errors import Permanent, Retryable
from receiver.exporters.retry import Config, Retry
from receiver.exporters.timeout import Timeout
from tests.receiver.exporters.otlp_server import request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from prometheus_client import CollectorRegistry

    from receiver.telemetry import Telemetry
    from translators.batch import Batch


class Scripted:
    """Does one thing of its script per attempt, and succeeds when that is used up."""

    def __init__(self, *script: Exception | Callable[[], Awaitable[object]]) -> None:
        """Keep the script."""
        self.attempted = asyncio.Event()
        self.script = list(script)
        self.attempts: list[float] = []
        self.closed = False

    async def export(self, _: Batch) -> None:
        """Follow the script."""
        self.attempts.append(asyncio.get_running_loop().time())
        self.attempted.set()
        step = self.script.pop(0) if self.script else None
        if isinstance(step, Exception):
            raise step
        if step is not None:
            await step()

    async def close(self) -> None:
        """Remember it."""
        self.closed = True

    @property
    def pauses(self) -> list[float]:
        """Seconds between attempts."""
        return [later - earlier for earlier, later in zip(self.attempts, self.attempts[1:], strict=False)]


def config(**options: Any) -> Config:
    """Intervals of 10 ms, without chance."""
    return Config(**{"initial_interval": "10ms", "randomization_factor": 0, **options})


async def test_intervals_grow(telemetry: Telemetry, registry: CollectorRegistry) -> None:
    """Each pause is the multiplier times the one before; each repeated attempt is counted."""
    inner = Scripted(*[Retryable("busy")] * 3)
    await Retry(inner, config(multiplier=3), telemetry).export(request())
    assert all(pause >= least for pause, least in zip(inner.pauses, [0.01, 0.03, 0.09], strict=True))
    assert registry.get_sample_value("otelbee_exporter_retries_total", {"data_type": "logs"}) == 3


async def test_intervals_have_a_longest(telemetry: Telemetry) -> None:
    """No pause is longer than max_interval."""
    inner = Scripted(*[Retryable("busy")] * 3)
    async with asyncio.timeout(5):
        await Retry(inner, config(multiplier=1000, max_interval="20ms"), telemetry).export(request())
    assert all(pause >= least for pause, least in zip(inner.pauses, [0.01, 0.02, 0.02], strict=True))


async def test_never_sooner_than_the_peer_asked(telemetry: Telemetry) -> None:
    """RetryInfo's delay holds when it is longer than the interval."""
    inner = Scripted(Retryable("busy", 0.1))
    await Retry(inner, config(), telemetry).export(request())
    assert inner.pauses[0] >= 0.1


async def test_intervals_are_spread(telemetry: Telemetry) -> None:
    """Pauses are no shorter than the randomization factor allows and not all the same."""
    inner = Scripted(*[Retryable("busy")] * 8)
    await Retry(inner, config(randomization_factor=0.5, multiplier=1), telemetry).export(request())
    assert all(pause >= 0.005 for pause in inner.pauses)
    assert max(inner.pauses) - min(inner.pauses) > 0.0005


async def test_gives_up_when_time_is_up(telemetry: Telemetry) -> None:
    """No attempt begins later than max_elapsed_time; the error names the limit and the last cause."""
    inner = Scripted(*[Retryable("busy")] * 100)
    retry = Retry(inner, config(multiplier=1, max_elapsed_time="45ms"), telemetry)
    with pytest.raises(Retryable, match=r"max_elapsed_time 0.045 s: busy"):
        await retry.export(request())
    assert len(inner.attempts) <= 5


async def test_zero_elapsed_time_is_for_ever(telemetry: Telemetry) -> None:
    """With max_elapsed_time 0 it does not give up."""
    inner = Scripted(*[Retryable("busy")] * 30)
    await Retry(inner, config(initial_interval="1ms", multiplier=1, max_elapsed_time="0"), telemetry).export(request())
    assert len(inner.attempts) == 31


async def test_permanent_is_not_repeated(telemetry: Telemetry) -> None:
    """A final refusal passes through at once."""
    inner = Scripted(Permanent("no"))
    with pytest.raises(Permanent):
        await Retry(inner, config(), telemetry).export(request())
    assert len(inner.attempts) == 1


async def test_close_ends_waiting_at_once(telemetry: Telemetry) -> None:
    """What waits for its next attempt gives up when told to shut down, and a later failure is final."""
    inner = Scripted(Retryable("busy"), Retryable("busy"))
    retry = Retry(inner, Config(), telemetry)
    waiting = asyncio.create_task(retry.export(request()))
    await inner.attempted.wait()
    await retry.close()
    with pytest.raises(Retryable, match="shut down"):
        await waiting
    with pytest.raises(Retryable, match="busy"):
        await retry.export(request())
    assert inner.closed


async def test_logs_only_changes_of_state(telemetry: Telemetry, caplog: pytest.LogCaptureFixture) -> None:
    """One line when a signal begins to fail, one when it flows again, whatever is between."""
    caplog.set_level(logging.INFO)
    retry = Retry(Scripted(*[Retryable("busy")] * 3), config(multiplier=1), telemetry)
    await retry.export(request())
    await retry.export(request())
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "Exporting failed; retrying",
        "Exporting recovered",
    ]


async def test_timeout_is_retryable() -> None:
    """An attempt that takes too long is given up as retryable; the next is free."""
    inner = Scripted(asyncio.Event().wait)
    timeout = Timeout(inner, timedelta(milliseconds=20))
    with pytest.raises(Retryable, match=r"no answer within 0.02 s"):
        await timeout.export(request())
    await timeout.export(request())


async def test_timeout_zero_is_none() -> None:
    """A timeout of zero waits for ever."""
    await Timeout(Scripted(lambda: asyncio.sleep(0.02)), timedelta(0)).export(request())


async def test_timeout_of_another_is_not_ours() -> None:
    """A TimeoutError from inside is not mistaken for the attempt's own."""
    with pytest.raises(TimeoutError):
        await Timeout(Scripted(TimeoutError()), timedelta(seconds=5)).export(request())
