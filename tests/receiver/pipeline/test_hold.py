"""What is held waits, and others behind it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from receiver.errors import Held, Permanent, Retryable
from receiver.net.backoff import Backoff
from receiver.pipeline.hold import Hold
from tests.receiver.pipeline.sinks import Sink, logs
from translators.batch import Batch, Signal

if TYPE_CHECKING:
    from collections.abc import Callable

    from receiver.telemetry import Telemetry

pytestmark = pytest.mark.timeout(10)

SOON = Backoff(0.02, 0.02)
NEVER = Backoff(3600, 3600)


def refused() -> Held:
    """A refusal that a person must end."""
    return Held("PERMISSION_DENIED: no", "allow it")


async def test_waiting_is_told_from_not_waiting(telemetry: Telemetry) -> None:
    """The caller learns whether its request met a hold."""
    hold = Hold(Sink(refused()), Signal.LOGS, telemetry, SOON)
    assert await hold.export(logs("a"))
    assert not await hold.export(logs("b"))


async def test_others_wait_behind_the_first(telemetry: Telemetry) -> None:
    """While one request is held no other is tried; when it is through, the others follow at once."""
    sink = Sink(*[refused()] * 3)
    hold = Hold(sink, Signal.LOGS, telemetry, SOON)
    first = asyncio.create_task(hold.export(logs("first")))
    await sink.until_tried(1)
    others = [asyncio.create_task(hold.export(logs(name))) for name in "ab"]
    await sink.until_has(3)
    assert await asyncio.gather(first, *others) == [True, True, True]
    assert sink.tried[:4] == [logs("first")] * 4


async def test_one_that_is_behind_takes_the_place_of_the_first(telemetry: Telemetry) -> None:
    """A hold survives the request that met it."""
    sink = Sink(refused(), refused())
    hold = Hold(sink, Signal.LOGS, telemetry, NEVER)
    first = asyncio.create_task(hold.export(logs("first")))
    await sink.until_tried(1)
    second = asyncio.create_task(hold.export(logs("second")))
    await asyncio.sleep(0)
    first.cancel()
    await sink.until_tried(2)
    assert sink.tried[1] == logs("second")
    assert telemetry.remedies() == {Signal.LOGS: "allow it"}
    second.cancel()
    await asyncio.gather(first, second, return_exceptions=True)


@pytest.mark.parametrize("error", [Permanent("no"), Retryable("no"), RuntimeError("no")])
async def test_another_end_ends_the_hold(telemetry: Telemetry, error: Exception) -> None:
    """What is then refused for its data, or fails otherwise, is held no more."""
    hold = Hold(Sink(refused(), error), Signal.LOGS, telemetry, SOON)
    with pytest.raises(type(error)):
        await hold.export(logs("a"))
    assert telemetry.remedies() == {}


async def test_empty_request_is_never_refused_for_its_data(
    telemetry: Telemetry, caplog: pytest.LogCaptureFixture
) -> None:
    """It is held, and so is what waits behind it."""
    hold = Hold(Sink(Permanent("INTERNAL: x")), Signal.LOGS, telemetry, SOON)
    assert await hold.export(Batch(Signal.LOGS, 0, b"", ()))
    assert "INTERNAL: x (an empty request is refused too); it is not the data" in caplog.text


async def test_cure_is_noticed(telemetry: Telemetry, counter: Callable[..., float]) -> None:
    """What was put right here is tried long before its time."""
    error = refused()
    error.cured = lambda: True
    hold = Hold(Sink(error), Signal.LOGS, telemetry, NEVER)
    assert await hold.export(logs("a"))
    assert counter("exporter_held", data_type="logs") == 0


async def test_log_says_a_new_reason(telemetry: Telemetry, caplog: pytest.LogCaptureFixture) -> None:
    """The same reason is said once, another again."""
    errors = [refused(), refused(), Held("UNAUTHENTICATED: no", "check the token")]
    await Hold(Sink(*errors), Signal.LOGS, telemetry, SOON).export(logs("a"))
    assert [record.getMessage().partition("comes: ")[2] for record in caplog.records] == [
        "PERMISSION_DENIED: no; allow it",
        "UNAUTHENTICATED: no; check the token",
    ]


async def test_request_that_was_under_way_follows_at_once(
    telemetry: Telemetry, caplog: pytest.LogCaptureFixture
) -> None:
    """Two that are refused at the same time make one hold, and the second does not begin another."""
    sink = Sink(refused(), refused(), is_open=False)
    hold = Hold(sink, Signal.LOGS, telemetry, SOON)
    both = [asyncio.create_task(hold.export(logs(name))) for name in "ab"]
    await sink.until_tried(2)
    sink.gate.set()
    assert await asyncio.gather(*both) == [True, True]
    assert len(sink.tried) == 4
    assert len(caplog.records) == 1


async def test_stop_tries_once_more_and_ends(telemetry: Telemetry) -> None:
    """A stop does not wait for a person: what is still held is cancelled, what is taken now is not."""
    stopping = asyncio.Event()
    sink = Sink(refused(), refused())
    hold = Hold(sink, Signal.LOGS, telemetry, NEVER, stopping)
    both = [asyncio.create_task(hold.export(logs(name))) for name in "ab"]
    await sink.until_tried(1)
    stopping.set()
    ends = await asyncio.gather(*both, return_exceptions=True)
    assert isinstance(ends[0], asyncio.CancelledError)
    assert ends[1] is True
    assert sink.batches == [logs("b")]
