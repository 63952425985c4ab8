"""The OTLP/gRPC exporter against a real server."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import random
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from pydantic import ValidationError

from receiver.errors import Held, MessageTooLarge, Permanent, Retryable
from receiver.exporters import build
from receiver.exporters.otlp_grpc import METHODS, Config, Exporter, user_agent
from receiver.net.tls import ClientTLS
from tests.receiver.exporters.otlp_server import Answer, Server, request, serve
from translators.batch import Signal
from translators.pb.status_pb2 import Status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from receiver.telemetry import Telemetry

RETRYABLE = ["CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"]
REJECTED = ["UNKNOWN", "INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "FAILED_PRECONDITION", "INTERNAL"]
HELD = {
    "UNAUTHENTICATED": "check the token",
    "PERMISSION_DENIED": "allow it there",
    "UNIMPLEMENTED": "has no logs pipeline",
    "RESOURCE_EXHAUSTED": "a quota or a limit",
}


def settings(server: Server, **options: Any) -> Config:
    """Plain text to ``server``."""
    return Config(**{"endpoint": server.endpoint, "tls": ClientTLS(insecure=True), **options})


@pytest.fixture
async def exporter(server: Server, telemetry: Telemetry) -> AsyncIterator[Exporter]:
    """An exporter to the scripted server that connects at once."""
    exporter = Exporter(settings(server), telemetry, first_connection_spread_s=0)
    yield exporter
    await exporter.close()


@pytest.mark.parametrize("signal", Signal)
async def test_request_arrives_as_the_bytes_it_is(server: Server, exporter: Exporter, signal: Signal) -> None:
    """Every signal goes to its own method, byte for byte."""
    batch = request(signal)
    await exporter.export(batch)
    assert [(seen.method, seen.data) for seen in server.requests] == [(METHODS[signal], batch.data)]


async def test_headers_and_user_agent_are_sent(server: Server, telemetry: Telemetry) -> None:
    """A header goes out under its name in lower case, and its value is not shown."""
    config = settings(server, headers={"X-Api-Key": "k-1"})
    exporter = Exporter(config, telemetry, first_connection_spread_s=0)
    await exporter.export(request())
    await exporter.close()
    metadata = server.requests[0].metadata
    assert metadata["x-api-key"] == "k-1"
    assert metadata["user-agent"].startswith(user_agent() + " ")
    assert "k-1" not in repr(config)


@pytest.mark.parametrize(("compression", "smaller"), [("none", False), ("gzip", True)])
async def test_compression(server: Server, telemetry: Telemetry, *, compression: str, smaller: bool) -> None:
    """With ``gzip`` fewer bytes are on the wire, and the server has the same request."""
    batch = request(records=500)
    async with counting_relay(server.port) as (port, sent):
        config = settings(Server(port), compression=compression)
        exporter = Exporter(config, telemetry, first_connection_spread_s=0)
        await exporter.export(batch)
        await exporter.close()
    assert server.requests[0].data == batch.data
    assert (sum(sent) < len(batch.data)) is smaller


@contextlib.asynccontextmanager
async def counting_relay(port: int) -> AsyncIterator[tuple[int, list[int]]]:
    """A TCP relay to ``port``: its own port, and the sizes of what a client sent."""
    sent: list[int] = []
    connections: set[asyncio.Task[None]] = set()

    async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter, sizes: list[int]) -> None:
        while data := await source.read(65536):
            sizes.append(len(data))
            sink.write(data)
        sink.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", port)
        connections.add(asyncio.create_task(copy(reader, upstream_writer, sent)))
        connections.add(asyncio.create_task(copy(upstream_reader, writer, [])))

    listener = await asyncio.start_server(relay, "127.0.0.1", 0)
    yield listener.sockets[0].getsockname()[1], sent
    listener.close()
    await asyncio.gather(*connections)


@pytest.mark.parametrize("code", RETRYABLE)
async def test_retryable_status(server: Server, exporter: Exporter, code: str) -> None:
    """What the specification calls retryable is, with or without a delay."""
    server.script.append(Answer(grpc.StatusCode[code], "later"))
    with pytest.raises(Retryable, match=f"{code}: later") as caught:
        await exporter.export(request())
    assert caught.value.retry_after_s is None


@pytest.mark.parametrize(("code", "remedy"), HELD.items())
async def test_held_status(server: Server, exporter: Exporter, code: str, remedy: str) -> None:
    """What only a person can put right says how, RESOURCE_EXHAUSTED without RetryInfo included."""
    server.script.append(Answer(grpc.StatusCode[code], "no"))
    with pytest.raises(Held, match=f"{code}: no; ") as caught:
        await exporter.export(request())
    assert remedy in caught.value.remedy


async def test_remedy_names_the_signal(server: Server, exporter: Exporter) -> None:
    """A Collector without a traces pipeline is told from one without logs."""
    server.script.append(Answer(grpc.StatusCode.UNIMPLEMENTED, "unknown service"))
    with pytest.raises(Held, match="has no traces pipeline with this receiver: add one, or turn process_spans off"):
        await exporter.export(request(Signal.TRACES))


@pytest.mark.parametrize("code", REJECTED)
async def test_rejected_status(server: Server, exporter: Exporter, code: str) -> None:
    """Every other status refuses the request."""
    server.script.append(Answer(grpc.StatusCode[code], "no"))
    with pytest.raises(Permanent, match=f"{code}: no"):
        await exporter.export(request())


@pytest.mark.parametrize("code", ["UNAVAILABLE", "RESOURCE_EXHAUSTED"])
@pytest.mark.parametrize("delay_s", [0.0, 2.5])
async def test_retry_info_makes_retryable(server: Server, exporter: Exporter, code: str, delay_s: float) -> None:
    """RetryInfo carries the delay and makes RESOURCE_EXHAUSTED retryable, even with a delay of zero."""
    server.script.append(Answer(grpc.StatusCode[code], "busy", retry_delay_s=delay_s))
    with pytest.raises(Retryable) as caught:
        await exporter.export(request())
    assert caught.value.retry_after_s == delay_s


@pytest.mark.parametrize("details", [b"\xff\xff", Status(code=8, message="x").SerializeToString()])
async def test_status_details_without_retry_info(server: Server, exporter: Exporter, details: bytes) -> None:
    """Status details that are broken or speak of something else leave the status what it is."""
    server.script.append(Answer(grpc.StatusCode.RESOURCE_EXHAUSTED, "no", status_details=details))
    with pytest.raises(Held):
        await exporter.export(request())


@pytest.mark.parametrize(
    "details",
    [
        "grpc: received message larger than max (4194305 vs. 4194304)",
        "grpc: received message after decompression larger than max 4194304",
    ],
)
async def test_message_larger_than_max(server: Server, exporter: Exporter, details: str) -> None:
    """grpc-go's refusal of a large message is told from other exhaustion."""
    server.script.append(Answer(grpc.StatusCode.RESOURCE_EXHAUSTED, details))
    with pytest.raises(MessageTooLarge):
        await exporter.export(request())


async def test_real_limit_of_a_server_is_message_too_large(telemetry: Telemetry) -> None:
    """A server with a real limit refuses in words that are understood."""
    async with serve(Server(), **{"grpc.max_receive_message_length": 1000}) as server:
        exporter = Exporter(settings(server), telemetry, first_connection_spread_s=0)
        with pytest.raises(MessageTooLarge):
            await exporter.export(request(records=200))
        await exporter.close()


async def test_nobody_listens(telemetry: Telemetry, free_port: Callable[[], int]) -> None:
    """A refused connection is retryable."""
    exporter = Exporter(settings(Server(free_port())), telemetry, first_connection_spread_s=0)
    with pytest.raises(Retryable, match="UNAVAILABLE"):
        await exporter.export(request())
    await exporter.close()


async def test_partial_success_is_counted_and_reported_once(
    server: Server,
    exporter: Exporter,
    dropped: Callable[[Signal, str], float],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Rejected items are counted each time and logged when it begins, and again after a full success."""
    response = ExportLogsServiceResponse()
    response.partial_success.rejected_log_records = 2
    response.partial_success.error_message = "no body"
    partial = Answer(body=response.SerializeToString())
    server.script.extend([partial, partial, Answer(), partial])
    for _ in range(4):
        await exporter.export(request(records=3))
    assert dropped(Signal.LOGS, "rejected") == 6
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == ["Partial success response: logs, 2 items rejected: no body"] * 2


async def test_unreadable_answer_is_a_success(server: Server, exporter: Exporter) -> None:
    """The status decides; an answer that cannot be parsed only lacks its refinement."""
    server.script.append(Answer(body=b"\xff"))
    await exporter.export(request())


async def test_first_connection_is_spread(server: Server, telemetry: Telemetry) -> None:
    """The first export waits for a random share of the spread; those after it do not."""
    random.seed(0)
    expected_s = random.Random(0).uniform(0, 0.25)
    assert expected_s > 0.2
    exporter = Exporter(settings(server), telemetry, first_connection_spread_s=0.25)
    started_s = asyncio.get_running_loop().time()
    await exporter.export(request())
    assert server.requests[0].at_s - started_s >= expected_s
    async with asyncio.timeout(5):
        for _ in range(100):
            await exporter.export(request())
    await exporter.close()


async def test_dns_endpoint(server: Server, telemetry: Telemetry) -> None:
    """``dns:///`` resolves and connects."""
    exporter = Exporter(
        settings(server, endpoint=f"dns:///localhost:{server.port}"), telemetry, first_connection_spread_s=0
    )
    await exporter.export(request())
    await exporter.close()
    assert len(server.requests) == 1


async def test_stalled_server_is_retried_until_it_recovers(
    server: Server, telemetry: Telemetry, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that is silent costs one timeout; the batch arrives when it answers, and the logs say both."""
    caplog.set_level(logging.INFO)
    server.script.extend([Answer(silent=True), Answer(grpc.StatusCode.UNAVAILABLE, "starting")])
    config = settings(
        server,
        timeout=timedelta(milliseconds=200),
        retry_on_failure={"initial_interval": "10ms", "randomization_factor": 0},
    )
    exporter = build(config, telemetry, io.StringIO(), first_connection_spread_s=0)
    batch = request()
    await exporter.export(batch)
    await exporter.close()
    assert [seen.data for seen in server.requests] == [batch.data] * 3
    assert [record.getMessage() for record in caplog.records if record.name == "receiver.exporters.retry"] == [
        "Exporting failed; retrying: logs, first again in 0.0 s: no answer within 0.2 s",
        "Exporting recovered: logs",
    ]


async def test_server_that_restarts_is_found_again(telemetry: Telemetry) -> None:
    """A server that goes away and comes back on its port gets the batch."""
    state = Server()
    async with serve(state):
        config = settings(state, retry_on_failure={"initial_interval": "20ms", "multiplier": 1})
        exporter = build(config, telemetry, io.StringIO(), first_connection_spread_s=0)
        await exporter.export(request())
    waiting = asyncio.create_task(exporter.export(request(Signal.TRACES)))
    async with serve(state):
        await waiting
        await exporter.close()
    assert state.requests[-1].method == METHODS[Signal.TRACES]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"endpoint": "collector"}, "has no port"),
        ({"endpoint": "http://c:4317", "tls": {"ca_file": "/ca.pem"}}, "begins with http://"),
        ({"headers": {"grpc-x": "1"}}, "reserved by gRPC"),
        ({"headers": {"a b": "1"}}, "no header name"),
        ({"headers": {"x-bin": "1"}}, "binary header"),
        ({"headers": {"x": "secret\n"}}, "printable ASCII"),
        ({"sending_queue": {"queue_size": "1MiB"}}, "must not be smaller than batch.max_size"),
        ({"retry_on_failure": {"max_interval": "1s"}}, "must not be shorter than initial_interval"),
        ({"dead_letter": "dead.jsonl"}, "not an absolute path"),
        ({"timeout": "-1s"}, "not a duration"),
        ({"compression": "zstd"}, "'none' or 'gzip'"),
    ],
)
def test_wrong_setting_is_named(options: dict[str, Any], problem: str) -> None:
    """Settings that cannot work are refused with a reason, without showing a secret."""
    with pytest.raises(ValidationError, match=problem) as caught:
        Config(**{"endpoint": "localhost:4317", **options})
    assert "secret" not in str(caught.value)
