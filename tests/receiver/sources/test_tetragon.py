"""The stream of a real gRPC server: connect, read, lose, come back."""

from __future__ import annotations

import asyncio
import contextlib
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import grpc
import pytest
from peers.processes import open_to_others

from receiver.errors import PermanentSourceError, StartError
from receiver.net.grpc import channel, unary
from receiver.net.tls import ClientTLS
from receiver.sources.tetragon import Config, Source
from receiver.sources.tetragon.source import GET_VERSION
from tests.receiver.net.certificates import Authority
from tests.receiver.sources.agent import IMPATIENT, Agent, Collected, event, running

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from pathlib import Path

    from tests.receiver.sources.agent import Context

GAP = "otelbee.source.gap"


async def test_events_arrive_in_order_over_a_unix_socket(tmp_path: Path) -> None:
    """Every message reaches the intake unchanged, in order, in batches of up to 256, with what is known of the peer."""
    sent = [event(number) for number in range(2000)]
    async with Agent(*sent) as agent:
        await agent.stop()
        await agent.start(f"unix:{tmp_path}/tetragon.sock")
        async with running(Config(endpoint=f"unix://{tmp_path}/tetragon.sock")) as intake:
            await intake.until(lambda: len(intake.records) == len(sent))
    assert intake.records == sent
    assert max(intake.batches) <= 256
    assert intake.kinds == {("protobuf", True)}
    assert {origin.peer_version for origin in intake.origins} == {"v1.7.0"}
    assert intake.states == [(True, f"connected to unix://{tmp_path}/tetragon.sock, Tetragon v1.7.0")]
    assert intake.events == []


async def test_a_silent_stream_counts_as_connected() -> None:
    """An agent without events sends not even headers; it is up all the same."""
    async with Agent() as agent, running(Config(endpoint=f"127.0.0.1:{agent.port}")) as intake:
        await intake.until_up("connected")
    assert intake.records == []


async def test_the_request_carries_filters_and_no_aggregation() -> None:
    """What is configured is asked for; the aggregation that loses events never is."""
    filters = {"helm_defaults": True, "allow": [{"event_set": ["PROCESS_EXEC"]}], "deny": [{"pid": [1]}]}
    config = {"endpoint": "", "filters": filters}
    async with Agent(event(1)) as agent:
        config["endpoint"] = f"127.0.0.1:{agent.port}"
        async with running(Config.model_validate(config)) as intake:
            await intake.until(lambda: bool(intake.records))
    (request,) = agent.requests
    assert not request.HasField("aggregation_options")
    assert [list(item.event_set) for item in request.allow_list] == [[1]]
    health, namespaces, pid = request.deny_list
    assert health.health_check.value is True
    assert list(namespaces.namespace) == ["", "cilium", "kube-system"]
    assert list(pid.pid) == [1]


async def test_tls_and_mutual_tls_with_another_authority(tmp_path: Path) -> None:
    """The wildcard certificate of Tetragon's chart works under the authority that config gives."""
    authority = Authority(tmp_path)
    server, client = authority.issue("*.tetragon-grpc.cilium.io"), authority.issue("otelbee.test")
    credentials = grpc.ssl_server_credentials(
        [(server.key_file.read_bytes(), server.cert_file.read_bytes())],
        authority.ca_file.read_bytes(),
        require_client_auth=True,
    )
    tls = ClientTLS(ca_file=authority.ca_file, cert_file=client.cert_file, key_file=client.key_file)
    async with Agent(event(1), credentials=credentials) as agent:
        config = Config(endpoint=f"127.0.0.1:{agent.port}", tls=tls, authority="node.tetragon-grpc.cilium.io")
        async with running(config) as intake:
            await intake.until(lambda: bool(intake.records))


@pytest.mark.parametrize(
    ("tls", "message"),
    [
        ({"insecure": True}, "closes the connection at once: it expects TLS or a client certificate"),
        ({}, r"the server's certificate is not signed by a known authority\): check tls.ca_file"),
        ({"ca_file": "ca.pem"}, "the server's certificate carries another name"),
        ({"ca_file": "ca.pem", "server_name_override": "agent.test"}, "expects TLS or a client certificate"),
    ],
)
async def test_tls_failures_name_the_remedy(tmp_path: Path, tls: dict[str, str], message: str) -> None:
    """Each way that TLS can fail has its own words."""
    authority = Authority(tmp_path)
    server = authority.issue("agent.test")
    credentials = grpc.ssl_server_credentials(
        [(server.key_file.read_bytes(), server.cert_file.read_bytes())],
        authority.ca_file.read_bytes(),
        require_client_auth=True,
    )
    if "ca_file" in tls:
        tls = {**tls, "ca_file": str(authority.ca_file)}
    async with Agent(credentials=credentials) as agent:
        config = Config(endpoint=f"127.0.0.1:{agent.port}", tls=ClientTLS.model_validate(tls))
        async with running(config) as intake:
            assert await intake.until_down(message.replace("\\", ""))


async def test_tls_against_plain_text_names_the_remedy() -> None:
    """An agent up to 1.7 speaks no TLS; the message says so."""
    async with Agent() as agent, running(Config(endpoint=f"127.0.0.1:{agent.port}", tls=ClientTLS())) as intake:
        await intake.until_down("the server does not speak TLS")


async def test_a_missing_tls_file_is_a_start_error(tmp_path: Path) -> None:
    """What is wrong on this machine ends the start, before the source says that it started."""
    intake = Collected()
    with pytest.raises(StartError, match="does not exist"):
        await Source(Config(endpoint="localhost:1", tls=ClientTLS(ca_file=tmp_path / "none"))).run(intake)
    assert not intake.has_started


async def test_a_restarted_agent_costs_exactly_one_gap() -> None:
    """A killed agent is waited for; its return is reported once, with when and why."""
    async with Agent(event(1)) as agent, running(Config(endpoint=f"127.0.0.1:{agent.port}")) as intake:
        await intake.until(lambda: len(intake.records) == 1)
        port = agent.port
        await agent.stop()
        await intake.until_down("closed the connection")
        await intake.until_down(f"nothing listens on 127.0.0.1:{port}")
        assert intake.events == []
        await agent.start(f"127.0.0.1:{port}")
        await intake.until(lambda: len(intake.records) == 2)
    ((name, attributes),) = intake.events
    assert name == GAP
    assert datetime.fromisoformat(str(attributes["otelbee.gap.from"])) < datetime.fromisoformat(
        str(attributes["otelbee.gap.to"])
    )
    assert "may have stopped or restarted" in str(attributes["otelbee.gap.reason"])
    assert [up for up, _ in intake.states] == [True, False, False, True]


async def test_each_loss_is_a_gap_of_its_own() -> None:
    """Two restarts are two gaps."""
    async with Agent(event(1)) as agent, running(Config(endpoint=f"127.0.0.1:{agent.port}")) as intake:
        for restarts in (1, 2):
            await intake.until(lambda seen=restarts: len(intake.records) == seen)
            port = agent.port
            await agent.stop()
            await agent.start(f"127.0.0.1:{port}")
        await intake.until(lambda: len(intake.records) == 3)
    assert [name for name, _ in intake.events] == [GAP, GAP]
    times = [str(attributes[f"otelbee.gap.{end}"]) for _, attributes in intake.events for end in ("from", "to")]
    assert times == sorted(set(times))


async def test_cancelled_by_the_agent_reconnects() -> None:
    """An agent that stops may answer CANCELLED; that is a loss like any other."""

    async def cancel(agent: Agent, context: Context) -> AsyncGenerator[bytes, None]:
        yield event(len(agent.requests))
        await context.abort(grpc.StatusCode.CANCELLED, "context canceled")

    async with Agent(script=cancel) as agent, running(Config(endpoint=f"127.0.0.1:{agent.port}")) as intake:
        await intake.until(lambda: len(intake.events) == 2)
    assert len(intake.records) >= 2


async def test_an_agent_that_ends_the_stream_in_good_order_is_read_again() -> None:
    """An end without an error is a loss too."""

    async def end(agent: Agent, context: Context) -> AsyncGenerator[bytes, None]:
        del context
        yield event(len(agent.requests))

    async with Agent(script=end) as agent, running(Config(endpoint=f"127.0.0.1:{agent.port}")) as intake:
        await intake.until(lambda: bool(intake.events))
    assert "ended the stream" in str(intake.events[0][1]["otelbee.gap.reason"])


async def test_a_socket_replaced_by_rename_is_found_again(tmp_path: Path) -> None:
    """The path is opened anew for each attempt, so another socket of the same name is read."""
    path = tmp_path / "tetragon.sock"
    release = asyncio.Event()

    async def until_released(agent: Agent, context: Context) -> AsyncGenerator[bytes, None]:
        del agent
        yield event(1)
        await release.wait()
        await context.abort(grpc.StatusCode.UNAVAILABLE, "stopping")

    old, new = Agent(script=until_released), Agent(event(2))
    await old.start(f"unix:{path}")
    await new.start(f"unix:{path}.new")
    async with old, new, running(Config(endpoint=f"unix://{path}")) as intake:
        await intake.until(lambda: len(intake.records) == 1)
        (tmp_path / "tetragon.sock.new").rename(path)
        release.set()
        await intake.until(lambda: len(intake.records) == 2)
        path.rename(tmp_path / "tetragon.sock.new")  # gRPC unlinks what it bound
    assert intake.records == [event(1), event(2)]
    assert [name for name, _ in intake.events] == [GAP]


async def test_a_missing_socket_appears(tmp_path: Path) -> None:
    """Without the socket the message says what to start or mount; once it is there, it is read, without a gap."""
    path = tmp_path / "tetragon.sock"
    async with Agent(event(1)) as agent, running(Config(endpoint=f"unix://{path}")) as intake:
        reason = await intake.until_down("does not exist")
        assert f"start the agent with this --server-address, or mount {tmp_path} here" in reason
        await agent.stop()
        await agent.start(f"unix:{path}")
        await intake.until(lambda: bool(intake.records))
    assert intake.events == []
    assert [up for up, _ in intake.states] == [False, True]


async def test_a_stale_socket_and_a_file_are_told_apart(tmp_path: Path) -> None:
    """Nobody behind a socket is another matter than no socket at all."""
    reader = await asyncio.start_unix_server(lambda *_: None, tmp_path / "stale.sock")
    reader.close()
    await reader.wait_closed()
    (tmp_path / "file").touch()
    async with running(Config(endpoint=f"unix://{tmp_path}/stale.sock")) as intake:
        await intake.until_down("nobody listens on")
    async with running(Config(endpoint=f"unix://{tmp_path}/file")) as intake:
        await intake.until_down("is not a socket: correct endpoint")


async def test_a_socket_that_may_not_be_opened_names_both_remedies(tmp_path: Path) -> None:
    """The agent's socket is root's, 0660: the message names owner, mode, the group and the other user."""
    path = tmp_path / "tetragon.sock"
    root = os.geteuid() == 0
    async with Agent(event(1)) as agent:
        await agent.stop()
        await agent.start(f"unix:{path}")
        path.chmod(0o600 if root else 0)  # root's group stays with the user that this test becomes
        if root:
            open_to_others(tmp_path)
            async with running(Config(endpoint=f"unix://{path}")) as intake:
                await intake.until(lambda: bool(intake.records))
            os.seteuid(65534)  # for every thread: glibc
        try:
            async with running(Config(endpoint=f"unix://{path}")) as intake:
                reason = await intake.until_down("may not be opened by uid")
        finally:
            if root:
                os.seteuid(0)
    assert f"it belongs to uid {path.stat().st_uid if path.exists() else os.geteuid()}" in reason
    assert "give otelbee the socket's group as a supplementary group, or run it as another user" in reason


async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A web server."""
    await reader.read(24)
    writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")


async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Random bytes, other ones each time."""
    await reader.read(24)
    writer.write(os.urandom(4000))


async def banner(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that speaks first."""
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
    await reader.read()


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that closes at once."""
    del reader, writer


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that takes all and says nothing."""
    del writer
    await reader.read(-1)


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        (http, "does not speak gRPC"),
        (garbage, "does not speak gRPC"),
        (banner, "does not speak gRPC"),
        (hang_up, "closes the connection at once"),
        (hang, "did not answer GetVersion within 0.5 s"),
    ],
)
async def test_another_service_is_reported_once_and_recovered_from(
    behaviour: Callable[..., Awaitable[None]], message: str
) -> None:
    """Whatever listens there, it is reported once, tried again with backoff, and forgotten when the agent comes."""
    connections: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}
    third = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections[writer] = asyncio.current_task()
        if len(connections) == 3:
            third.set()
        with contextlib.suppress(ConnectionError):
            await behaviour(reader, writer)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with Agent(event(1)) as agent, running(Config(endpoint=f"127.0.0.1:{port}")) as intake:
        async with asyncio.timeout(20):
            await third.wait()
        server.close()
        await server.wait_closed()
        await agent.stop()
        await agent.start(f"127.0.0.1:{port}")
        await intake.until(lambda: bool(intake.records))
    for writer in connections:
        writer.transport.abort()
    await asyncio.gather(*filter(None, connections.values()))
    assert sum(message in reason for _, reason in intake.states) == 1
    assert intake.states[-1][0] is True
    assert intake.events == []


async def test_grpc_without_tetragon_is_told_apart() -> None:
    """Another gRPC service, the agent's own health port for example, is not the agent."""
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with running(Config(endpoint=f"127.0.0.1:{port}")) as intake:
            await intake.until_down("speaks gRPC but not Tetragon's")
    finally:
        await server.stop(None)


async def test_a_reset_in_the_middle_of_a_message_is_a_loss(tmp_path: Path) -> None:
    """A connection that dies inside a message loses that message, and nothing before it."""
    upstream = f"{tmp_path}/agent.sock"
    small, large = event(1), event(2, size=1_000_000)
    connections: list[asyncio.Task[None] | None] = []
    arrived = asyncio.Event()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int) -> None:
        while limit > 0 and (data := await reader.read(min(limit, 65536))):
            writer.write(data)
            await writer.drain()
            limit -= len(data)

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass everything, but only 100 kB of the first stream; cut it when those have arrived."""
        connections.append(asyncio.current_task())
        limit = 100_000 if len(connections) == 2 else 1 << 40  # the first connection is that of GetVersion
        up_reader, up_writer = await asyncio.open_unix_connection(upstream)
        sending = asyncio.create_task(pump(reader, up_writer, 1 << 40))
        with contextlib.suppress(ConnectionError):
            await pump(up_reader, writer, limit)
        await arrived.wait()  # a reset discards what the other side has not read yet
        sending.cancel()
        with contextlib.suppress(asyncio.CancelledError, ConnectionError):
            await sending
        writer.transport.abort()
        up_writer.transport.abort()

    agent = await Agent(small, large).start(f"unix:{upstream}")
    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with agent:
        async with running(Config(endpoint=f"127.0.0.1:{port}")) as intake:
            await intake.until(lambda: len(intake.records) == 1)
            arrived.set()
            await intake.until(lambda: len(intake.records) == 3)
        server.close()
        await server.wait_closed()
    await asyncio.gather(*filter(None, connections))
    assert intake.records == [small, small, large]
    assert [name for name, _ in intake.events] == [GAP]


async def refuse(agent: Agent, context: Context) -> AsyncGenerator[bytes, None]:
    """What the agent answers to a filter that it cannot compile."""
    del agent
    await context.abort(grpc.StatusCode.UNKNOWN, "failed to compile CEL expression: undeclared reference to 'x'")
    yield b""


async def test_a_refused_filter_is_permanent() -> None:
    """Asking again would be refused again: the source ends with the agent's own words."""
    intake = Collected()
    async with Agent(script=refuse) as agent:
        config = Config.model_validate(
            {"endpoint": f"127.0.0.1:{agent.port}", "filters": {"allow": [{"cel_expression": ["x"]}]}}
        )
        with pytest.raises(PermanentSourceError, match=r"refuses filters: failed to compile CEL.*; correct filters"):
            await Source(config, IMPATIENT).run(intake)
    assert len(agent.requests) == 1
    assert [up for up, _ in intake.states] == [False]


async def test_unknown_without_filters_is_retried() -> None:
    """Where no filter was sent, none can have been refused."""
    third = asyncio.Event()

    async def refuse_thrice(agent: Agent, context: Context) -> AsyncGenerator[bytes, None]:
        if len(agent.requests) == 3:
            third.set()
        async for item in refuse(agent, context):
            yield item

    async with Agent(script=refuse_thrice) as agent, running(Config(endpoint=f"127.0.0.1:{agent.port}")) as intake:
        async with asyncio.timeout(20):
            await third.wait()
    assert [up for up, _ in intake.states] == [False]
    assert intake.events == []


async def test_unknown_after_events_is_retried() -> None:
    """A stream that has delivered was not refused, whatever ends it."""

    async def late(agent: Agent, context: Context) -> AsyncGenerator[bytes, None]:
        yield event(len(agent.requests))
        await context.abort(grpc.StatusCode.UNKNOWN, "something else")

    async with Agent(script=late) as agent:
        config = {"endpoint": f"127.0.0.1:{agent.port}", "filters": {"helm_defaults": True}}
        async with running(Config.model_validate(config)) as intake:
            await intake.until(lambda: bool(intake.events))


async def test_a_message_over_the_limit_names_the_key() -> None:
    """The event that is too large is lost with its stream; the message names the key to raise."""
    async with Agent(event(1), event(2, size=5000)) as agent:
        config = Config.model_validate({"endpoint": f"127.0.0.1:{agent.port}", "max_recv_msg_size": "1KiB"})
        async with running(config) as intake:
            reason = await intake.until_down("more than max_recv_msg_size (1024 bytes)")
            await intake.until(lambda: bool(intake.events))
    assert "raise max_recv_msg_size" in reason


async def test_a_full_queue_stops_the_agent_once_enough_is_read_ahead() -> None:
    """While the intake waits, reading goes on up to ``read_ahead``; then flow control holds the agent. None is lost."""
    sent = [event(number, size=50_000) for number in range(1000)]
    async with Agent(*sent) as agent:
        endpoint = f"127.0.0.1:{agent.port}"
        config = Config.model_validate({"endpoint": endpoint, "read_ahead": "8MiB"})
        async with running(config) as intake:
            intake.room.clear()
            await intake.until(lambda: intake.waiting)
            held = -1
            async with channel(endpoint, ClientTLS(insecure=True)) as other, asyncio.timeout(10):
                while intake.backlog_bytes() < 0.9 * (8 << 20):
                    await unary(other, GET_VERSION, b"", timeout_s=10)
                while held != agent.sent:  # until 50 calls have passed without one message more
                    held = agent.sent
                    for _ in range(50):
                        await unary(other, GET_VERSION, b"", timeout_s=10)
            assert agent.sent < len(sent)
            assert intake.backlog_capacity_bytes == 8 << 20
            assert intake.backlog_bytes() <= 8 << 20
            intake.room.set()
            await intake.until(lambda: len(intake.records) == len(sent))
            assert intake.backlog_bytes() == 0
    assert intake.records == sent
    assert intake.backlog_bytes() == 0


async def test_what_was_read_ahead_of_a_loss_is_delivered_and_the_gap_begins_at_the_loss() -> None:
    """The stream ends while the intake waits: every message that had arrived comes first, then the gap."""
    sent = [event(number, size=1000) for number in range(1000)]
    async with Agent(*sent) as agent, running(Config(endpoint=f"127.0.0.1:{agent.port}")) as intake:
        intake.room.clear()
        await intake.until(lambda: intake.waiting)
        async with asyncio.timeout(10), channel(f"127.0.0.1:{agent.port}", ClientTLS(insecure=True)) as other:
            while agent.sent < len(sent) or intake.backlog_bytes() < 1000 * (len(sent) - 256):
                await unary(other, GET_VERSION, b"", timeout_s=10)
        port = agent.port
        await agent.stop()
        stopped = datetime.now(UTC)
        await asyncio.sleep(0.3)
        intake.room.set()
        await intake.until_down("closed the connection")
        assert intake.records == sent
        await agent.start(f"127.0.0.1:{port}")
        await intake.until(lambda: len(intake.records) == 2 * len(sent))
    ((_, attributes),) = intake.events
    begun = datetime.fromisoformat(str(attributes["otelbee.gap.from"]))
    assert begun - stopped < timedelta(seconds=0.2)
