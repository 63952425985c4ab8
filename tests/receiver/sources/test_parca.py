"""The ``parca`` source against scripted agents: what is taken, how agents are answered, and what they do then."""

from __future__ import annotations

import asyncio
import gzip
from collections import Counter
from typing import TYPE_CHECKING, Any

import aiohttp
import grpc
import grpc.aio
import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import ExportProfilesServiceRequest
from peers import parca_agent
from peers.parca_agent import STORE, Agent, Frame, Line, Row

from receiver.memory import MemoryGuard
from receiver.net.retry_info import DETAILS_KEY, retry_after_s
from receiver.sources.parca.debuginfo import IN_PROGRESS, SHOULD_PATH
from tests.receiver.sources.served import BOTH, Running, serving
from tests.receiver.tiny import until
from tests.translators.parca_arrow import reverse
from translators.batch import Signal
from translators.pb.debuginfo_pb2 import ShouldInitiateUploadResponse
from translators.pb.profile_pb2 import Profile
from translators.pb.profilestore_pb2 import WriteArrowRequest, WriteRawRequest
from translators.pb.telemetry_pb2 import ReportPanicRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

NOW_NS = 1_752_500_000_000_000_000
MAIN = Frame(10, "cpython", lines=(Line("main", "/app/server.py", 10),))
ROWS = [
    Row(
        (("comm", "python3"), ("cpu", "1"), ("node", "a")),
        (Frame(4660, "native", "libc.so.6", "ab" * 20), MAIN),
        1,
        NOW_NS,
    ),
    Row((("comm", "python3"), ("cpu", "2"), ("node", "a")), (MAIN,), 1, NOW_NS + 9),
    Row((("comm", "kworker"), ("node", "a")), (), 1, NOW_NS + 5),
]


def profiles(source: Running) -> list[Row]:
    """Every row that the queue has."""
    return [
        row for batch in source.queue.batches if batch.signal is Signal.PROFILES for row in reverse.rows(batch.data)
    ]


def events(source: Running) -> list[dict[str, Any]]:
    """The attributes of the log records that the queue has."""
    requests = [ExportLogsServiceRequest.FromString(b.data) for b in source.queue.batches if b.signal is Signal.LOGS]
    records = [r for request in requests for r in request.resource_logs[0].scope_logs[0].log_records]
    return [
        {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in record.attributes}
        for record in records
    ]


async def refusal(call: Any) -> grpc.aio.AioRpcError:
    """How a call fails."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_a_batch_of_the_present_agent_is_taken() -> None:
    """``WriteArrow``: every row is queued as a sample before the agent is answered."""
    async with serving() as source, Agent(source.address()) as agent:
        await agent.write_arrow(parca_agent.v2(ROWS))
        assert Counter(profiles(source)) == Counter(ROWS)
        assert [batch.items for batch in source.queue.batches] == [3]


async def test_an_exchange_of_the_agent_before_is_taken() -> None:
    """``Write``: every stack is asked for, and the rows are those of one batch."""
    samples, stacks = parca_agent.v1(ROWS)

    def answer(ids: Sequence[bytes]) -> bytes:
        return parca_agent.locations([(each, stacks[each]) for each in ids])

    async with serving() as source, Agent(source.address()) as agent:
        assert set(await agent.write(samples, answer)) == set(stacks)
        assert Counter(profiles(source)) == Counter(ROWS)


async def test_a_stack_that_the_agent_forgot_says_so() -> None:
    """The agent writes one frame in its place; the sample stays."""
    samples, _ = parca_agent.v1(ROWS[1:2])

    def answer(ids: Sequence[bytes]) -> bytes:
        return parca_agent.locations([(each, None) for each in ids])

    async with serving() as source, Agent(source.address()) as agent:
        await agent.write(samples, answer)
        (row,) = profiles(source)
        assert [line.name for frame in row.stack for line in frame.lines] == ["missing stacktrace"]


async def test_a_complete_batch_in_an_exchange_needs_no_answer() -> None:
    """Files of offline mode hold schema v2 and are uploaded over ``Write``."""
    async with serving() as source, Agent(source.address()) as agent:
        assert await agent.write(parca_agent.v2(ROWS), None) == []
        assert Counter(profiles(source)) == Counter(ROWS)


async def test_an_exchange_that_ends_early_is_refused() -> None:
    """Nothing is queued of samples without stacks; an agent does not try again."""
    samples, _ = parca_agent.v1(ROWS)
    async with serving() as source, Agent(source.address()) as agent:
        error = await refusal(agent.write(samples, None))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "ended before its locations" in (error.details() or "")
        assert not source.queue.batches


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (b"\xff", "no WriteArrowRequest"),
        (b"", "no Arrow IPC stream"),
        (WriteArrowRequest(ipc_buffer=b"not arrow").SerializeToString(), "no Arrow IPC stream"),
        (WriteArrowRequest(ipc_buffer=parca_agent.v2(ROWS)[:-200]).SerializeToString(), "cut off"),
    ],
)
async def test_what_is_no_batch_is_refused_with_the_reason(message: bytes, says: str) -> None:
    """INVALID_ARGUMENT, so that the agent drops it; the next batch is taken."""
    async with serving() as source, Agent(source.address()) as agent:
        error = await refusal(agent.call(f"{STORE}/WriteArrow", message))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert says in (error.details() or "")
        assert source.refused("malformed") == 1
        await agent.write_arrow(parca_agent.v2(ROWS))
        assert len(profiles(source)) == 3


async def test_a_full_queue_is_waited_for() -> None:
    """UNAVAILABLE with RetryInfo; the agent keeps the batch and comes back with it."""
    async with serving(capacity=4) as source, Agent(source.address()) as agent:
        await agent.write_arrow(parca_agent.v2(ROWS))
        message = WriteArrowRequest(ipc_buffer=parca_agent.v2(ROWS)).SerializeToString()
        error = await refusal(agent.call(f"{STORE}/WriteArrow", message))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        details = dict(error.trailing_metadata() or ())[DETAILS_KEY]
        assert isinstance(details, bytes)
        assert retry_after_s(details) == 1
        again = asyncio.create_task(agent.write_arrow(parca_agent.v2(ROWS), backoff_s=0.05))
        await until(lambda: source.refused("busy") >= 2)
        await source.queue.deliver()
        await again
        assert len(profiles(source)) == 3


async def test_an_agent_is_put_off_for_so_long_and_then_told_to_drop() -> None:
    """FAILED_PRECONDITION after ``max_pushback``, counted; an acceptance begins anew."""
    async with serving(capacity=4, max_pushback="200ms") as source, Agent(source.address()) as agent:
        await agent.write_arrow(parca_agent.v2(ROWS))
        error = await refusal(agent.write_arrow(parca_agent.v2(ROWS), backoff_s=0.02))
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "max_pushback" in (error.details() or "")
        assert agent.ended["UNAVAILABLE"] >= 2
        assert (source.refused("overdue"), source.refused("busy")) == (1, agent.ended["UNAVAILABLE"])
        await source.queue.deliver()
        await agent.write_arrow(parca_agent.v2(ROWS))
        error = await refusal(agent.write_arrow(parca_agent.v2(ROWS), attempts=1))
        assert error.code() is grpc.StatusCode.UNAVAILABLE


async def test_no_room_in_memory_puts_agents_off_before_their_batch_is_read() -> None:
    """The guard of the process's memory counts as pushback too."""
    memory = MemoryGuard(100, lambda: 1, resident_bytes=lambda: 200, check_s=0.01)
    async with memory, serving(memory=memory) as source, Agent(source.address()) as agent:
        await until(lambda: memory.refusing)
        error = await refusal(agent.write_arrow(parca_agent.v2(ROWS), attempts=1))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert not source.queue.batches


async def test_more_than_the_queue_can_ever_hold_is_dropped() -> None:
    """Not RESOURCE_EXHAUSTED, with which an agent would come back until its deadline."""
    async with serving(capacity=2) as source, Agent(source.address()) as agent:
        error = await refusal(agent.write_arrow(parca_agent.v2(ROWS)))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert not source.queue.batches


async def test_debug_information_is_put_off_in_the_sentence_that_agents_know() -> None:
    """After any other answer an agent never asks again for an executable."""
    async with serving() as source, Agent(source.address()) as agent:
        answer = ShouldInitiateUploadResponse.FromString(await agent.call(SHOULD_PATH, b""))
        assert (answer.should_initiate_upload, answer.reason) == (False, IN_PROGRESS)


async def test_a_crash_that_an_agent_reports_is_a_log_record() -> None:
    """With its version and the end of what it wrote."""
    report = ReportPanicRequest(stderr="panic: oh\n", metadata={"agent_version": "0.49.0"})
    async with serving() as source, Agent(source.address()) as agent:
        await agent.call("/parca.telemetry.v1alpha1.TelemetryService/ReportPanic", report.SerializeToString())
        (event,) = events(source)
        assert event["otelbee.event.type"] == "otelbee.source.peer_panic"
        assert event["parca.agent.agent_version"] == "0.49.0"
        assert event["parca.agent.stderr"] == "panic: oh\n"


async def test_frames_without_names_are_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    """As a share, with the remedy, as soon as enough were seen."""
    rows = [Row((), (Frame(n, "native", "x", "ab" * 20), MAIN), 1, NOW_NS) for n in range(600)]
    async with serving() as source, Agent(source.address()) as agent:
        for _ in range(4):
            await agent.write_arrow(parca_agent.v2(rows))
        assert source.counted("unnamed_frames") == 2400
    (said,) = [message for message in caplog.messages if "no function name" in message]
    assert said.startswith("100 % of the frames")
    assert "debuginfo" in said


async def test_native_frames_get_a_name_where_it_is_asked_for() -> None:
    """File and address, for backends that hide frames without one."""
    async with serving(native_names="placeholder") as source, Agent(source.address()) as agent:
        await agent.write_arrow(parca_agent.v2(ROWS[:1]))
        ((native, _),) = (row.stack for row in profiles(source))
        assert [line.name for line in native.lines] == ["libc.so.6+0x1234"]


async def test_who_sends_becomes_the_tenant(tmp_path: Path) -> None:
    """A token's name, and headers that are allowed; a label cannot pretend to be it."""
    tokens = tmp_path / "tokens"
    tokens.write_text("blue:secret-of-blue\n")
    tokens.chmod(0o600)
    protocols = {"grpc": {"endpoint": "127.0.0.1:0", "auth": {"bearertokenauth": {"filename": str(tokens)}}}}
    rows = [ROWS[1]._replace(labels=(("otelbee.tenant", "red"),))]
    async with serving(protocols, resource_headers={"project": "parca.project"}) as source:
        async with Agent(source.address()) as agent:
            error = await refusal(agent.write_arrow(parca_agent.v2(rows)))
            assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        metadata = (("authorization", "Bearer secret-of-blue"), ("project", "p1"))
        async with Agent(source.address(), metadata) as agent:
            await agent.write_arrow(parca_agent.v2(rows))
        request = ExportProfilesServiceRequest.FromString(source.queue.batches[0].data)
        attributes = {each.key: each.value.string_value for each in request.resource_profiles[0].resource.attributes}
        assert attributes == {"otelbee.tenant": "blue", "parca.project": "p1"}


async def test_large_batches_beside_hostile_ones_are_unharmed(shared_data: Callable[..., Path]) -> None:
    """Refusals of some senders cost the others nothing but time."""
    good = shared_data("profiles", "arrow", "v2_big_lz4.arrows").read_bytes()
    bad = [good[:n] for n in (0, 100, 5000, 400_000)]
    async with serving(BOTH) as source, Agent(source.address()) as one, Agent(source.address()) as other:
        attempts = [refusal(one.write_arrow(each)) for each in bad]
        *errors, _, _ = await asyncio.gather(*attempts, other.write_arrow(good), other.write_arrow(good))
        assert {error.code() for error in errors} == {grpc.StatusCode.INVALID_ARGUMENT}
        assert [batch.items for batch in source.queue.batches if batch.signal is Signal.PROFILES] == [6080, 6080]


async def test_an_exchange_whose_first_part_is_hostile_is_refused() -> None:
    """Before anything is asked for."""
    async with serving() as source, Agent(source.address()) as agent:
        for record in (b"", b"x" * 100, parca_agent.v1(ROWS)[0][:-100]):
            error = await refusal(agent.write(record, None))
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert not source.queue.batches


def raw(*labels: tuple[str, str], profile: bytes | None = None) -> WriteRawRequest:
    """A ``WriteRawRequest`` of one small profile."""
    if profile is None:
        small = Profile(string_table=["", "samples", "count", "main"], time_nanos=NOW_NS)
        small.sample_type.add(type=1, unit=2)
        small.function.add(id=1, name=3)
        small.location.add(id=1).line.add(function_id=1)
        small.sample.add(location_id=[1], value=[7])
        profile = gzip.compress(small.SerializeToString())
    request = WriteRawRequest()
    series = request.series.add()
    for name, value in labels:
        series.labels.labels.add(name=name, value=value)
    series.samples.add(raw_profile=profile)
    return request


async def post(source: Running, data: Any, content_type: str = "application/json") -> tuple[int, Any]:
    """Post to the gateway's path; status and JSON of the answer."""
    url = f"http://{source.address('http')}/api/profiles/writeraw"
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=data, headers={"Content-Type": content_type}) as answer,
    ):
        return answer.status, await answer.json()


async def test_pprof_is_taken_over_both_protocols() -> None:
    """``WriteRaw``, as gRPC and as the gateway's JSON, in camelCase and in snake_case."""
    request = raw(("__name__", "process_cpu"), ("job", "shop"))
    async with serving(BOTH) as source, Agent(source.address()) as agent:
        await agent.call(f"{STORE}/WriteRaw", request.SerializeToString())
        for snake in (False, True):
            text = json_format.MessageToJson(request, preserving_proto_field_name=snake)
            assert await post(source, text) == (200, {})
        assert await post(source, "{}") == (200, {})
        assert [batch.items for batch in source.queue.batches] == [1] * 3
        assert len({batch.data for batch in source.queue.batches}) == 1
        found = ExportProfilesServiceRequest.FromString(source.queue.batches[0].data)
        attributes = {each.key: each.value.string_value for each in found.resource_profiles[0].resource.attributes}
        assert attributes["service.name"] == "shop"


async def test_pprof_that_is_none_is_refused_with_the_reason() -> None:
    """As INVALID_ARGUMENT and as the gateway's error."""
    request = raw(("__name__", "x"), profile=b"--- heap ---")
    async with serving(BOTH) as source, Agent(source.address()) as agent:
        error = await refusal(agent.call(f"{STORE}/WriteRaw", request.SerializeToString()))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        status, body = await post(source, json_format.MessageToJson(request))
        assert (status, body["code"], body["details"]) == (400, 3, [])
        assert body["message"] == error.details()
        for text in ("{", '{"series": 7}', '{"series": [{"samples": [{"rawProfile": 7}]}]}'):
            status, body = await post(source, text)
            assert (status, body["code"]) == (400, 3)
            assert "no WriteRawRequest in JSON" in body["message"]
        assert (await post(source, "{}", "text/plain"))[0] == 415
        assert not source.queue.batches


class Behind(grpc.GenericRpcHandler):
    """A server that wants debug information; it keeps what it is sent."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.calls: list[tuple[str, bytes]] = []
        self.fails: grpc.StatusCode | None = None

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        """Serve every method as a stream of messages and one answer."""

        async def answer(messages: Any, context: Any) -> bytes:
            received = b"".join([message async for message in messages])
            self.calls.append((details.method.rpartition("/")[2], received))
            if self.fails is not None:
                await context.abort(self.fails, "not so")
            return b"answer to " + received[:10]

        return grpc.stream_unary_rpc_method_handler(answer)


async def test_debug_information_is_handed_to_the_server_behind() -> None:
    """Questions, uploads in chunks, and how they end; while the server is away agents are put off."""
    behind, server = Behind(), grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers((behind,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    service = "/parca.debuginfo.v1alpha1.DebuginfoService"
    debuginfo = {"endpoint": f"127.0.0.1:{port}", "tls": {"insecure": True}}
    try:
        async with serving(debuginfo=debuginfo) as source, Agent(source.address()) as agent:
            for name in ("ShouldInitiateUpload", "InitiateUpload", "MarkUploadFinished"):
                assert await agent.call(f"{service}/{name}", b"x") == b"answer to x"
            upload: Any = agent._channel.stream_unary(f"{service}/Upload")
            chunks = [b"a" * (8 << 20), b"b" * 1000, b"c"]
            assert await upload(iter(chunks), timeout=20) == b"answer to aaaaaaaaaa"
            assert behind.calls[-1] == ("Upload", b"".join(chunks))
            behind.fails = grpc.StatusCode.ALREADY_EXISTS
            error = await refusal(agent.call(f"{service}/InitiateUpload", b"x"))
            assert (error.code(), error.details()) == (grpc.StatusCode.ALREADY_EXISTS, "not so")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await upload(iter(chunks[1:]), timeout=20)
            assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
            await server.stop(0)
            answer = ShouldInitiateUploadResponse.FromString(await agent.call(SHOULD_PATH, b"x"))
            assert (answer.should_initiate_upload, answer.reason) == (False, IN_PROGRESS)
    finally:
        await server.stop(0)
    assert [name for name, _ in behind.calls[:4]] == [
        "ShouldInitiateUpload",
        "InitiateUpload",
        "MarkUploadFinished",
        "Upload",
    ]
