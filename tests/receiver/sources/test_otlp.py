"""The ``otlp`` source against real clients: what is taken, how it is answered, and who is known."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from io import BytesIO
from typing import TYPE_CHECKING, Any

import aiohttp
import grpc
import grpc.aio
import pytest
import zstandard
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from pydantic import ValidationError

from receiver.errors import StartError
from receiver.memory import MemoryGuard
from receiver.net.retry_info import DETAILS_KEY, retry_after_s
from receiver.sources.otlp import Config
from tests.receiver.sources.pushed import BOTH, Running, attributes_of, export, logs, running
from tests.receiver.tiny import until
from translators.batch import Signal
from translators.pb.status_pb2 import Status

if TYPE_CHECKING:
    from pathlib import Path

HTTP = {"http": {"endpoint": "127.0.0.1:0"}}
GRPC = {"grpc": {"endpoint": "127.0.0.1:0"}}
PROTOBUF = {"Content-Type": "application/x-protobuf"}


async def post(
    source: Running, data: Any, headers: dict[str, str] | None = None, path: str = "/v1/logs", **options: Any
) -> tuple[int, Any, bytes]:
    """Post once; status, headers and body of the answer."""
    body = BytesIO(data) if isinstance(data, bytes) else data  # aiohttp warns of large bytes
    async with (
        aiohttp.ClientSession() as session,
        session.post(source.url(path), data=body, headers={**PROTOBUF, **(headers or {})}, **options) as answer,
    ):
        return answer.status, answer.headers, await answer.read()


def requests() -> dict[str, bytes]:
    """A request of every signal with two items."""
    traces = ExportTraceServiceRequest()
    traces.resource_spans.add().scope_spans.add().spans.add(name="one")
    traces.resource_spans[0].scope_spans[0].spans.add(name="two")
    metrics = ExportMetricsServiceRequest()
    points = metrics.resource_metrics.add().scope_metrics.add().metrics.add(name="m").gauge.data_points
    points.add(as_int=1)
    points.add(as_int=2)
    return {"logs": logs(2), "traces": traces.SerializeToString(), "metrics": metrics.SerializeToString()}


@pytest.mark.parametrize("signal", ["logs", "traces", "metrics"])
async def test_both_protocols_take_every_signal_as_it_is(signal: str) -> None:
    """The queue has the very bytes that were sent, counted, and the answer is an empty success."""
    data = requests()[signal]
    async with running(BOTH) as source:
        assert await export(source.address("grpc"), data, signal=signal) == b""
        status, headers, body = await post(source, data, path=f"/v1/{signal}")
        assert (status, headers["Content-Type"], body) == (200, "application/x-protobuf", b"")
        assert [(batch.signal, batch.items, batch.data) for batch in source.queue.batches] == [
            (Signal(signal), 2, data)
        ] * 2
        assert source.queue.batches[0].parts[0].source == "otlp"


async def test_an_empty_request_is_a_success() -> None:
    """Nothing is queued for it."""
    async with running(BOTH) as source:
        assert await export(source.address("grpc"), b"") == b""
        assert (await post(source, b""))[0] == 200
        assert (await post(source, logs(0)))[0] == 200
        assert not source.queue.batches


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(logs(50))),
        ("zstd", zstandard.ZstdCompressor().compress(logs(50))),
        ("deflate", zlib.compress(logs(50))),
        ("GZIP", gzip.compress(logs(50))),
        ("identity", logs(50)),
    ],
    ids=["gzip", "zstd", "deflate", "GZIP", "identity"],
)
async def test_http_bodies_may_be_compressed(encoding: str, body: bytes) -> None:
    """With the encodings that the Collector's exporters offer."""
    async with running(HTTP) as source:
        assert (await post(source, body, {"Content-Encoding": encoding}))[0] == 200
        assert source.queue.batches[0].data == logs(50)


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_grpc_messages_may_be_compressed(compression: grpc.Compression) -> None:
    """GRPC decompresses by itself."""
    async with running(GRPC) as source:
        await export(source.address("grpc"), logs(500), compression=compression)
        assert source.queue.batches[0].data == logs(500)


async def test_a_large_compressed_body_passes_and_leaves_no_room_taken() -> None:
    """What takes long is decompressed and checked beside the event loop."""
    data = logs(20_000, "y" * 100)
    async with running(HTTP) as source:
        assert (await post(source, gzip.compress(data, 1), {"Content-Encoding": "gzip"}))[0] == 200
        assert (await post(source, data))[0] == 200
        assert [batch.items for batch in source.queue.batches] == [20_000] * 2


async def test_only_large_requests_are_checked_beside_the_event_loop() -> None:
    """A thread costs more than a small request."""
    async with running(GRPC) as source:
        await export(source.address("grpc"), logs(100))
        assert source.intake._worker is not None
        assert not source.intake._worker._threads
        await export(source.address("grpc"), logs(20_000, "y" * 20))
        assert len(source.intake._worker._threads) == 1
        assert [batch.items for batch in source.queue.batches] == [100, 20_000]


async def test_a_chunked_body_passes() -> None:
    """A body need not say its length beforehand."""

    async def chunks() -> Any:
        data = logs(5000)
        for begin in range(0, len(data), 999):
            yield data[begin : begin + 999]

    async with running(HTTP) as source:
        assert (await post(source, chunks()))[0] == 200
        assert source.queue.batches[0].items == 5000


async def test_a_client_that_asks_first_is_told_to_go_on() -> None:
    """``Expect: 100-continue``, as curl sends it with large bodies."""
    async with running(HTTP) as source:
        assert (await post(source, logs(1), expect100=True))[0] == 200


async def test_a_malformed_request_is_told_where() -> None:
    """INVALID_ARGUMENT and 400, both final, with the byte."""
    async with running(BOTH) as source:
        with pytest.raises(grpc.aio.AioRpcError, match=r"no OTLP logs request: field 1 at byte 0") as caught:
            await export(source.address("grpc"), logs()[:-1])
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        status, headers, body = await post(source, logs()[:-1])
        assert (status, headers["Content-Type"]) == (400, "application/x-protobuf")
        message = Status.FromString(body)
        assert message.code == 3
        assert message.message.startswith("no OTLP logs request: field 1 at byte 0 needs")
        assert source.refused("malformed") == 2


async def test_a_full_queue_says_when_to_come_back() -> None:
    """UNAVAILABLE with RetryInfo; 503 with Retry-After and the same Status as body."""
    async with running(BOTH, capacity=1) as source:
        await export(source.address("grpc"), logs())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await export(source.address("grpc"), logs())
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        details = dict(caught.value.trailing_metadata())[DETAILS_KEY]
        assert isinstance(details, bytes)
        assert retry_after_s(details) == 1
        status, headers, body = await post(source, logs())
        assert (status, headers["Retry-After"], retry_after_s(body)) == (503, "1", 1)
        assert source.refused("busy") == 2
        await source.queue.deliver()
        assert (await post(source, logs()))[0] == 200


async def test_more_than_the_queue_can_ever_hold_is_final() -> None:
    """RESOURCE_EXHAUSTED without RetryInfo, which clients do not retry; 413."""
    async with running(BOTH, capacity=1) as source:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await export(source.address("grpc"), logs(2))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert DETAILS_KEY not in dict(caught.value.trailing_metadata())
        status, headers, _ = await post(source, logs(2))
        assert status == 413
        assert "Retry-After" not in headers


async def test_larger_than_the_limit_is_final() -> None:
    """Compressed or not, by both protocols."""
    data = logs(1, "z" * (5 << 20))
    protocols = {"grpc": GRPC["grpc"], "http": {"endpoint": "127.0.0.1:0", "max_request_body_size": "4MiB"}}
    async with running(protocols) as source:
        for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
            with pytest.raises(grpc.aio.AioRpcError, match="larger than max") as caught:
                await export(source.address("grpc"), data, compression=compression)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (await post(source, data))[0] == 413
        assert (await post(source, gzip.compress(data), {"Content-Encoding": "gzip"}))[0] == 413
        assert not source.queue.batches


@pytest.mark.parametrize(
    ("headers", "status", "says"),
    [
        (
            {"Content-Type": "application/json"},
            415,
            "'application/json' is not supported yet; use application/x-protobuf",
        ),
        ({"Content-Type": "text/plain"}, 415, "'text/plain' is not supported; use application/x-protobuf"),
        ({"Content-Encoding": "br"}, 415, "'br' is not supported; use gzip, zstd, deflate or none"),
        ({"Content-Encoding": "gzip"}, 400, "the body is no gzip"),
        ({"Content-Type": "application/x-protobuf; x=y"}, 200, ""),
    ],
)
async def test_what_is_not_understood_is_said(headers: dict[str, str], status: int, says: str) -> None:
    """JSON comes later; its senders get JSON."""
    async with running(HTTP) as source:
        answered, answer, body = await post(source, logs(), headers)
        assert (answered, says.encode() in body) == (status, True)
        wanted = "json" if headers.get("Content-Type") == "application/json" else "x-protobuf"
        assert wanted in answer["Content-Type"]


async def test_other_paths_and_methods() -> None:
    """404 names the paths, 405 the method; profiles come later."""
    async with running(BOTH) as source, aiohttp.ClientSession() as session:
        status, _, body = await post(source, logs(), path="/v1development/profiles")
        assert (status, b"/v1/traces" in body) == (404, True)
        async with session.get(source.url()) as answer:
            assert (answer.status, answer.headers["Allow"], answer.headers["Server"]) == (405, "POST", "otelbee")
        async with grpc.aio.insecure_channel(source.address("grpc")) as channel:
            call: Any = channel.unary_unary(
                "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export"
            )
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(b"")
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_short_memory_refuses_before_the_body_is_read() -> None:
    """And ends with the shortage."""
    resident = 200
    guard = MemoryGuard(100, lambda: 1, resident_bytes=lambda: resident, check_s=0.01)
    async with guard, running(BOTH, memory=guard) as source:
        await until(lambda: guard.refusing)
        with pytest.raises(grpc.aio.AioRpcError, match="memory is short here") as caught:
            await export(source.address("grpc"), logs())
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        status, headers, _ = await post(source, logs())
        assert (status, headers["Retry-After"]) == (503, "5")
        resident = 50
        await until(lambda: not guard.refusing)
        assert (await post(source, logs()))[0] == 200


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """A file of two tokens."""
    path = tmp_path / "tokens"
    path.write_text("alice:token-of-alice\nbob:token-of-bob\n")
    path.chmod(0o600)
    return path


def with_auth(tokens: Path, kind: str = "bearertokenauth") -> dict[str, Any]:
    """Both protocols with the same file of secrets."""
    auth = {kind: {"filename": str(tokens)}}
    return {protocol: {**section, "auth": auth} for protocol, section in BOTH.items()}


async def test_a_known_sender_is_named_in_its_data(tokens: Path) -> None:
    """``otelbee.tenant`` is its name, and a forged one is gone."""
    async with running(with_auth(tokens)) as source:
        data = logs(1, **{"otelbee.tenant": "root", "service.name": "s"})
        await export(source.address("grpc"), data, metadata=(("authorization", "Bearer token-of-alice"),))
        await post(source, data, {"Authorization": "Bearer token-of-bob"})
        assert [attributes_of(batch.data) for batch in source.queue.batches] == [
            {"service.name": "s", "otelbee.tenant": "alice"},
            {"service.name": "s", "otelbee.tenant": "bob"},
        ]


@pytest.mark.parametrize("header", ["Bearer wrong", "Basic dG9rZW46eA==", ""])
async def test_an_unknown_sender_is_refused(tokens: Path, header: str, caplog: pytest.LogCaptureFixture) -> None:
    """UNAUTHENTICATED and 401 with a challenge; no secret is logged or answered."""
    async with running(with_auth(tokens)) as source:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await export(source.address("grpc"), logs(), metadata=(("authorization", header),))
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        status, headers, body = await post(source, logs(), {"Authorization": header} if header else {})
        assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
        assert Status.FromString(body).code == 16
        assert source.refused("unauthenticated") == 2
        assert not source.queue.batches
        assert "token-of" not in caplog.text + str(caught.value) + body.decode(errors="replace")


async def test_two_authorization_headers_are_refused(tokens: Path) -> None:
    """A proxy in between may have looked at the other one."""
    both = (("authorization", "Bearer token-of-alice"), ("authorization", "Bearer token-of-bob"))
    async with running(with_auth(tokens)) as source, aiohttp.ClientSession() as session:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await export(source.address("grpc"), logs(), metadata=both)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        headers = [*PROTOBUF.items(), *both]
        async with session.post(source.url(), data=logs(), headers=headers) as answer:
            assert answer.status == 401


async def test_names_and_passwords(tokens: Path) -> None:
    """Basic auth, by both protocols."""
    async with running(with_auth(tokens, "basicauth")) as source, aiohttp.ClientSession() as session:
        login = aiohttp.encode_basic_auth("alice", "token-of-alice")
        await export(source.address("grpc"), logs(), metadata=(("authorization", login),))
        async with session.post(source.url(), data=logs(), headers={**PROTOBUF, "Authorization": login}) as answer:
            assert answer.status == 200
        async with session.post(source.url(), data=logs(), headers=PROTOBUF) as answer:
            assert (answer.status, answer.headers["WWW-Authenticate"][:5]) == (401, "Basic")
        assert [attributes_of(batch.data) for batch in source.queue.batches] == [{"otelbee.tenant": "alice"}] * 2


async def test_headers_become_attributes() -> None:
    """Those that are named, in any case; without the header a forged attribute is removed all the same."""
    named = {"X-Scope-OrgID": "org"}
    async with running(BOTH, resource_headers=named) as source:
        await export(source.address("grpc"), logs(1, org="forged"), metadata=(("x-scope-orgid", "blue"),))
        await post(source, logs(), {"x-scope-orgid": "grün"})
        await post(source, logs(1, org="forged", other="kept"), {"X-Other": "no"})
        assert [attributes_of(batch.data) for batch in source.queue.batches] == [
            {"org": "blue"},
            {"org": "grün"},
            {"other": "kept"},
        ]


async def test_a_taken_port_is_a_start_error() -> None:
    """It names the address, for both protocols."""
    async with running(BOTH) as source:
        for protocol in BOTH:
            taken = source.address(protocol)
            with pytest.raises(StartError, match=f"cannot listen on {taken}: another process listens there"):
                async with running({protocol: {"endpoint": taken}}):
                    pass


async def test_a_listener_for_other_machines_says_what_it_leaves_open(
    tokens: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Once at the start; on localhost there is nothing to say."""
    wide = {"endpoint": "0.0.0.0:0"}
    protocols = {"grpc": wide, "http": {**wide, "auth": {"bearertokenauth": {"filename": str(tokens)}}}}
    async with running(protocols), running(BOTH):
        warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == [
        "grpc 0.0.0.0:0 can be reached from other machines, and anybody may send; set auth, or tls.client_ca_file",
        "http 0.0.0.0:0 receives secrets from other machines in plain text; set tls",
    ]


async def test_requests_under_way_end_when_the_source_stops() -> None:
    """What the queue has is acknowledged."""
    async with running(BOTH) as source:
        pushes = [asyncio.create_task(export(source.address("grpc"), logs())) for _ in range(20)]
        await until(lambda: len(source.queue.batches) >= 1)
    answers = await asyncio.gather(*pushes, return_exceptions=True)
    acknowledged = sum(answer == b"" for answer in answers)
    assert 1 <= acknowledged <= len(source.queue.batches)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({}, "Field required"),
        ({"protocols": {}}, "name at least one protocol"),
        ({"protocols": {"htttp": {}}}, "Extra inputs"),
        ({"protocols": {"grpc": {"max_recv_msg_size_mib": 65}}}, "less than or equal to 64"),
        (
            {"protocols": {"grpc": {"tls": {"cert_file": "c", "key_file": "k", "min_version": "1.3"}}}},
            "cannot refuse TLS 1.2",
        ),
        ({"protocols": {"http": {"tls": {"cert_file": "c"}}}}, "key_file"),
        ({"protocols": {"http": None}, "resource_headers": {"Authorization": "x"}}, "holds a secret"),
        ({"protocols": {"http": None}, "resource_headers": {"a b": "x"}}, "is no header name"),
        (
            {
                "protocols": {"grpc": {"auth": {"basicauth": {"filename": "/x"}}}},
                "resource_headers": {"a": "otelbee.tenant"},
            },
            "name of who is authenticated",
        ),
    ],
)
def test_mistakes_in_the_configuration(section: dict[str, Any], message: str) -> None:
    """Each says what is wrong."""
    with pytest.raises(ValidationError, match=message):
        Config.model_validate(section)


def test_a_protocol_is_on_when_its_key_is_there() -> None:
    """With the Collector's defaults but the ports."""
    config = Config.model_validate({"protocols": {"grpc": None}})
    assert config.protocols.http is None
    assert config.protocols.grpc is not None
    assert (config.protocols.grpc.endpoint, config.protocols.grpc.max_recv_msg_size_mib) == ("localhost:4319", 4)
    config = Config.model_validate(
        {"protocols": {"http": {"tls": {"cert_file": "c", "key_file": "k", "min_version": 1.3}}}}
    )
    assert config.protocols.grpc is None
    assert config.protocols.http is not None
    assert (config.protocols.http.endpoint, config.protocols.http.max_request_body_size) == ("localhost:4320", 20 << 20)
