"""A stand-in for Tetragon's agent: serves a recording through the real gRPC service.

What it does not do: apply the filters of a request (it logs that), and drop what a slow client does not take; it waits.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import grpc.aio
from google.protobuf import json_format
from google.protobuf.timestamp_pb2 import Timestamp

from receiver.errors import RecordingError, StartError
from receiver.net.grpc import parse_endpoint
from receiver.recording import read_numbered
from translators.pb import tetragon_pb2
from translators.version import VERSION

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

    from google.protobuf.message import Message

_SERVICE = "tetragon.FineGuidanceSensors"
_TURN = 256
"""Events between two looks at the clock: no turn of the loop handles more."""

_log = logging.getLogger(__name__)


async def serve(
    path: Path,
    listen: str,
    *,
    shutdown: Awaitable[object],
    rate: float | None = None,
    loop: bool = False,
    now: bool = False,
    started: Callable[[str], None] | None = None,
) -> None:
    """Serve ``GetEvents``, ``GetVersion`` and ``GetHealth`` until ``shutdown`` is done.

    Each stream gets the whole recording from its beginning; after the last event it stays open and silent, as an
    agent's does.

    Args:
        path: JSON lines of Tetragon's export, or length-prefixed messages; gzip or not.
        listen: ``host:port`` (port 0 takes a free one) or ``unix:///path``.
        shutdown: Awaited; its result ends the service.
        rate: Events per second and stream; as fast as the client takes them when None.
        loop: Begin anew after the last event.
        now: Let each event happen when it is sent.
        started: Called with the address that clients can use, once it is bound.

    Raises:
        StartError: The recording cannot be read or has no event, or ``listen`` cannot be bound.
    """
    events = await asyncio.to_thread(read_events, path)
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((_Service(events, rate, loop=loop, now=now).handler(),))
    address = _bind(server, listen)
    await server.start()
    try:
        if started is not None:
            started(address)
        await shutdown
    finally:
        await server.stop(None)


def read_events(path: Path) -> list[bytes]:
    """Read a recording as serialised ``GetEventsResponse`` messages.

    Raises:
        StartError: It cannot be read, a line is no event, or there is none.
    """
    events = []
    try:
        with path.open("rb") as stream:
            for record in read_numbered(stream):
                if record.kind == "json":
                    event = json_format.Parse(
                        record.data, tetragon_pb2.GetEventsResponse(), ignore_unknown_fields=True
                    ).SerializeToString()
                    events.append(event)
                else:
                    events.append(record.data)
    except OSError as error:
        raise StartError(f"{path} cannot be read: {error.strerror}") from None
    except RecordingError as error:
        raise StartError(f"{path}: {error}") from None
    except (json_format.ParseError, UnicodeDecodeError) as error:
        raise StartError(f"{path}: line {record.number} is no event of Tetragon: {error}") from None
    if not events:
        raise StartError(f"{path} has no event; record some with: tetra getevents > {path.name}")
    return events


def _bind(server: grpc.aio.Server, listen: str) -> str:
    """Bind, and return the address with the real port."""
    host, separator, port = listen.rpartition(":")
    try:
        # Port 0 is one to listen on, though none to connect to.
        target = parse_endpoint(f"{host}:1" if separator and port == "0" else listen)
    except ValueError as error:
        raise StartError(f"--listen: {listen} is {error}") from None
    if target.socket_path and not Path(target.socket_path).parent.is_dir():
        raise StartError(f"--listen: {listen}: there is no folder {Path(target.socket_path).parent}; make it first")
    address = f"unix:{target.socket_path}" if target.socket_path else listen
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError:
        raise StartError(
            f"--listen: {listen} cannot be bound: it is in use, or this user may not; choose another"
        ) from None
    return listen if target.socket_path else f"{host}:{bound}"


class _Service:
    """The handlers of one recording; messages pass as bytes."""

    def __init__(self, events: Sequence[bytes], rate: float | None, *, loop: bool, now: bool) -> None:
        self._events = events
        self._rate = rate
        self._loop = loop
        self._now = now

    def handler(self) -> grpc.GenericRpcHandler:
        return grpc.method_handlers_generic_handler(
            _SERVICE,
            {
                "GetEvents": grpc.unary_stream_rpc_method_handler(self._get_events),
                "GetVersion": grpc.unary_unary_rpc_method_handler(_get_version),
                "GetHealth": grpc.unary_unary_rpc_method_handler(_get_health),
            },
        )

    async def _get_events(
        self, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]
    ) -> AsyncGenerator[bytes, None]:
        del context
        if request:
            _log.warning("the replay serves the whole recording: it does not apply the request's filters")
        clock = asyncio.get_running_loop()
        begun_s = clock.time()
        for number, event in enumerate(itertools.cycle(self._events) if self._loop else self._events):
            if self._rate is not None:
                await asyncio.sleep(max(0.0, begun_s + number / self._rate - clock.time()))
            elif number % _TURN == 0:
                await asyncio.sleep(0)
            yield _as_of(time.time_ns(), event) if self._now else event
        await clock.create_future()


def _as_of(now_ns: int, event: bytes) -> bytes:
    """An event moved to a time, with all that it says of earlier times, such as the start of its process."""
    moved = tetragon_pb2.GetEventsResponse.FromString(event)
    _move(moved, now_ns - moved.time.ToNanoseconds())
    return moved.SerializeToString()


def _move(message: Message, offset_ns: int) -> None:
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        for part in value if field.is_repeated else (value,):
            if isinstance(part, Timestamp):
                part.FromNanoseconds(part.ToNanoseconds() + offset_ns)
            else:
                _move(part, offset_ns)


async def _get_version(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    del request, context
    return tetragon_pb2.GetVersionResponse(version=f"replay by otelbee {VERSION}").SerializeToString()


async def _get_health(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    """Answer as the agent does: always one entry, running (pkg/health/health.go)."""
    del request, context
    running = tetragon_pb2.HealthStatus(
        event=tetragon_pb2.HEALTH_STATUS_TYPE_STATUS, status=tetragon_pb2.HEALTH_STATUS_RUNNING, details="running"
    )
    return tetragon_pb2.GetHealthStatusResponse(health_status=[running]).SerializeToString()
