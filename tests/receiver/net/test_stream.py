"""The stream over real connections: gRPC's own servers over TCP, unix sockets and TLS, and servers that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import grpc.aio
import pytest
from peers.http2_frames import GREETING, OK, OPEN, data, headers, message, raw
from peers.processes import TetragonPeer

from receiver.net import stream
from receiver.net.grpc import Target, parse_endpoint
from receiver.net.status import StreamError
from receiver.net.stream import open_stream
from receiver.recording import read_numbered

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

METHOD = "/test.Service/Watch"
CERTIFICATES = Path(__file__).parent / "certificates"
DEADLINE_S = 20.0

Handler = "Callable[[bytes, grpc.aio.ServicerContext[bytes, bytes]], AsyncIterator[bytes]]"


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition; fail with ``what`` was waited for."""
    end = asyncio.get_running_loop().time() + DEADLINE_S
    while not condition():
        assert asyncio.get_running_loop().time() < end, f"waited {DEADLINE_S:g} s until {what}"
        await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def grpc_server(
    address: str, handler: Handler, credentials: grpc.ServerCredentials | None = None
) -> AsyncIterator[str]:
    """A server of gRPC's own (C-core) with one method; yields its endpoint."""
    server = grpc.aio.server()
    method = grpc.unary_stream_rpc_method_handler(handler)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", {"Watch": method}),))
    port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    await server.start()
    try:
        yield address.replace(":0", f":{port}") if not address.startswith("unix:") else f"unix://{address[5:]}"
    finally:
        await server.stop(0)


@contextlib.asynccontextmanager
async def scripted_server(
    script: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    tls: ssl.SSLContext | None = None,
    path: Path | None = None,
) -> AsyncIterator[Target]:
    """A server on TCP, or a unix socket at ``path``, that treats connections by ``script``; yields its target."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await script(reader, writer)
        except (ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.transport.abort()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.create_task(serve(reader, writer)))

    if path is None:
        server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
        target = parse_endpoint(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
    else:
        server, target = await asyncio.start_unix_server(accept, path), parse_endpoint(f"unix://{path}")
    async with server:
        yield target
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def client_tls(*, certificate: bool = False, authority: bool = True) -> ssl.SSLContext:
    """The client's side of TLS, with the tests' own authority."""
    context = ssl.create_default_context(cafile=str(CERTIFICATES / "ca.pem") if authority else None)
    if certificate:
        context.load_cert_chain(CERTIFICATES / "client.pem", CERTIFICATES / "client.key")
    return context


def server_tls() -> ssl.SSLContext:
    """The server's side of TLS, for servers that are not gRPC's; offers no ALPN."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATES / "server.pem", CERTIFICATES / "server.key")
    return context


def server_credentials(*, mutual: bool = False) -> grpc.ServerCredentials:
    """The same for gRPC's server."""
    pair = (CERTIFICATES / "server.key").read_bytes(), (CERTIFICATES / "server.pem").read_bytes()
    return grpc.ssl_server_credentials([pair], (CERTIFICATES / "ca.pem").read_bytes() if mutual else None, mutual)


async def read_all(target: Target, request: bytes = b"", **options: object) -> list[bytes]:
    """Every message of a stream, which must end with OK."""
    messages: list[bytes] = []
    async with open_stream(target, METHOD, request, **options) as batches:
        async for batch in batches:
            assert 1 <= len(batch) <= 256
            messages += batch
    return messages


async def read_into(got: list[bytes], target: Target, method: str = METHOD) -> None:
    """Every message of a stream that fails, before its error."""
    async with open_stream(target, method, b"") as batches:
        async for batch in batches:
            got += batch


async def failure(target: Target, **options: object) -> StreamError:
    """The error of a stream that must fail."""
    with pytest.raises(StreamError) as caught:
        async with asyncio.timeout(DEADLINE_S):
            await read_all(target, **options)
    return caught.value


BODIES = [b"", b"a", b"b" * 600, b"c" * 16_379, b"d" * 16_380, b"e" * 300_000, *(b"f%d" % n for n in range(1000))]


async def echo_bodies(request: bytes, _context: object) -> AsyncIterator[bytes]:
    """Stream the request, then BODIES."""
    yield request
    for body in BODIES:
        yield body


@pytest.mark.parametrize("transport", ["tcp", "unix", "tls", "mtls", "unix+tls"])
async def test_gRPCs_own_server_is_read_over_every_transport(transport: str, tmp_path: Path) -> None:  # noqa: N802 - gRPC
    """All messages, of all sizes, once and in order, then the end."""
    secure = "tls" in transport
    address = f"unix:{tmp_path / 's'}" if "unix" in transport else "localhost:0"
    credentials = server_credentials(mutual=transport == "mtls") if secure else None
    async with grpc_server(address, echo_bodies, credentials) as endpoint:
        tls = client_tls(certificate=transport == "mtls") if secure else None
        # Larger than HTTP/2's initial window, so that the request too has to wait for WINDOW_UPDATE.
        request = b"r" * 200_000
        assert await read_all(parse_endpoint(endpoint), request, tls=tls) == [request, *BODIES]


async def test_a_message_larger_than_the_window_arrives() -> None:
    """The window bounds what waits, not what a message may have."""

    async def handler(_request: bytes, _context: object) -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * 1_000_000

    async with grpc_server("localhost:0", handler) as endpoint:
        assert await read_all(parse_endpoint(endpoint), window_bytes=65_535) == [b"x" * 1_000_000] * 3


async def test_metadata_authority_and_deadline_reach_the_server(tmp_path: Path) -> None:
    """What the caller set is what the server sees; a unix socket's authority is localhost."""
    seen: dict[str, object] = {}

    async def handler(_request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> AsyncIterator[bytes]:
        seen.update(context.invocation_metadata())
        seen["remaining"] = context.time_remaining()
        yield b""

    async with grpc_server(f"unix:{tmp_path / 's'}", handler) as endpoint:
        await read_all(parse_endpoint(endpoint), metadata=[("Authorization", "Bearer x")], timeout_s=50)
    assert seen["authorization"] == "Bearer x"
    assert str(seen["user-agent"]).startswith("otelbee/")
    assert 0 < float(str(seen["remaining"])) <= 50


async def test_a_status_and_its_text_are_the_servers() -> None:
    """Messages first, then the error with its code and words, percent-encoded on the way."""

    async def handler(_request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> AsyncIterator[bytes]:
        yield b"first"
        await context.abort(grpc.StatusCode.UNKNOWN, "bad filter: 100% é\n")

    got: list[bytes] = []
    async with grpc_server("localhost:0", handler) as endpoint:
        with pytest.raises(StreamError) as caught:
            await read_into(got, parse_endpoint(endpoint))
        assert got == [b"first"]
        error = caught.value
        assert (error.code, error.message, error.from_server) == ("UNKNOWN", "bad filter: 100% é\n", True)
        with pytest.raises(StreamError) as caught:
            await read_into(got, parse_endpoint(endpoint), "/test.Service/Other")
        assert (caught.value.code, caught.value.from_server) == ("UNIMPLEMENTED", True)


async def test_a_maximum_is_held_and_told() -> None:
    """A message above the maximum ends the call; both sizes are in the text."""
    async with grpc_server("localhost:0", echo_bodies) as endpoint:
        error = await failure(parse_endpoint(endpoint), max_message_bytes=100_000)
    assert error.code == "RESOURCE_EXHAUSTED"
    assert "300000 bytes, above the maximum of 100000" in error.message


async def test_nobody_there_is_an_os_error(tmp_path: Path, free_port: Callable[[], int]) -> None:
    """A refused connection and a missing socket are told apart by the operating system's own errors."""
    with pytest.raises(ConnectionRefusedError):
        await read_all(parse_endpoint(f"127.0.0.1:{free_port()}"))
    with pytest.raises(FileNotFoundError):
        await read_all(parse_endpoint(f"unix://{tmp_path / 'none'}"))


# Life


@pytest.mark.parametrize("transport", ["tcp", "tls"])
async def test_leaving_cancels_the_call(transport: str) -> None:
    """The server learns at once that nobody reads any more."""
    cancelled = asyncio.Event()

    async def handler(_request: bytes, _context: object) -> AsyncIterator[bytes]:
        try:
            yield b"first"
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    secure = transport == "tls"
    async with grpc_server("localhost:0", handler, server_credentials() if secure else None) as endpoint:
        tls = client_tls() if secure else None
        async with open_stream(parse_endpoint(endpoint), METHOD, b"", tls=tls) as batches:
            assert await anext(batches) == [b"first"]
            assert not cancelled.is_set()
        async with asyncio.timeout(DEADLINE_S):
            await cancelled.wait()


async def test_leaving_sends_rst_stream() -> None:
    """The last frame before the connection closes is RST_STREAM with CANCEL."""
    last = b""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal last
        writer.write(GREETING + headers(OPEN))
        last = (await reader.read())[-13:]

    async with scripted_server(script) as target:
        async with open_stream(target, METHOD, b""):
            pass
        await until(lambda: bool(last), "the server saw the end")
    assert last == raw(3, 0, 1, b"\0\0\0\x08")


async def test_a_cancelled_consumer_leaves_nothing_behind() -> None:
    """Cancelling the task that waits for a message closes the connection and ends the task."""
    closed = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(GREETING)
        await reader.read()
        closed.set()

    async with scripted_server(script) as target:
        entered = asyncio.Event()

        async def consume() -> None:
            async with open_stream(target, METHOD, b"") as batches:
                entered.set()
                await anext(batches)

        task = asyncio.create_task(consume())
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(DEADLINE_S):
            await closed.wait()


async def test_leaving_does_not_wait_for_a_server_that_reads_nothing(tmp_path: Path) -> None:
    """What cannot be written in a moment is given up, and the connection closed."""

    async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(raw(4, 0, 0, b"\0\4\x7f\xff\xff\xff") + raw(8, 0, 0, (1 << 30).to_bytes(4, "big")))
        await asyncio.sleep(DEADLINE_S)

    async with scripted_server(script, path=tmp_path / "s") as target, asyncio.timeout(DEADLINE_S / 2):
        async with open_stream(target, METHOD, b"r" * (4 << 20)) as batches:
            connection = batches._connection
            assert connection._transport is not None
            assert connection._transport.get_write_buffer_size() > 0
        assert connection._lost.is_set()


@pytest.mark.parametrize("transport", ["tcp", "unix", "tls"])
async def test_a_consumer_that_stops_stops_the_server(transport: str, tmp_path: Path) -> None:
    """Not more than the window, and what the server's own buffers hold, is sent while nobody takes; then it goes on."""
    sent = 0
    size, window = 1000, 200_000

    async def handler(_request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(2000):
            await context.write(b"x" * size)
            sent += size + 5
        return
        yield b""

    secure = transport == "tls"
    address = f"unix:{tmp_path / 's'}" if transport == "unix" else "localhost:0"
    async with (
        grpc_server(address, handler, server_credentials() if secure else None) as endpoint,
        open_stream(
            parse_endpoint(endpoint), METHOD, b"", window_bytes=window, tls=client_tls() if secure else None
        ) as batches,
    ):
        await until(lambda: sent >= window - size - 5, "the server fills the window")
        # Not to synchronise: time enough for a server that does not stop to send all of its 2 MB.
        await asyncio.sleep(0.3)
        # C-core takes a write before there is window for it: a few messages of slack (65,536 bytes).
        assert sent <= window + 65_536 + 2 * size
        count = 0
        async for batch in batches:
            count += len(batch)
        assert count == 2000


async def test_a_consumer_that_never_waits_leaves_the_loop_to_others() -> None:
    """Between two batches other tasks run, however many messages lie there."""
    wire = GREETING + headers(OPEN) + b"".join(data(message(b"m")) for _ in range(10_000)) + headers(OK, ended=True)

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(wire)
        await reader.read()

    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with scripted_server(script) as target, open_stream(target, METHOD, b"") as batches:
        await anext(batches)
        task = asyncio.create_task(other())
        count = 0
        async for _ in batches:
            count += 1
        task.cancel()
    assert turns >= count > 30


async def test_messages_that_trickle_are_read_together() -> None:
    """A server that writes one at a time does not cost a wake-up for each."""
    count = 500

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(GREETING + headers(OPEN))
        for _ in range(count):
            writer.write(data(message(b"m")))
            await asyncio.sleep(0)
        writer.write(headers(OK, ended=True))
        await reader.read()

    async with scripted_server(script) as target, open_stream(target, METHOD, b"") as batches:
        sizes = [len(batch) async for batch in batches]
    assert sum(sizes) == count
    assert len(sizes) < count / 3


# Servers that misbehave


async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Accept, and say nothing."""
    await reader.read()


async def dripping(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Begin a greeting that never ends, a byte at a time."""
    writer.write(raw(4, 0, 0, b"", length=6000))
    while not writer.is_closing():
        writer.write(b"\0")
        await asyncio.sleep(0.02)


def saying(wire: bytes) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """A server that says one thing and closes."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(24)
        writer.write(wire)
        await writer.drain()
        writer.write_eof()
        await reader.read()

    return script


@pytest.mark.parametrize(
    ("script", "text"),
    [
        (silent, "did not answer within 0.3 s; the server sent nothing"),
        (dripping, "did not answer within 0.3 s; the server does not end its first frame"),
        (saying(b""), "closed by the server; the server sent nothing: does it expect TLS"),
        (saying(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "speaks HTTP/1.1"),
        (saying(b"\x15\x03\x01\x00\x02\x02\x46"), "speaks TLS where plain text was expected"),
        (saying(b"220 mail.example ESMTP\r\n"), "does not speak HTTP/2: its first bytes are b'220 mail.'"),
        (saying(GREETING), "was closed by the server$"),
        (saying(GREETING + headers(OPEN) + data(message(b"abc")[:6])), "in the middle of a message"),
    ],
)
async def test_what_is_no_grpc_server_is_said_in_one_error(
    script: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], text: str
) -> None:
    """UNAVAILABLE, so that it is tried again, with what the server is or did."""
    async with scripted_server(script) as target:
        error = await failure(target, connect_timeout_s=0.3)
    assert error.code == "UNAVAILABLE"
    with pytest.raises(StreamError, match=text):
        raise error


async def test_a_reset_in_the_middle_of_a_message_is_reported() -> None:
    """What came whole is handed out; then the error says how the connection ended."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(GREETING + headers(OPEN) + data(message(b"whole") + message(b"cut")[:6]))
        await reader.read(1)
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await asyncio.sleep(0.05)

    got: list[bytes] = []
    async with scripted_server(script) as target:
        with pytest.raises(StreamError, match=r"UNAVAILABLE: .*was lost: .*reset by peer in the middle of a message"):
            await read_into(got, target)
    assert got == [b"whole"]


async def test_a_slow_drip_is_read_as_it_comes() -> None:
    """A whole session, byte by byte."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = GREETING + headers(OPEN) + data(message(b"a") + message(b"bc")) + headers(OK, ended=True)
        for byte in wire:
            writer.write(bytes([byte]))
            await writer.drain()
        await reader.read()

    async with scripted_server(script) as target:
        assert await read_all(target) == [b"a", b"bc"]


@pytest.mark.parametrize("frame", [raw(6, 0, 0, bytes(8)), GREETING])
async def test_a_flood_that_wants_answers_and_reads_none_is_bounded(frame: bytes, tmp_path: Path) -> None:
    """PING and SETTINGS are answered until too many answers wait; then the connection ends."""

    async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(GREETING)
        while True:
            writer.write(frame * 1000)
            await writer.drain()

    async with scripted_server(script, path=tmp_path / "s") as target:
        error = await failure(target)
    assert error.code == "RESOURCE_EXHAUSTED"
    assert "floods with PING or SETTINGS" in error.message


async def test_a_server_that_ignores_the_window_is_cut_off() -> None:
    """The error says FLOW_CONTROL_ERROR; no more is held than the window."""

    async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(GREETING + headers(OPEN))
        while True:
            writer.write(data(message(b"x" * 1000)) * 100)
            await writer.drain()

    held = 0
    async with scripted_server(script) as target, open_stream(target, METHOD, b"", window_bytes=100_000) as batches:
        # Nobody takes until the server has gone too far.
        await until(lambda: batches._connection.call.ended, "the connection is cut off")
        with contextlib.suppress(StreamError):
            async for batch in batches:
                held += sum(map(len, batch))
        with pytest.raises(StreamError, match="FLOW_CONTROL_ERROR"):
            await anext(batches)
    assert 0 < held <= 100_000


# TLS


@pytest.mark.parametrize("case", ["plain server", "unknown authority", "wrong name", "no certificate", "no ALPN"])
async def test_tls_that_fails_says_why(case: str) -> None:
    """Each is UNAVAILABLE with the remedy, as gRPC's own client has it; nothing is sent to such a server."""
    async with contextlib.AsyncExitStack() as stack:
        if case == "plain server":
            server = grpc_server("localhost:0", echo_bodies)
        else:
            server = grpc_server("localhost:0", echo_bodies, server_credentials(mutual=case == "no certificate"))
        if case == "no ALPN":
            target = await stack.enter_async_context(scripted_server(silent, server_tls()))
        else:
            target = parse_endpoint(await stack.enter_async_context(server))
        error = await failure(
            target,
            tls=client_tls(authority=case != "unknown authority"),
            server_hostname="other.example" if case == "wrong name" else "",
        )
    assert error.code == "UNAVAILABLE"
    text = {
        "plain server": "the server does not speak TLS",
        "unknown authority": "its certificate is not accepted: .*check ca_file",
        "wrong name": "its certificate is not accepted: .*'other.example'.*server_name_override",
        "no certificate": "the server refused our certificate|the connection was",
        "no ALPN": "ALPN",
    }[case]
    with pytest.raises(StreamError, match=text):
        raise error


async def test_plain_text_to_a_tls_server_is_said() -> None:
    """A TLS server answers with an alert, or closes: either way the text names TLS."""
    async with grpc_server("localhost:0", echo_bodies, server_credentials()) as endpoint:
        error = await failure(parse_endpoint(endpoint))
    assert error.code == "UNAVAILABLE"
    assert "TLS" in error.message


async def test_another_name_may_be_demanded_of_the_certificate() -> None:
    """By the authority, as gRPC does it, or by server_hostname alone."""
    async with grpc_server("127.0.0.1:0", echo_bodies, server_credentials()) as endpoint:
        target = parse_endpoint(endpoint)
        assert len(await read_all(target, tls=client_tls(), authority="agent.example")) > 1000
        assert len(await read_all(target, tls=client_tls(), server_hostname="agent.example")) > 1000
        error = await failure(target, tls=client_tls(), authority="wrong.example:443")
    assert "'wrong.example'" in error.message


# grpc-go


@pytest.mark.usefixtures("peers")
@pytest.mark.parametrize("transport", ["tcp", "unix"])
async def test_grpc_go_is_read_whole(transport: str, tmp_path: Path, shared_data: Callable[..., Path]) -> None:
    """A recording through the official Go service: every message, then the agent's own end."""
    recording = shared_data("tetragon", "recordings", "base_full.pb.gz")
    with recording.open("rb") as file:
        expected = [record.data for record in read_numbered(file)]
    flags = ["--listen=127.0.0.1:0"] if transport == "tcp" else []
    got: list[bytes] = []
    with TetragonPeer(tmp_path, recording, flags=[*flags, "--loop=20"]) as peer:
        target = parse_endpoint(str(peer.report("listening")["address"]))
        async with open_stream(target, "/tetragon.FineGuidanceSensors/GetEvents", b"") as batches:
            async for batch in batches:
                got += batch
                if len(got) == 20 * len(expected):
                    break
    # Each pass but the first has ids of its own.
    assert sorted(got[: len(expected)]) == sorted(expected)
    assert len(set(got)) > 19 * len(set(expected))


def test_probes_are_no_faster_than_five_minutes() -> None:
    """The kernel's keepalive is the only one there is."""
    assert dict(stream._PROBES)[socket.TCP_KEEPIDLE] >= 300
