"""The three ends of an export: everything between the queue and a real server that answers as it is told."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from typing import TYPE_CHECKING

import grpc
import pytest

from receiver.errors import QueueFull
from receiver.exporters import held, otlp_grpc
from tests.receiver.exporters.otlp_server import Answer, Request, Server, request
from tests.receiver.exporters.running import NEVER, pipeline, until
from translators.batch import Batch, Signal
from translators.otlp import parse

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from prometheus_client import CollectorRegistry

    from receiver.telemetry import Telemetry

pytestmark = pytest.mark.timeout(20)


def success(_: Request) -> Answer:
    """Take everything."""
    return Answer()


def bodies(datas: list[bytes]) -> Counter[str]:
    """The bodies of the log records of some requests."""
    return Counter(
        record.body.string_value
        for data in datas
        for resource in parse(Signal.LOGS, data).resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    )


def taken(server: Server) -> Counter[str]:
    """The bodies that the server took."""
    return bodies([seen.data for seen in server.taken])


def refusing(*poison: str) -> Callable[[Request], Answer]:
    """Refuse every request that holds one of these records."""
    marks = [body.encode() + b"\x00" for body in poison]  # see records()

    def judge(seen: Request) -> Answer:
        return Answer(grpc.StatusCode.INVALID_ARGUMENT, "bad") if any(m in seen.data for m in marks) else Answer()

    return judge


def records(count: int) -> Batch:
    """A batch of so many log records with bodies ``record 0``, each followed by a zero byte, below one resource."""
    batch = request(records=count)
    message = parse(Signal.LOGS, batch.data)
    resource = message.resource_logs[0]
    resource.resource.attributes.add(key="host.name").value.string_value = "n" * 1000
    for record in resource.scope_logs[0].log_records:
        record.body.string_value += "\x00"
    return batch._replace(data=message.SerializeToString())


def lettered(registry: CollectorRegistry, reason: str) -> float:
    """How many log records are in ``dead_letter`` for a reason."""
    labels = {"data_type": "logs", "reason": reason}
    return registry.get_sample_value("otelbee_dead_letter_items_total", labels) or 0


async def test_one_poisoned_record_among_ten_thousand(
    server: Server, telemetry: Telemetry, registry: CollectorRegistry, tmp_path: Path
) -> None:
    """It alone is put aside; each of the others arrives once."""
    server.judge = refusing("record 7777")
    path = tmp_path / "dead.jsonl"
    async with pipeline(server.endpoint, telemetry, dead_letter=str(path)) as running:
        await (await running.put([records(10_000)], wait=True))
    assert taken(server) == Counter(f"record {n}\x00" for n in range(10_000) if n != 7777)
    assert len(server.requests) <= 64
    (line,) = map(json.loads, path.read_text().splitlines())
    (resource,) = line["resourceLogs"]
    assert resource["resource"]["attributes"][0]["key"] == "host.name"
    assert [r["body"]["stringValue"] for r in resource["scopeLogs"][0]["logRecords"]] == ["record 7777\x00"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert lettered(registry, "refused") == 1
    assert registry.get_sample_value("otelbee_exporter_send_failed_log_records_total") == 1
    assert registry.get_sample_value("otelbee_exporter_sent_log_records_total") == 9_999


async def test_without_dead_letter_it_is_dropped_and_counted(
    server: Server, telemetry: Telemetry, dropped: Callable[[Signal, str], float], caplog: pytest.LogCaptureFixture
) -> None:
    """Loss has a counter, a reason, and one line in the log however often it happens."""
    server.judge = refusing("record 3")
    async with pipeline(server.endpoint, telemetry) as running:
        for _ in range(3):
            await (await running.put([records(10)], wait=True))
    assert dropped(Signal.LOGS, "refused") == 3
    assert taken(server).total() == 27
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == [
        "Exporting failed; dropping data: logs, 1 items, refused: INVALID_ARGUMENT: bad"
    ]


async def test_most_of_what_is_good_is_delivered_when_requests_are_used_up(
    server: Server, telemetry: Telemetry, registry: CollectorRegistry, tmp_path: Path
) -> None:
    """With more poison than 64 requests can isolate, larger good pieces were tried first; nothing is lost."""
    server.judge = refusing(*(f"record {n * 1000 + 1}" for n in range(10)))
    path = tmp_path / "dead.jsonl"
    async with pipeline(server.endpoint, telemetry, dead_letter=str(path)) as running:
        await (await running.put([records(10_000)], wait=True))
    assert len(server.requests) <= 64
    assert taken(server).total() > 6_000
    assert taken(server).total() + lettered(registry, "refused") == 10_000


async def test_every_record_refused_costs_64_requests(
    server: Server, telemetry: Telemetry, registry: CollectorRegistry, tmp_path: Path
) -> None:
    """Not a request more; all of it is put aside, as records that can be read back; what comes next is delivered."""
    server.judge = lambda seen: Answer(grpc.StatusCode.INTERNAL, "no") if b"\x00" in seen.data else Answer()
    path = tmp_path / "dead.pb"
    async with pipeline(server.endpoint, telemetry, dead_letter={"path": str(path), "format": "proto"}) as running:
        await (await running.put([records(1_000)], wait=True))
        assert len(server.requests) == 64
        await (await running.put([request()], wait=True))
    assert taken(server) == {"record 0": 1}
    assert lettered(registry, "refused") == 1_000
    data, found = path.read_bytes(), []
    while data:
        size = int.from_bytes(data[:4], "big")
        found.append(data[4 : 4 + size])
        data = data[4 + size :]
    assert bodies(found) == Counter(f"record {n}\x00" for n in range(1_000))


async def test_single_record_refused_costs_two_requests(
    server: Server, telemetry: Telemetry, dropped: Callable[[Signal, str], float]
) -> None:
    """There is nothing to halve: the record, and an empty request."""
    server.judge = refusing("record 0")
    async with pipeline(server.endpoint, telemetry) as running:
        await (await running.put([records(1)], wait=True))
    assert [bool(seen.data) for seen in server.requests] == [True, False]
    assert dropped(Signal.LOGS, "refused") == 1


async def test_unreadable_request_that_is_refused(server: Server, telemetry: Telemetry, tmp_path: Path) -> None:
    """What is not even OTLP is refused, cannot be halved, and is still kept for people."""
    server.judge = lambda seen: Answer(grpc.StatusCode.INTERNAL, "no") if seen.data else Answer()
    path = tmp_path / "dead.jsonl"
    async with pipeline(server.endpoint, telemetry, dead_letter=str(path)) as running:
        await (await running.put([Batch(Signal.LOGS, 1, b"\x0a\xff", ())], wait=True))
    assert json.loads(path.read_text()) == {"malformed": {"signal": "logs", "request": "Cv8="}}


async def test_dead_letter_that_cannot_be_written(
    server: Server, telemetry: Telemetry, dropped: Callable[[Signal, str], float]
) -> None:
    """A full disk costs what is refused, and nothing else."""
    server.judge = refusing("record 1")
    async with pipeline(server.endpoint, telemetry, dead_letter="/dev/full") as running:
        await (await running.put([records(4)], wait=True))
    assert taken(server).total() == 3
    assert dropped(Signal.LOGS, "dead_letter_failed") == 1


async def test_refused_without_data_too_is_held(
    server: Server, telemetry: Telemetry, dropped: Callable[[Signal, str], float], caplog: pytest.LogCaptureFixture
) -> None:
    """A server that refuses even an empty request is broken; nothing is lost when it recovers."""
    server.judge = lambda _: Answer(grpc.StatusCode.INTERNAL, "broken")
    async with pipeline(server.endpoint, telemetry) as running:
        delivered = await running.put([records(100)], wait=True)
        await until(lambda: len(server.requests) >= 6)
        server.judge = success
        await delivered
    assert taken(server).total() == 100
    assert dropped(Signal.LOGS, "refused") == 0
    assert "look into the Collector's log" in caplog.text


async def test_server_that_breaks_during_the_search(
    server: Server, telemetry: Telemetry, dropped: Callable[[Signal, str], float]
) -> None:
    """Records that were refused by themselves while nothing was taken are not given up for it."""
    script = iter([Answer(grpc.StatusCode.INTERNAL, "x"), Answer()])  # the request, then the empty one
    server.judge = lambda _: next(script, Answer(grpc.StatusCode.INTERNAL, "broken"))
    async with pipeline(server.endpoint, telemetry) as running:
        delivered = await running.put([records(8)], wait=True)
        await until(lambda: len(server.requests) >= 24)
        server.judge = refusing("record 5")
        await delivered
    assert taken(server) == Counter(f"record {n}\x00" for n in range(8) if n != 5)
    assert dropped(Signal.LOGS, "refused") == 1


async def test_one_signal_held_while_others_flow(
    server: Server, telemetry: Telemetry, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a traces pipeline logs flow; spans wait, past max_elapsed_time, one request at a time, and then arrive."""

    def judge(seen: Request) -> Answer:
        return Answer(grpc.StatusCode.UNIMPLEMENTED, "unknown service") if "trace" in seen.method else Answer()

    def gauge() -> float:
        return registry.get_sample_value("otelbee_exporter_held", {"data_type": "traces"}) or 0

    caplog.set_level(logging.INFO)
    server.judge = judge
    options = {"retry_on_failure": {"max_elapsed_time": "1ms"}, "sending_queue": {"num_consumers": 4}}
    async with pipeline(server.endpoint, telemetry, **options) as running:
        spans = [await running.put([request(Signal.TRACES, 5)], wait=True)]
        await until(gauge)
        spans += [await running.put([request(Signal.TRACES)], wait=True) for _ in range(3)]
        for _ in range(5):
            await (await running.put([request()], wait=True))
        await until(lambda: len([seen for seen in server.requests if "trace" in seen.method]) >= 5)
        assert len({seen.data for seen in server.requests if "trace" in seen.method}) == 1
        assert not any(each.done() for each in spans)
        remedy = telemetry.remedies()[Signal.TRACES]
        server.judge = success
        for each in spans:
            await each
    assert "turn process_spans off" in remedy
    assert gauge() == 0
    assert registry.get_sample_value("otelbee_exporter_sent_spans_total") == 8
    assert [record.getMessage() for record in caplog.records if "traces" in record.getMessage()] == [
        f"Exporting traces is held; the queue keeps what comes: UNIMPLEMENTED: unknown service; {remedy}",
        "Exporting traces is held no more",
    ]


async def test_held_queue_pushes_back(server: Server, telemetry: Telemetry) -> None:
    """Nothing is dropped for its age; when the queue is full, senders are refused."""
    server.judge = lambda _: Answer(grpc.StatusCode.PERMISSION_DENIED, "no")
    sizes = {"queue_size": 4096, "batch": {"max_size": 2048, "flush_timeout": "10ms"}}
    async with pipeline(server.endpoint, telemetry, sending_queue=sizes) as running:
        await running.put([request(records=100)], wait=False)
        await until(telemetry.remedies)
        with pytest.raises(QueueFull):
            await running.put([request(records=200)], wait=False)
        server.judge = success
        await (await running.put([request()], wait=True))


async def test_stop_does_not_wait_for_what_is_held(
    server: Server, telemetry: Telemetry, dropped: Callable[[Signal, str], float]
) -> None:
    """A stop that has a lot of time counts what is held, and ends at once."""
    server.judge = lambda _: Answer(grpc.StatusCode.UNAUTHENTICATED, "no")
    async with pipeline(server.endpoint, telemetry, NEVER) as running:
        for _ in range(3):
            await running.put([request(records=2)], wait=True)
        await until(telemetry.remedies)
        await running.drain(3600)
    assert dropped(Signal.LOGS, "shutdown") == 6


async def test_wrong_token_for_a_while(server: Server, telemetry: Telemetry, tmp_path: Path) -> None:
    """Records wait for the right token, and leave as soon as it is in the file, though the next attempt is far."""
    token = tmp_path / "token"
    token.write_text("wrong\n")

    def judge(seen: Request) -> Answer:
        good = seen.metadata.get("authorization") == "Bearer right"
        return Answer() if good else Answer(grpc.StatusCode.UNAUTHENTICATED, "unknown token")

    server.judge = judge
    auth = {"bearertokenauth": {"filename": str(token)}}
    async with pipeline(server.endpoint, telemetry, NEVER, auth=auth) as running:
        delivered = await running.put([records(3)], wait=True)
        await until(telemetry.remedies)
        assert not delivered.done()
        fresh = tmp_path / "fresh"
        fresh.write_text("right")
        fresh.rename(token)
        await delivered
        token.write_text("")  # half-written: the token from before is still used
        await asyncio.sleep(1.1)  # files are looked at once a second
        await (await running.put([records(1)], wait=True))
    assert taken(server).total() == 4


@pytest.mark.parametrize(
    ("answer", "is_cut"),
    [
        (Answer(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy", retry_delay_s=0.3), False),
        (Answer(grpc.StatusCode.RESOURCE_EXHAUSTED, "grpc: received message larger than max (9 vs. 4)"), True),
        (Answer(grpc.StatusCode.RESOURCE_EXHAUSTED, "quota"), False),
    ],
    ids=["with RetryInfo", "larger than max", "without RetryInfo"],
)
async def test_resource_exhausted_is_three_things(
    server: Server, telemetry: Telemetry, answer: Answer, *, is_cut: bool
) -> None:
    """With RetryInfo it is retried, not before its delay; larger than max is cut; without it is held."""
    server.script.append(answer)
    async with pipeline(server.endpoint, telemetry) as running:
        await (await running.put([request(records=40)], wait=True))
    first, second = server.requests[:2]
    assert (len(second.data) < len(first.data)) is is_cut
    assert second.at_s - first.at_s >= (answer.retry_delay_s or 0)
    assert taken(server) == Counter(f"record {n}" for n in range(40))


async def test_first_request_goes_alone(server: Server, telemetry: Telemetry) -> None:
    """Until one has succeeded there is no second, however many consumers there are; afterwards there is."""
    server.script.append(Answer(silent=True))
    queue = {"num_consumers": 8, "batch": {"max_size": 1000, "flush_timeout": "10ms"}}
    async with pipeline(server.endpoint, telemetry, timeout="200ms", sending_queue=queue) as running:
        delivered = [await running.put([request(records=20)], wait=True) for _ in range(20)]
        await until(lambda: len(server.requests) >= 2)
        for each in delivered:
            await each
    # Of the 200 ms, the way of the first to the server is spent before it is seen there.
    assert server.requests[1].at_s - server.requests[0].at_s > 0.1
    assert taken(server).total() == 400


async def test_receiver_that_never_answers(server: Server, telemetry: Telemetry) -> None:
    """Each attempt ends at the timeout; the records arrive when there is an answer."""
    server.script.extend([Answer(silent=True)] * 3)
    async with pipeline(server.endpoint, telemetry, timeout="50ms") as running:
        await (await running.put([records(5)], wait=True))
    assert len(server.requests) == 4
    assert taken(server).total() == 5


async def test_times_of_what_is_held_follow_retry_on_failure() -> None:
    """At first up to max_interval, at last up to ten times it."""
    config = otlp_grpc.Config.model_validate({"endpoint": "localhost:1", "retry_on_failure": {"max_interval": "12s"}})
    assert held(config) == (12, 120)
