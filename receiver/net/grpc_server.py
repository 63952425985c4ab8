"""A gRPC listener whose methods take and return messages as the bytes they are.

A method that takes one message and returns one is registered as client-streaming, which on the wire is the same as unary:
so a call can be refused before its message is read, and what is not read yet stays with the sender (HTTP/2 flow
control). A method of several messages is registered as streaming both ways, which on the wire is the same as
client-streaming where it returns one.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

import grpc
import grpc.aio
from pydantic import Field

from receiver.errors import Malformed, StartError, Unauthenticated
from receiver.fields import Address, Section
from receiver.net.auth import Auth, Authenticator
from receiver.net.gate import Gate, Sender
from receiver.net.listen import listen, split_address
from receiver.net.retry_info import DETAILS_KEY, encode_status
from receiver.net.server_tls import Certificates, GrpcServerTLS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from receiver.net.gate import Receive
    from receiver.net.inflight import Reservation

    Converse = Callable[[Sender, "Conversation"], Awaitable[None]]
    """Takes part in a call of several messages; raises an error of :mod:`receiver.net.answers`."""
    _Context = grpc.aio.ServicerContext[bytes, bytes]

MAX_CONNECTIONS: Final = 1024
EMPTY: Final[Mapping[str, Streaming]] = MappingProxyType({})
_OPTIONS: Final = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_allowed_incoming_connections", MAX_CONNECTIONS),
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.max_metadata_size", 8 * 1024),
    ("grpc.absolute_max_metadata_size", 16 * 1024),
    # Pings that are too frequent end a connection; OTLP clients with the Collector's recommended keepalive are not.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
)
_STOP_S: Final = 1.0


class Config(Section):
    """A gRPC listener; the keys are those of the Collector's configgrpc."""

    endpoint: Address
    """Where to listen."""
    tls: GrpcServerTLS | None = None
    """Unset: plain text."""
    auth: Auth | None = None
    """Unset: whoever can connect may send."""
    max_recv_msg_size_mib: Annotated[int, Field(ge=1, le=64)] = 4
    """MiB of the largest message, decompressed."""
    max_concurrent_streams: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Calls of one connection at the same time; further ones end as UNAVAILABLE, which clients try again."""

    @property
    def max_bytes(self) -> int:
        """Of a message."""
        return self.max_recv_msg_size_mib << 20


class Streaming(NamedTuple):
    """A method of several messages."""

    converse: Converse
    message_bytes: int
    """Reserved before a message is read; one that is larger must fit when it is there."""


class Conversation:
    """The messages of one call; those that were read count as on their way in until :meth:`forget`."""

    def __init__(self, context: _Context, reservation: Reservation, message_bytes: int) -> None:
        """Hold the room for a first message already."""
        self._context = context
        self._reservation = reservation
        self._message_bytes = message_bytes
        self._held_bytes = 0

    async def read(self) -> bytes | None:
        """Return the next message, None where the sender has no more.

        Raises:
            TryLater: There is no room for it, or it does not arrive in time.
        """
        self._reservation.grow(self._held_bytes + self._message_bytes)
        async with self._reservation.reading():
            message: object = await self._context.read()
        if not isinstance(message, bytes):
            return None
        self._held_bytes += len(message)
        self._reservation.grow(self._held_bytes)
        self._reservation.resize(self._held_bytes)
        return message

    async def write(self, message: bytes) -> None:
        """Send a message."""
        await self._context.write(message)

    def forget(self) -> None:
        """Give back the room of what was read."""
        self._held_bytes = 0
        self._reservation.resize(0)


@asynccontextmanager
async def serve(
    config: Config, gate: Gate, methods: Mapping[str, Receive], streams: Mapping[str, Streaming] = EMPTY
) -> AsyncIterator[str]:
    """Serve ``/package.Service/Method`` by name while the context is open; gives the address bound.

    Raises:
        StartError: The address cannot be bound, or a file of ``tls`` or ``auth`` cannot be used.
    """
    calls = _Calls(config, gate, methods, streams)
    options = [
        *_OPTIONS,
        ("grpc.max_receive_message_length", config.max_bytes),
        ("grpc.max_concurrent_streams", config.max_concurrent_streams),
    ]
    credentials = Certificates(config.tls).credentials() if config.tls is not None else None
    server = grpc.aio.server(options=options)
    server.add_generic_rpc_handlers((calls,))
    try:
        if credentials is None:
            port = server.add_insecure_port(config.endpoint)
        else:
            port = server.add_secure_port(config.endpoint, credentials)
    except RuntimeError:
        for probe in listen(config.endpoint):  # gRPC does not say why
            probe.close()
        raise StartError(f"cannot listen on {config.endpoint}; choose another address") from None
    await server.start()
    try:
        host, _ = split_address(config.endpoint)
        yield f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    finally:
        await server.stop(_STOP_S)


class _Calls(grpc.GenericRpcHandler):
    def __init__(
        self, config: Config, gate: Gate, methods: Mapping[str, Receive], streams: Mapping[str, Streaming]
    ) -> None:
        self._gate = gate
        self._max_bytes = config.max_bytes
        self._authenticator = Authenticator(config.auth) if config.auth is not None else None
        self._handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            **{
                name: grpc.stream_unary_rpc_method_handler(partial(self._call, receive))
                for name, receive in methods.items()
            },
            **{
                name: grpc.stream_stream_rpc_method_handler(partial(self._converse, streaming))
                for name, streaming in streams.items()
            },
        }

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        """Find the method of a call; None is answered with UNIMPLEMENTED."""
        return self._handlers.get(details.method)

    async def _call(self, receive: Receive, _: object, context: _Context) -> bytes:
        async with self._answered(context), self._admitted(context, self._max_bytes) as (sender, reservation):
            async with reservation.reading():
                message = await context.read()
            if not isinstance(message, bytes):  # the end came first; where it was too large, gRPC has said so
                raise Malformed("the call has no message")
            reservation.resize(len(message))
            return await receive(sender, message)
        raise AssertionError  # a refusal has raised

    async def _converse(self, streaming: Streaming, _: object, context: _Context) -> None:
        size = streaming.message_bytes
        async with self._answered(context), self._admitted(context, size) as (sender, reservation):
            await streaming.converse(sender, Conversation(context, reservation, size))

    @asynccontextmanager
    async def _admitted(self, context: _Context, size: int) -> AsyncIterator[tuple[Sender, Reservation]]:
        """Who calls, and its room for so many bytes."""
        sender = self._sender(context)
        self._gate.check()
        async with self._gate.in_flight.reserve(size, sender.principal or _host(context)) as reservation:
            yield sender, reservation

    @asynccontextmanager
    async def _answered(self, context: _Context) -> AsyncIterator[None]:
        """End the call with the status of what goes wrong."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is, the sender is told
            answer = self._gate.refused(error, _host(context))
        else:
            self._gate.passed(_host(context))
            return
        code: int = answer.code.value[0]
        details = encode_status(code, answer.message, answer.retry_after_s)
        await context.abort(answer.code, answer.message, ((DETAILS_KEY, details),) if answer.retry_after_s else ())

    def _sender(self, context: _Context) -> Sender:
        headers: dict[str, str] = {}
        for key, value in context.invocation_metadata() or ():
            if isinstance(value, str):
                if key == "authorization" and key in headers:
                    raise Unauthenticated("there is more than one Authorization header")
                headers[key] = value
        if self._authenticator is None:
            return Sender(None, headers)
        return Sender(self._authenticator.principal(headers.get("authorization")), headers)


def _host(context: _Context) -> str:
    """The peer's address without its port; gRPC writes ``ipv4:1.2.3.4:5`` and ``ipv6:%5B::1%5D:5``."""
    return context.peer().rpartition(":")[0]
