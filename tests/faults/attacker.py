"""Clients that mean no good, in a process of their own, until it is ended: ``attacker.py ATTACK GRPC_PORT HTTP_PORT``.

Each end of a call or a connection, an answer or a reset, is a line of output, so that a test sees the attack at work.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import io
import struct
import sys
import zlib
from typing import TYPE_CHECKING, Any, Final

import grpc
import grpc.aio
import h2.config
import h2.connection
import h2.events
import h2.exceptions
import zstandard

from receiver.sources.otlp.source import METHODS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

CLIENTS: Final = 100
"""At the same time, where each costs little."""
CALLS: Final = 50
"""On one connection."""
ADDRESS: Final = ("127.0.0.2", 0)
"""Where those attacks come from that hold up who comes from the same address: otelbee gives it half of the room."""
LARGE_BYTES: Final = 60 << 20
BOMB_BYTES: Final = 1 << 30
_DRIP_S: Final = 0.2
_HEAD: Final = "POST /v1/logs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-protobuf\r\n{}\r\n"
_CALL: Final = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", METHODS["logs"]),
    (":authority", "localhost"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
)


def said(what: object) -> None:
    """Write one line."""
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


async def http(port: int, talk: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> None:
    """Connect, talk, and read the first line of the answer; whoever is first."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=ADDRESS)
    talking = asyncio.ensure_future(talk(writer))
    try:
        answer = await reader.readline()
        said(answer.decode(errors="replace").strip() or "closed")
    except OSError as error:
        said(error)
    finally:
        talking.cancel()
        await asyncio.gather(talking, return_exceptions=True)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def slow_headers(_: int, port: int) -> None:
    """Headers that come a byte at a time and never end."""

    async def talk(writer: asyncio.StreamWriter) -> None:
        for byte in (_HEAD.format("X: ") + "y" * 100_000).encode():
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(_DRIP_S)

    await http(port, talk)


async def endless_body(_: int, port: int) -> None:
    """A chunked body that trickles and never ends."""

    async def talk(writer: asyncio.StreamWriter) -> None:
        writer.write(_HEAD.format("Transfer-Encoding: chunked\r\n").encode())
        while True:
            writer.write(b"1\r\nx\r\n")
            await writer.drain()
            await asyncio.sleep(_DRIP_S)

    await http(port, talk)


async def flood(_: int, port: int) -> None:
    """A body that never ends, as fast as it is read."""

    async def talk(writer: asyncio.StreamWriter) -> None:
        writer.write(_HEAD.format("Transfer-Encoding: chunked\r\n").encode())
        piece = b"10000\r\n" + bytes(0x10000) + b"\r\n"
        while True:
            writer.write(piece)
            await writer.drain()

    await http(port, talk)


async def slow_message(port: int, _: int) -> None:
    """Calls with a message of 3 MiB that trickles and never ends."""
    await _streams(port, struct.pack(">BI", 0, 3 << 20) + b"\x0a", b"x")


async def endless_call(port: int, _: int) -> None:
    """Calls that never send their message."""
    await _streams(port, b"", b"")


async def _streams(port: int, first: bytes, then: bytes) -> None:
    """Calls over one HTTP/2 connection that are never half-closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=ADDRESS)
    connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding=None))
    connection.initiate_connection()
    streams: set[int] = set()
    for _ in range(CALLS):
        stream = connection.get_next_available_stream_id()
        connection.send_headers(stream, _CALL)
        connection.send_data(stream, first)
        streams.add(stream)

    async def drip() -> None:
        while streams:
            for stream in streams:
                connection.send_data(stream, then)
            writer.write(connection.data_to_send())
            await writer.drain()
            await asyncio.sleep(_DRIP_S)

    dripping = asyncio.create_task(drip())
    try:
        while not dripping.done() and (data := await reader.read(65536)):
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.StreamEnded | h2.events.StreamReset) and event.stream_id in streams:
                    streams.discard(event.stream_id)
                    said("call ended")
            writer.write(connection.data_to_send())
    except (OSError, h2.exceptions.ProtocolError) as error:
        said(error)
    finally:
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)
        writer.close()


def bombs() -> list[tuple[str, bytes]]:
    """Bodies of a megabyte or less that become a gigabyte, by content encoding."""
    piece = bytes(1 << 20)
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=9) as file:
        for _ in range(BOMB_BYTES // len(piece)):
            file.write(piece)
    deflate = zlib.compressobj(9)
    deflated = b"".join(deflate.compress(piece) for _ in range(BOMB_BYTES // len(piece))) + deflate.flush()
    zstd = zstandard.ZstdCompressor(level=1).compressobj()
    frames = b"".join(zstd.compress(piece) for _ in range(BOMB_BYTES // len(piece))) + zstd.flush()
    return [("gzip", packed.getvalue()), ("deflate", deflated), ("zstd", frames)]


async def bomb(grpc_port: int, http_port: int, bodies: list[tuple[str, bytes]] = []) -> None:  # noqa: B006 - made once
    """Compressed bodies of a megabyte that become a gigabyte: over HTTP in every encoding, over gRPC by its own gzip."""
    bodies[:] = bodies or bombs()
    for encoding, body in bodies:

        async def talk(writer: asyncio.StreamWriter, encoding: str = encoding, body: bytes = body) -> None:
            writer.write(
                _HEAD.format(f"Content-Encoding: {encoding}\r\nContent-Length: {len(body)}\r\n").encode() + body
            )
            await writer.drain()

        await http(http_port, talk)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{grpc_port}", options=_OWN_CONNECTION) as channel:
        data = bytes(LARGE_BYTES)
        await _call(channel.unary_unary(METHODS["logs"])(data, compression=grpc.Compression.Gzip))


async def denied(grpc_port: int, http_port: int) -> None:
    """Requests of 60 MiB without a token."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{grpc_port}", options=_OWN_CONNECTION) as channel:
        await _call(channel.unary_unary(METHODS["logs"])(bytes(LARGE_BYTES)))

    async def talk(writer: asyncio.StreamWriter) -> None:
        writer.write(_HEAD.format(f"Content-Length: {LARGE_BYTES}\r\n").encode())
        for _ in range(LARGE_BYTES >> 16):
            writer.write(bytes(1 << 16))
            await writer.drain()

    await http(http_port, talk)


_OWN_CONNECTION: Final = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1))

ATTACKS: Final[dict[str, tuple[Callable[[int, int], Awaitable[None]], int]]] = {
    "slow_headers": (slow_headers, CLIENTS),
    "endless_body": (endless_body, CLIENTS),
    "slow_message": (slow_message, 2),
    "endless_call": (endless_call, 2),
    "flood": (flood, 20),
    "bomb": (bomb, 4),
    "denied": (denied, 8),
}
"""By name: the attack and how many of it at once."""


async def _call(call: Any) -> None:
    try:
        await call
        said("taken")
    except grpc.aio.AioRpcError as error:
        said(error.code().name)


async def _for_ever(attack: Callable[[int, int], Awaitable[None]], grpc_port: int, http_port: int) -> None:
    while True:
        try:
            await attack(grpc_port, http_port)
        except OSError as error:
            said(error)
            await asyncio.sleep(_DRIP_S)


async def main(name: str, grpc_port: int, http_port: int) -> None:
    """Attack until ended."""
    attack, clients = ATTACKS[name]
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(_for_ever(attack, grpc_port, http_port))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
