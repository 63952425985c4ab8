"""Reading alone: what one message costs from the socket to a list of bytes, and what it costs with grpc.aio.

    PYTHONPATH=. python benchmarks/reader.py

The servers are programs of their own: grpc-go (the stand-in for Tetragon's agent, where ``make peers`` has built it)
and gRPC's C-core, which sends slower than either reader reads. Both readers read the same server, by turns.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

import grpc
import recordings
import table
from peers import build
from table import Row

from receiver.net.grpc import channel, parse_endpoint
from receiver.net.stream import open_stream
from receiver.net.tls import ClientTLS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

_ROOT = Path(__file__).resolve().parent.parent
RUNS = 3
_METHOD = "/tetragon.FineGuidanceSensors/GetEvents"
_CERTIFICATES = _ROOT / "tests/receiver/net/certificates"
_LOOPS = 3
"""How often a server that loops streams the recording to a reader that is fast."""


class Run(NamedTuple):
    """One reading."""

    per_second: float
    cost_us: float
    """Of this process, all threads."""


async def _by_stream(endpoint: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[list[bytes]]:
    async with open_stream(parse_endpoint(endpoint), _METHOD, b"", tls=tls) as batches:
        async for batch in batches:
            yield batch


async def _by_grpc(endpoint: str) -> AsyncIterator[list[bytes]]:
    """Read with grpc.aio, which hands messages out one by one."""
    async with channel(endpoint, ClientTLS(insecure=True)) as over:
        method: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = over.unary_stream(_METHOD)
        async for message in method(b""):
            yield [message]


async def _measure(batches: AsyncIterator[list[bytes]], count: int) -> Run:
    """Read ``count`` messages; the clock starts with the first."""
    got = len(await anext(batches))
    first = got
    start_s, cpu_s = time.perf_counter(), time.process_time()
    async for batch in batches:
        got += len(batch)
        if got >= count:
            break
    seconds, cpu_s = time.perf_counter() - start_s, time.process_time() - cpu_s
    await batches.aclose()  # type: ignore[attr-defined] - both are generators
    return Run((got - first) / seconds, cpu_s / (got - first) * 1e6)


def rows() -> Iterator[Row]:
    """The stream reader and grpc.aio by turns, from each server."""
    events = len(recordings.as_it_is())
    size = sum(map(len, recordings.as_it_is())) / events
    for name, address in (("grpc-go, unix", "unix"), ("grpc-go, TCP", "tcp")):
        if build.tetragon().exists():
            yield from _compare(name, lambda loops, address=address: _agent(address, loops), events, size)
    for name, address in (("C-core, unix", "unix"), ("C-core, TCP", "tcp")):
        yield from _compare(name, lambda _, address=address: _ccore(address), events, size)
    tls = ssl.create_default_context(cafile=str(_CERTIFICATES / "ca.pem"))
    runs = [_run(_ccore("tls"), lambda endpoint: _by_stream(endpoint, tls), events) for _ in range(RUNS)]
    yield Row("stream, C-core, TLS", _rate(runs), _cost(runs), size)


def _compare(name: str, serve: Callable[[int], object], events: int, size: float) -> Iterator[Row]:
    ours, theirs = [], []
    for _ in range(RUNS):
        theirs.append(_run(serve(1), _by_grpc, events))
        loops = _LOOPS if "go" in name else 1
        ours.append(_run(serve(loops), _by_stream, loops * events))
    ratio = median(a.cost_us / b.cost_us for a, b in zip(ours, theirs, strict=True))
    yield Row(f"grpc.aio, {name}", _rate(theirs), _cost(theirs), size)
    yield Row(f"stream, {name}", _rate(ours), _cost(ours), size, ratio=ratio)


def _run(server: object, read: Callable[[str], AsyncIterator[list[bytes]]], count: int) -> Run:
    with server as endpoint:
        return asyncio.run(_measure(read(endpoint), count))


def _rate(runs: list[Run]) -> float:
    return median(run.per_second for run in runs)


def _cost(runs: list[Run]) -> float:
    return median(run.cost_us for run in runs)


@contextmanager
def _agent(address: str, loops: int) -> Iterator[str]:
    """grpc-go: the stand-in for Tetragon's agent."""
    with tempfile.TemporaryDirectory(prefix="otelbee-bench-") as folder:
        listen = f"unix://{folder}/agent.sock" if address == "unix" else "127.0.0.1:0"
        options = [f"--listen={listen}", f"--file={recordings.HIGHVOL}", f"--loop={loops}", "--wait-for-client"]
        with _program([str(build.tetragon()), *options, "--linger"]) as line:
            yield str(json.loads(line)["address"])


@contextmanager
def _ccore(address: str) -> Iterator[str]:
    """A server of gRPC's own."""
    with tempfile.TemporaryDirectory(prefix="otelbee-bench-") as folder:
        listen = f"unix:{folder}/server.sock" if address == "unix" else "localhost:0"
        with _program([sys.executable, __file__, "serve", listen, *(["tls"] if address == "tls" else [])]) as line:
            yield f"unix://{folder}/server.sock" if address == "unix" else f"localhost:{line.strip()}"


@contextmanager
def _program(command: list[str]) -> Iterator[str]:
    """Run a server; yields the first line that it writes."""
    environment = {**os.environ, "PYTHONPATH": f"{_ROOT}{os.pathsep}{_ROOT / 'tests'}"}
    process = subprocess.Popen(command, cwd=_ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def _serve(listen: str, *, secure: bool) -> None:
    """Stream the recording to every client, as fast as it reads."""
    events = recordings.as_it_is()

    async def handler(_request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        for event in events:
            await context.write(event)

    server = grpc.aio.server()
    method = grpc.unary_stream_rpc_method_handler(handler)
    service, _, name = _METHOD[1:].partition("/")
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {name: method}),))
    if secure:
        pair = tuple((_CERTIFICATES / f"server.{end}").read_bytes() for end in ("key", "pem"))
        port = server.add_secure_port(listen, grpc.ssl_server_credentials([pair]))
    else:
        port = server.add_insecure_port(listen)
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


def main() -> None:
    """Print the table, or be a server for it."""
    if sys.argv[1:2] == ["serve"]:
        asyncio.run(_serve(sys.argv[2], secure=sys.argv[3:] == ["tls"]))
        return
    print(table.machine())
    print(table.HEADER)
    for row in rows():
        print(row.line(), flush=True)


if __name__ == "__main__":
    main()
