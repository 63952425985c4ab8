"""Senders that mean harm, or are broken, against otelbee as a process: memory stays bounded and others are served."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import re
import socket
import struct
import time
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import grpc.aio
import h2.config
import h2.connection
import pytest
from peers.processes import Otelbee, free_port

from receiver.sources.otlp.source import METHODS
from tests.receiver.sources.pushed import export, logs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

MIB = 1 << 20
PROTOBUF = {"Content-Type": "application/x-protobuf"}


class Pushed(Otelbee):
    """otelbee with an ``otlp`` source, writing to a file."""

    def __init__(self, folder: Path, **section: Any) -> None:
        """Both protocols, with ``section`` in each."""
        self.grpc, self.http = (f"127.0.0.1:{free_port()}" for _ in range(2))
        protocols = {"grpc": {"endpoint": self.grpc, **section}, "http": {"endpoint": self.http, **section}}
        self.out = folder / "out.jsonl"
        config = {
            "sources": {"otlp": {"protocols": protocols}},
            "exporter": {"file": {"path": str(self.out), "format": "json"}},
        }
        super().__init__(folder, config)

    def peak_mib(self) -> float:
        """The most that was ever resident, of the process or one of its children."""
        assert self._process is not None
        return max(_peak_kib(pid) for pid in _family(self._process.pid)) / 1024

    def records(self) -> int:
        """Log records that were written so far."""
        if not self.out.exists():
            return 0
        requests = [json.loads(line) for line in self.out.read_text().splitlines()]
        return sum(
            len(scope["logRecords"])
            for request in requests
            for resource in request["resourceLogs"]
            for scope in resource["scopeLogs"]
        )


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in _family(int(child)))]


def _peak_kib(pid: int) -> int:
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1])


@pytest.fixture
def otelbee(tmp_path: Path) -> Iterator[Pushed]:
    """Otelbee that asks nobody who they are."""
    with Pushed(tmp_path) as running:
        yield running


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Pushed]:
    """Otelbee that wants a token."""
    tokens = tmp_path / "tokens"
    tokens.write_text("alice:the-token\n")
    tokens.chmod(0o640)
    with Pushed(tmp_path, auth={"bearertokenauth": {"filename": str(tokens)}}) as running:
        yield running


async def zeros(size: int) -> AsyncIterator[bytes]:
    """A body that is made while it is sent."""
    for _ in range(size // MIB):
        yield bytes(MIB)


async def post(otelbee: Pushed, data: Any, **headers: str) -> int:
    """Post once; 0 where the connection was closed before an answer."""
    options = {"headers": {**PROTOBUF, **headers}, "timeout": aiohttp.ClientTimeout(30)}
    async with aiohttp.ClientSession() as session:
        try:
            async with session.post(f"http://{otelbee.http}/v1/logs", data=data, **options) as answer:
                return answer.status
        except aiohttp.ClientConnectionError:
            return 0


async def code_of(otelbee: Pushed, data: bytes, **options: Any) -> grpc.StatusCode:
    """Export once; the status."""
    try:
        await export(otelbee.grpc, data, **options)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def test_large_calls_without_a_token_cost_nothing(guarded: Pushed) -> None:
    """16 of 60 MiB each, by both protocols, grow the process by less than one of them."""
    data = bytes(60 * MIB)
    await export(guarded.grpc, logs(), metadata=(("authorization", "Bearer the-token"),))
    before = guarded.peak_mib()
    codes = [await asyncio.gather(*(code_of(guarded, data) for _ in range(4))) for _ in range(4)]
    assert {code for some in codes for code in some} == {grpc.StatusCode.UNAUTHENTICATED}
    statuses = await asyncio.gather(*(post(guarded, zeros(60 * MIB)) for _ in range(16)))
    assert set(statuses) <= {401, 0}
    assert guarded.peak_mib() - before < 50
    assert await post(guarded, logs(), Authorization="Bearer the-token") == 200


async def test_large_calls_of_anybody_are_bounded(otelbee: Pushed) -> None:
    """So it is without auth: what is too large is refused, not kept."""
    await export(otelbee.grpc, logs())
    before = otelbee.peak_mib()
    codes = await asyncio.gather(*(code_of(otelbee, bytes(60 * MIB)) for _ in range(4)))
    assert set(codes) == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    statuses = await asyncio.gather(*(post(otelbee, zeros(60 * MIB)) for _ in range(8)))
    assert set(statuses) <= {413, 503, 0}
    assert otelbee.peak_mib() - before < 120
    assert await post(otelbee, logs()) == 200


async def test_gzip_bombs_are_bounded(otelbee: Pushed) -> None:
    """Bodies and messages of which 500 MiB would come out."""
    bomb = gzip.compress(bytes(500 * MIB), 1)
    assert len(bomb) < 4 * MIB
    await export(otelbee.grpc, logs())
    before = otelbee.peak_mib()
    statuses = await asyncio.gather(*(post(otelbee, BytesIO(bomb), **{"Content-Encoding": "gzip"}) for _ in range(8)))
    assert set(statuses) <= {413, 503}
    codes = await asyncio.gather(
        *(code_of(otelbee, bytes(64 * MIB), compression=grpc.Compression.Gzip) for _ in range(4))
    )
    assert set(codes) == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert otelbee.peak_mib() - before < 120
    assert await post(otelbee, logs()) == 200


@contextlib.contextmanager
def half_sent(otelbee: Pushed, connections: int, streams: int) -> Iterator[list[socket.socket]]:
    """Connections that hold calls and requests of which half has arrived: gRPC streams, HTTP bodies, HTTP headers."""
    open_: list[socket.socket] = []
    with contextlib.ExitStack() as stack:
        for _ in range(connections):
            slow = stack.enter_context(_connected(otelbee.grpc))
            client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
            client.initiate_connection()
            for _ in range(streams):
                stream = client.get_next_available_stream_id()
                client.send_headers(stream, _grpc_headers(otelbee.grpc))
                client.send_data(stream, b"\0" + (3 * MIB).to_bytes(4, "big") + bytes(500))
            slow.sendall(client.data_to_send())
            head = f"POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-Type: {PROTOBUF['Content-Type']}\r\n"
            body = stack.enter_context(_connected(otelbee.http))
            body.sendall(f"{head}Content-Length: 9000000\r\n\r\n".encode() + bytes(500))
            chunked = stack.enter_context(_connected(otelbee.http))
            chunked.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n".encode())
            headers = stack.enter_context(_connected(otelbee.http))
            headers.sendall(head.encode())
            open_ += [slow, body, chunked, headers]
        yield open_


def _connected(address: str) -> socket.socket:
    host, _, port = address.partition(":")
    return socket.create_connection((host, int(port)), timeout=10)


def _grpc_headers(authority: str) -> list[tuple[str, str]]:
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", METHODS["logs"]),
        (":authority", authority),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]


async def test_slow_senders_hold_up_nobody(otelbee: Pushed) -> None:
    """While many requests are stuck half-way, each good one is answered within a few seconds."""
    before = otelbee.peak_mib()
    with half_sent(otelbee, connections=10, streams=3):
        for _ in range(3):
            began = time.monotonic()
            assert await code_of(otelbee, logs()) is grpc.StatusCode.OK
            assert await post(otelbee, logs()) == 200
            assert time.monotonic() - began < 8
    assert otelbee.peak_mib() - before < 60


async def test_connections_reset_in_mid_request_leave_nothing_behind(otelbee: Pushed) -> None:
    """After two hundred of them the process serves as before, and none of them was taken."""
    reset = struct.pack("ii", 1, 0)  # linger for 0 s: close() sends RST
    for _ in range(10):
        with half_sent(otelbee, connections=5, streams=2) as connections:
            for each in connections:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
    for _ in range(20):
        assert await code_of(otelbee, logs()) is grpc.StatusCode.OK
        assert await post(otelbee, logs()) == 200
    otelbee.until(lambda: otelbee.records() >= 40, "everything good is written")
    assert otelbee.records() == 40
    assert not re.search(r"error|Traceback", otelbee.errors())
