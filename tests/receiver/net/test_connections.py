"""The connections of an HTTP listener: those that say nothing end, and make room for those that do."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp import web

from receiver.net.connections import Connections, Timing
from receiver.net.listen import listen
from receiver.net.server_tls import Certificates, ServerTLS
from tests.receiver.net.certificates import Authority

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def hello(_: web.BaseRequest) -> web.StreamResponse:
    """Answer."""
    return web.Response(text="hello")


@asynccontextmanager
async def serving(timing: Timing, certificates: Certificates | None = None) -> AsyncIterator[tuple[str, int]]:
    """A listener; its host and port."""
    (listener,) = listen("127.0.0.1:0")
    with listener:
        async with Connections(hello, certificates, timing, access_log=None).accepting([listener]):
            yield listener.getsockname()


@asynccontextmanager
async def connected(address: tuple[str, int]) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A client's connection."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        yield reader, writer
    finally:
        writer.close()


async def ended(reader: asyncio.StreamReader) -> bool:
    """Wait until the server has closed a connection."""
    async with asyncio.timeout(10):
        try:
            return await reader.read() == b""
        except ConnectionError:
            return True


async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Whether a request is answered."""
    writer.write(REQUEST)
    async with asyncio.timeout(10):
        return b"200 OK" in await reader.readuntil(b"hello")


async def test_a_connection_serves_many_requests() -> None:
    """Being idle for a moment does not end it."""
    async with serving(Timing()) as address, connected(address) as (reader, writer):
        for _ in range(3):
            assert await answered(reader, writer)


async def test_headers_that_never_end_do() -> None:
    """Neither silence nor a header line now and then keeps a connection open."""
    async with serving(Timing(idle_s=0.3)) as address, connected(address) as silent, connected(address) as dripping:
        dripping[1].write(REQUEST[:-2])
        drip = asyncio.create_task(_drip(dripping[1]))
        assert await ended(silent[0])
        assert await ended(dripping[0])
        await drip


async def _drip(writer: asyncio.StreamWriter) -> None:
    for _ in range(6):
        await asyncio.sleep(0.1)  # the pace is what the test is about
        if not writer.is_closing():
            writer.write(b"X-More: 1\r\n")


async def test_a_handshake_that_never_ends_does(tmp_path: Path) -> None:
    """TLS has its own time."""
    pair = Authority(tmp_path).issue("localhost")
    certificates = Certificates(ServerTLS(cert_file=pair.cert_file, key_file=pair.key_file))
    async with serving(Timing(handshake_s=0.2), certificates) as address, connected(address) as (reader, _):
        assert await ended(reader)


async def test_the_longest_idle_connection_makes_room() -> None:
    """When all are taken, a new one gets in."""
    async with (
        serving(Timing(connections=2)) as address,
        connected(address) as first,
        connected(address) as second,
    ):
        assert await answered(*first)
        assert await answered(*second)
        assert await answered(*first)
        async with connected(address) as third:
            assert await answered(*third)
            assert await ended(second[0])
            assert await answered(*first)


async def test_failed_handshakes_take_no_room(tmp_path: Path) -> None:
    """More of them than there may be connections."""
    pair = Authority(tmp_path).issue("localhost")
    certificates = Certificates(ServerTLS(cert_file=pair.cert_file, key_file=pair.key_file))
    async with serving(Timing(connections=2, handshake_s=5), certificates) as address:
        for _ in range(5):
            async with connected(address) as (reader, writer):
                writer.write(REQUEST)  # plain text
                async with asyncio.timeout(10):
                    await reader.read()
