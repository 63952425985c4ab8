"""The intake: short turns, exact counts, back-pressure that is seen, states that are logged once."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import TYPE_CHECKING

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from prometheus_client import CollectorRegistry

from receiver.errors import QueueFull, TooLarge
from receiver.intake import MAX_TURN_RECORDS, SourceIntake
from receiver.registry import Shared
from receiver.telemetry import Telemetry
from tests.receiver.tiny import BlockingLineTranslator, DerivingTranslator, LineTranslator, TinyQueue, until
from translators.batch import Origin, Signal
from translators.resource import ResourceOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(name="registry")
def _registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture(name="make")
def _make(registry: CollectorRegistry) -> Iterator[Callable[..., SourceIntake]]:
    made: list[SourceIntake] = []
    telemetry = Telemetry(registry)

    def make(
        queue: TinyQueue, translator: LineTranslator | None = None, *, gap_since_ns: int | None = None
    ) -> SourceIntake:
        shared, lines = Shared(ResourceOptions({"team": "a"}, "node-a"), None), translator or LineTranslator()
        made.append(
            SourceIntake("tiny/a", lines, queue, telemetry, shared, gap_since_ns=gap_since_ns, clock_ns=lambda: 17)
        )
        return made[-1]

    yield make
    for intake in made:
        intake.close()
    for thread in threading.enumerate():
        if thread.name.startswith("otelbee-"):
            thread.join()  # idle, so it ends now


async def test_records_reach_the_queue(make: Callable[..., SourceIntake], registry: CollectorRegistry) -> None:
    """Every record is accepted, rejected at its own position, or counted; parts carry the source's name."""
    queue = TinyQueue()
    outcome = await make(queue).emit("line", [b"a", b"bad", b"same", b"b", b"bad"], Origin(), wait=True)
    await outcome.delivered
    assert outcome.accepted == 2
    assert [(each.index, each.reason) for each in outcome.rejected] == [(1, "malformed"), (4, "malformed")]
    assert queue.batches[0].parts == (("tiny/a", 2, 17),)
    value = registry.get_sample_value
    assert value("otelbee_receiver_accepted_log_records_total", {"receiver": "tiny/a"}) == 2
    assert value("otelbee_source_rejected_records_total", {"receiver": "tiny/a", "reason": "malformed"}) == 2
    assert value("otelbee_source_counted_records_total", {"receiver": "tiny/a", "name": "same"}) == 1
    assert outcome.counts == {"same": 1}


async def test_nothing_good_is_still_an_answer(make: Callable[..., SourceIntake]) -> None:
    """Only bad records: nothing accepted, all rejected, delivered at once."""
    outcome = await make(TinyQueue()).emit("line", [b"bad"], Origin(), wait=False)
    await outcome.delivered
    assert (outcome.accepted, len(outcome.rejected)) == (0, 1)


async def test_positions_count_over_turns(make: Callable[..., SourceIntake]) -> None:
    """A rejection in a later turn names its position in what was emitted."""
    translator = LineTranslator()
    records = [b"x"] * 999 + [b"bad"]
    outcome = await make(TinyQueue(), translator).emit("line", records, Origin(), wait=True)
    assert len(translator.turns) > 1
    assert outcome.rejected[0].index == 999
    assert outcome.accepted == 999


async def test_turns_are_short(make: Callable[..., SourceIntake]) -> None:
    """Expensive records go in small turns, and others run between them; cheap ones in turns of 256."""
    slow, beats = LineTranslator(record_s=0.001), 0

    async def beat() -> None:
        nonlocal beats
        while True:
            beats += 1
            await asyncio.sleep(0)

    heart = asyncio.create_task(beat())
    intake = make(TinyQueue(), slow)
    await intake.emit("line", [b"x"] * 100, Origin(), wait=True)
    assert max(slow.turns[1:]) <= 6
    assert beats >= len(slow.turns)
    heart.cancel()

    quick = LineTranslator()
    await make(TinyQueue(), quick).emit("line", [b"x"] * 2000, Origin(), wait=True)
    assert max(quick.turns) == MAX_TURN_RECORDS


async def test_a_blocking_translator_has_its_own_thread(make: Callable[..., SourceIntake]) -> None:
    """It runs in one worker thread, and the loop goes on."""
    translator = BlockingLineTranslator(record_s=0.2)
    emitting = asyncio.create_task(make(TinyQueue(), translator).emit("line", [b"x"], Origin(), wait=True))
    began = time.perf_counter()
    await asyncio.sleep(0)
    assert time.perf_counter() - began < 0.1
    assert (await emitting).accepted == 1
    assert translator.threads == {"otelbee-tiny/a_0"}


async def test_a_full_queue_refuses_who_does_not_wait(
    make: Callable[..., SourceIntake], registry: CollectorRegistry
) -> None:
    """Full now and never possible are different errors, each counted with its reason."""
    intake = make(TinyQueue(capacity=2))
    await intake.emit("line", [b"a", b"b"], Origin(), wait=False)
    with pytest.raises(QueueFull):
        await intake.emit("line", [b"c"], Origin(), wait=False)
    with pytest.raises(TooLarge):
        await intake.emit("line", [b"c"] * 3, Origin(), wait=True)
    refused = {
        reason: registry.get_sample_value(
            "otelbee_receiver_refused_log_records_total", {"receiver": "tiny/a", "reason": reason}
        )
        for reason in ("queue_full", "too_large")
    }
    assert refused == {"queue_full": 1, "too_large": 3}


async def test_a_pause_is_said_once(make: Callable[..., SourceIntake], caplog: pytest.LogCaptureFixture) -> None:
    """Who waits for room longer than a second is paused, said once; also its end, once it lasts."""
    caplog.set_level(logging.INFO, "receiver")
    queue = TinyQueue(capacity=1)
    intake = make(queue)
    await intake.emit("line", [b"a"], Origin(), wait=True)
    for _ in range(2):
        emitting = asyncio.create_task(intake.emit("line", [b"b"], Origin(), wait=True))
        await until(lambda: intake.current.paused)
        await asyncio.sleep(1.1)  # longer than a pause: the second wait must not be news
        await queue.deliver()
        await emitting
    await until(lambda: not intake.current.paused)
    texts = [record.getMessage() for record in caplog.records]
    assert sum("paused" in text for text in texts) == 1
    assert sum("resumed" in text for text in texts) == 1


async def test_a_short_wait_is_no_pause(make: Callable[..., SourceIntake], caplog: pytest.LogCaptureFixture) -> None:
    """Waiting for a moment is normal and says nothing."""
    queue = TinyQueue(capacity=1)
    intake = make(queue)
    await intake.emit("line", [b"a"], Origin(), wait=True)
    emitting = asyncio.create_task(intake.emit("line", [b"b"], Origin(), wait=True))
    await asyncio.sleep(0.05)
    await queue.deliver()
    await emitting
    assert not intake.current.paused
    assert not caplog.records


async def test_states_are_logged_where_they_change(
    make: Callable[..., SourceIntake], registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """Up and down are in the state, in the metric, and once in the log."""
    caplog.set_level(logging.INFO, "receiver")
    intake = make(TinyQueue())
    intake.started("localhost:1")
    intake.started("localhost:1")
    for _ in range(2):
        intake.state(up=True, reason="")
    assert registry.get_sample_value("otelbee_source_up", {"receiver": "tiny/a"}) == 1
    for _ in range(2):
        intake.state(up=False, reason="connection refused")
    assert registry.get_sample_value("otelbee_source_up", {"receiver": "tiny/a"}) == 0
    assert (intake.current.up, intake.current.reason, intake.current.address) == (
        False,
        "connection refused",
        "localhost:1",
    )
    assert [record.getMessage() for record in caplog.records] == [
        "source tiny/a started, listening on localhost:1",
        "source tiny/a is up",
        "source tiny/a is down: connection refused",
    ]


async def test_own_events_travel_with_the_others(
    make: Callable[..., SourceIntake], registry: CollectorRegistry
) -> None:
    """A gap is a WARN record that names its source and carries our resource, and a counter."""
    queue = TinyQueue()
    intake = make(queue)
    await intake.event("otelbee.source.gap", {"otelbee.gap.reason": "restart"})
    await intake.event("otelbee.source.loss", {})
    request = ExportLogsServiceRequest.FromString(queue.batches[0].data)
    record = request.resource_logs[0].scope_logs[0].log_records[0]
    attributes = {each.key: each.value.string_value for each in record.attributes}
    assert record.severity_number == 13
    assert record.event_name == "otelbee.source.gap"
    assert attributes["otelbee.source.name"] == "tiny/a"
    assert attributes["otelbee.gap.reason"] == "restart"
    resource = {each.key: each.value.string_value for each in request.resource_logs[0].resource.attributes}
    assert (resource["host.name"], resource["team"]) == ("node-a", "a")
    assert queue.batches[0].parts[0].source == "tiny/a"
    assert registry.get_sample_value("otelbee_source_gaps_total", {"receiver": "tiny/a"}) == 1
    labels = {"receiver": "tiny/a", "name": "otelbee.source.loss"}
    assert registry.get_sample_value("otelbee_source_counted_records_total", labels) == 1
    assert queue.batches[0].signal is Signal.LOGS


async def test_closing_ends_a_pause_quietly(make: Callable[..., SourceIntake]) -> None:
    """An emit that is cancelled while it waits leaves no timer that would speak later."""
    queue = TinyQueue(capacity=1)
    intake = make(queue)
    await intake.emit("line", [b"a"], Origin(), wait=True)
    emitting = asyncio.create_task(intake.emit("line", [b"b"], Origin(), wait=True))
    await until(lambda: intake.current.paused)
    emitting.cancel()
    await asyncio.wait([emitting])
    intake.close()
    assert queue.held == 1


async def test_derived_batches_are_put_apart(make: Callable[..., SourceIntake], registry: CollectorRegistry) -> None:
    """What is derived never holds up what it is derived from: without room it is dropped and counted."""
    queue = TinyQueue(capacity=3)
    intake = make(queue, DerivingTranslator())
    outcome = await intake.emit("line", [b"a"], Origin(), wait=True)
    assert outcome.accepted == 1
    assert [batch.signal for batch in queue.batches] == [Signal.LOGS, Signal.TRACES]
    assert queue.batches[1].parts == (("tiny/a", 1, 17),)
    outcome = await intake.emit("line", [b"b"], Origin(), wait=True)
    assert outcome.accepted == 1
    assert [batch.signal for batch in queue.batches] == [Signal.LOGS, Signal.TRACES, Signal.LOGS]
    value = registry.get_sample_value
    assert value("otelbee_receiver_accepted_spans_total", {"receiver": "tiny/a"}) == 1
    dropped = {"data_type": "traces", "reason": "traces_queue_full"}
    assert value("otelbee_dropped_items_total", dropped) == 1
    await queue.deliver()
    await intake.emit("line", [b"c"], Origin(), wait=True)
    assert [batch.signal for batch in queue.batches] == [Signal.LOGS, Signal.TRACES]


async def test_nothing_is_derived_of_what_was_refused(make: Callable[..., SourceIntake]) -> None:
    """Who comes again with refused records brings what is derived of them, too."""
    queue = TinyQueue(capacity=1)
    intake = make(queue, DerivingTranslator())
    await intake.emit("line", [b"a"], Origin(), wait=True)
    with pytest.raises(QueueFull):
        await intake.emit("line", [b"b"], Origin(), wait=False)
    assert [batch.signal for batch in queue.batches] == [Signal.LOGS]


async def test_dropping_is_said_once(make: Callable[..., SourceIntake], caplog: pytest.LogCaptureFixture) -> None:
    """A queue at its limit would have it said over and over."""
    intake = make(TinyQueue(capacity=3), DerivingTranslator())
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            await intake.emit("line", [b"a"], Origin(), wait=True)
    (said,) = caplog.messages
    assert said == "source tiny/a begins to drop traces made of its records: their queue is full"


def gaps(queue: TinyQueue) -> list[dict[str, str]]:
    """The attributes of every gap in the queue."""
    return [
        {each.key: each.value.string_value for each in record.attributes}
        for batch in queue.batches
        for resource in ExportLogsServiceRequest.FromString(batch.data).resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
        if record.event_name == "otelbee.source.gap"
    ]


async def test_each_start_of_a_stream_is_a_gap(make: Callable[..., SourceIntake]) -> None:
    """Before the first event after a start, from the newest event there is; "unknown" where there is none."""
    queue = TinyQueue()
    intake = make(queue, gap_since_ns=0)
    intake.started(None)
    await intake.emit("line", [b"bad"], Origin(), wait=True)
    assert not queue.batches, "no event, no gap"
    for _ in range(2):
        await intake.emit("line", [b"a"], Origin(), wait=True)
    intake.started(None)
    await intake.emit("line", [b"b"], Origin(), wait=True)
    assert [(gap["otelbee.gap.from"], gap["otelbee.gap.reason"]) for gap in gaps(queue)] == [
        ("unknown", "otelbee was started"),
        ("1970-01-01T00:00:00.000000Z", "the source was restarted"),
    ]
    assert [len(batch.parts) == 1 and batch.parts[0].newest_event_ns for batch in queue.batches] == [0, 17, 17, 0, 17]


async def test_the_gap_begins_where_the_last_run_ended(make: Callable[..., SourceIntake]) -> None:
    """The time that storage kept; an event from the future does not move it beyond now."""
    queue = TinyQueue()
    intake = make(queue, gap_since_ns=1_700_000_000_123_456_789)
    intake.started(None)
    await intake.emit("line", [b"a"], Origin(), wait=True)
    assert gaps(queue)[0]["otelbee.gap.from"] == "2023-11-14T22:13:20.123457Z"


async def test_what_is_no_stream_has_no_gap(make: Callable[..., SourceIntake]) -> None:
    """A source whose peer keeps what was missed reports nothing at its start."""
    queue = TinyQueue()
    intake = make(queue)
    intake.started(None)
    await intake.emit("line", [b"a"], Origin(), wait=True)
    assert not gaps(queue)


async def test_a_gap_that_could_not_be_queued_is_reported_again(make: Callable[..., SourceIntake]) -> None:
    """A start whose gap was cancelled while it waited for room still owes it."""
    queue = TinyQueue(capacity=1)
    intake = make(queue, gap_since_ns=0)
    await intake.event("otelbee.source.loss", {})
    intake.started(None)
    emitting = asyncio.create_task(intake.emit("line", [b"a"], Origin(), wait=True))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    emitting.cancel()
    await asyncio.wait([emitting])
    await queue.deliver()
    emitting = asyncio.create_task(intake.emit("line", [b"a"], Origin(), wait=True))
    await until(lambda: gaps(queue))
    await queue.deliver()
    await emitting
