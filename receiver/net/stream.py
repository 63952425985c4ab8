"""A server-streaming gRPC call as an asynchronous iterator of lists of messages, read straight from the socket.

The thin rim around :class:`receiver.net.call.Call`, which holds all of the protocol. One connection per call; no task
of its own; no keepalive on HTTP/2's level (grpc-go closes connections whose client pings more often than every five
minutes): the kernel's own probes find a peer whose machine is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import TYPE_CHECKING, Final, Self, cast

from receiver.net.call import Call, request_headers
from receiver.net.status import StreamError
from translators.version import VERSION

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from receiver.net.grpc import Target

DEFAULT_WINDOW_BYTES: Final = 8 << 20
DEFAULT_MAX_MESSAGE_BYTES: Final = 4 << 20
CONNECT_TIMEOUT_S: Final = 20.0
"""gRPC's own: for the connection, the TLS handshake and the server's first frame together."""

_READ_BYTES: Final = 256 << 10
"""About 1 ms of parsing: one turn of the loop."""
_UNSENT_BYTES: Final = 256 << 10
"""More than this, beside the request, waits to be written only where a server asks and does not read the answers."""
_PAUSE_S: Final = 0.002
"""At most, between two reads where the first brought less than a batch: waking up for every message costs ten times the
message."""
_PAUSE_BYTES: Final = 32 << 10
"""What a pause should let come. A unix socket holds no more than 160 messages of 400 bytes that were written one by one,
since each takes a buffer of its own in the kernel: a pause in which it runs full makes the sender wait."""
_MUCH_BYTES: Final = 64 << 10
"""A socket in which so much waited was full, or nearly: its sender may have waited, and writes on now."""
_NO_PAUSE_S: Final = 0.0002
"""A shorter pause would cost more than it saves."""
_CLOSE_S: Final = 0.25
"""How long the last words may take: a RST_STREAM, and TLS's close_notify, which C-core never answers."""
_PROBES: Final = ((socket.TCP_KEEPIDLE, 300), (socket.TCP_KEEPINTVL, 30), (socket.TCP_KEEPCNT, 4))
"""Seconds, seconds, count: a peer that vanished is noticed after seven minutes."""


class Stream:
    """The messages of a call, up to 256 at a time; ends with the status OK, raises StreamError with any other.

    Every message that arrived before the end is handed out first. A consumer that stops iterating stops the server
    once the window is full.
    """

    def __init__(self, connection: _Connection) -> None:
        """Iterate over what ``connection`` receives."""
        self._connection = connection

    @property
    def ended_s(self) -> float | None:
        """When the call ended, on the loop's clock: what had arrived may still wait. None while it goes on."""
        return self._connection.ended_s

    @property
    def waiting_bytes(self) -> int:
        """How many bytes of messages have arrived and wait."""
        return self._connection.call.waiting_bytes

    def __aiter__(self) -> Self:
        """Return the stream itself; it has one consumer."""
        return self

    async def __anext__(self) -> list[bytes]:
        """Return the next messages; at least one."""
        call = self._connection.call
        if call:
            await self._connection.read_out()
        while not (messages := call.take()):
            if call.error is not None:
                raise call.error
            if call.ended:
                raise StopAsyncIteration
            await self._connection.changed()
        self._connection.flush()
        return messages


@contextlib.asynccontextmanager
async def open_stream(
    target: Target,
    method: str,
    request: bytes,
    *,
    metadata: Sequence[tuple[str, str]] = (),
    authority: str = "",
    timeout_s: float | None = None,
    max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
    window_bytes: int = DEFAULT_WINDOW_BYTES,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
    tls: ssl.SSLContext | None = None,
    server_hostname: str = "",
) -> AsyncIterator[Stream]:
    """Connect, call ``/package.Service/Method`` with one serialised message, and iterate over the answers.

    Entering waits until the server speaks HTTP/2, not for its headers, which a server may hold back until its first
    message. Leaving cancels a call that has not ended, and closes the connection.

    Args:
        target: Where to connect.
        method: ``/package.Service/Method``.
        request: The serialised request message.
        metadata: Further headers; names in any case, values in printable ASCII.
        authority: ``:authority`` where it is not the target's own address (``localhost`` for a unix socket).
        timeout_s: Deadline that the server is told; None for none.
        max_message_bytes: A larger message ends the call with RESOURCE_EXHAUSTED.
        window_bytes: How much the server may send ahead of the consumer; 65,535 at least.
        connect_timeout_s: Until the server's first frame.
        tls: TLS instead of plain text. ALPN is set on it to ``h2``.
        server_hostname: The name that the certificate must carry; default: ``authority``'s host, else the target's.

    Raises:
        OSError: The connection is refused, the unix socket missing, a name not found.
        StreamError: The call failed, here or in the iteration; UNAVAILABLE for a peer that is no gRPC server.
        ValueError: An argument is out of its range.
    """
    headers = request_headers(
        method,
        scheme="http" if tls is None else "https",
        authority=authority or ("localhost" if target.socket_path else _address(target)),
        metadata=[("user-agent", f"otelbee/{VERSION}"), *metadata],
        timeout_s=timeout_s,
    )
    call = Call(headers, request, max_message_bytes=max_message_bytes, window_bytes=window_bytes)
    if tls is not None:
        tls.set_alpn_protocols(["h2"])
        server_hostname = server_hostname or _host(authority) or target.host or "localhost"
    connection = _Connection(call, _UNSENT_BYTES + len(request))
    try:
        await _establish(connection, target, connect_timeout_s, tls, server_hostname)
        yield Stream(connection)
    finally:
        await connection.close()


async def _establish(
    connection: _Connection, target: Target, timeout_s: float, tls: ssl.SSLContext | None, server_hostname: str
) -> None:
    """Connect, and wait until the server has spoken."""
    call, address = connection.call, _address(target)
    try:
        async with asyncio.timeout(timeout_s):
            await _connect(connection, target, tls, server_hostname if tls else None)
            while not (call.ready or call.ended):
                await connection.changed()
    except TimeoutError:
        raise StreamError("UNAVAILABLE", f"{address} did not answer within {timeout_s:g} s; {call.silence()}") from None
    except ssl.SSLError as error:
        raise StreamError("UNAVAILABLE", f"TLS with {address} failed: {_tls_problem(error)}") from None
    if call.error is not None and not call.ready:
        raise call.error


async def _connect(
    connection: _Connection, target: Target, tls: ssl.SSLContext | None, server_hostname: str | None
) -> None:
    loop = asyncio.get_running_loop()
    if target.socket_path:
        await loop.create_unix_connection(
            lambda: connection, target.socket_path, ssl=tls, server_hostname=server_hostname
        )
    else:
        port = int(target.address.rpartition(":")[2])
        await loop.create_connection(lambda: connection, target.host, port, ssl=tls, server_hostname=server_hostname)


class _Connection(asyncio.BufferedProtocol):
    """Moves bytes between a transport and a call, and wakes the call's one consumer."""

    def __init__(self, call: Call, unsent_limit: int) -> None:
        self.call = call
        self.ended_s: float | None = None
        self._unsent_limit = unsent_limit
        self._read_bytes = 0
        self._buffer = bytearray(_READ_BYTES)
        self._view = memoryview(self._buffer)
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._pause: asyncio.TimerHandle | None = None
        self._pause_s = _PAUSE_S
        self._closing = False
        self._lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        connected: socket.socket = transport.get_extra_info("socket")
        if connected.family != socket.AF_UNIX:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _PROBES:
                connected.setsockopt(socket.IPPROTO_TCP, option, value)
        encryption: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        if encryption is not None and encryption.selected_alpn_protocol() != "h2":
            self.call.fail("UNAVAILABLE", "the server did not agree to HTTP/2 (ALPN h2) in the TLS handshake")
            self._settle()
        else:
            self.flush()

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        self._read_bytes += nbytes
        self.call.receive(self._view[:nbytes])
        self.flush()
        if self.call.ended:
            self._settle()
        elif self._transport is not None and self._transport.get_write_buffer_size() > self._unsent_limit:
            self.call.fail("RESOURCE_EXHAUSTED", "the server floods with PING or SETTINGS and reads no answers")
            self._transport.abort()
        elif self.call and not self.call.full and self._transport is not None:
            self._pause_s = min(max(self._pause_s, _NO_PAUSE_S) * _PAUSE_BYTES / nbytes, _PAUSE_S)
            if self._pause_s >= _NO_PAUSE_S:
                self._transport.pause_reading()
                self._pause = asyncio.get_running_loop().call_later(self._pause_s, self._resume)
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        if isinstance(exc, ssl.SSLError):
            self.call.disconnect(f"was lost: {_tls_problem(exc)}")
        elif exc is not None:
            self.call.disconnect(f"was lost: {exc}")
        else:
            self.call.disconnect("was closed by the server")
        self._lost.set()
        self._wake()

    def flush(self) -> None:
        """Write what the call has to say."""
        if self._transport is not None and (data := self.call.outgoing()) and not self._closing:
            self._transport.write(data)

    async def read_out(self) -> None:
        """Let the reading go first, for as long as it finds much; others have their turns.

        A sender may have to drop what is not read, and reading costs a tenth of what a consumer does with it. A
        consumer that never waits would otherwise also keep the loop for as long as messages are there. But a socket is
        never empty while its sender is at work: to wait for that would be to read message by message.
        """
        self._read_bytes = _MUCH_BYTES
        while self._read_bytes >= _MUCH_BYTES:
            self._read_bytes = 0
            # The loop looks at the socket between the two.
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    async def changed(self) -> None:
        """Wait until the call received something or ended."""
        assert self._waiter is None, "a stream has one consumer"
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    async def close(self) -> None:
        """Cancel the call where it has not ended, and wait until the connection is closed."""
        self.call.cancel()
        if self._transport is None:
            return
        self.flush()
        if self._pause is not None:
            self._pause.cancel()
        self._settle()
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self._lost.wait()
        except TimeoutError:
            pass
        finally:
            self._transport.abort()
        await self._lost.wait()

    def _settle(self) -> None:
        """Close the connection of an ended call; what it has to say is still written."""
        assert self._transport is not None
        if not self._closing:
            # Once only: of asyncio's TLS transports, a second close() disables abort().
            self._closing = True
            self._transport.close()

    def _resume(self) -> None:
        assert self._transport is not None
        self._transport.resume_reading()

    def _wake(self) -> None:
        if self.call.ended and self.ended_s is None:
            self.ended_s = asyncio.get_running_loop().time()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _address(target: Target) -> str:
    """A socket's path, or ``host:port`` without ``dns:///``."""
    return target.socket_path or target.address.rpartition("/")[2]


def _host(authority: str) -> str:
    """Take the host from ``host:port``; IPv6 addresses stand in brackets."""
    host, separator, port = authority.rpartition(":")
    return (host if separator and port.isdigit() else authority).strip("[]")


def _tls_problem(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}; check ca_file and server_name_override"
    if error.reason in _NOT_TLS:
        return "the server does not speak TLS: configure plain text, or the address of its TLS listener"
    if error.reason in _OUR_CERTIFICATE:
        return f"the server refused our certificate ({error.reason}): check cert_file and key_file"
    return str(error.reason or error)


_NOT_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"})
_OUR_CERTIFICATE: Final = frozenset(
    {
        "TLSV13_ALERT_CERTIFICATE_REQUIRED",
        "TLSV1_ALERT_UNKNOWN_CA",
        "SSLV3_ALERT_BAD_CERTIFICATE",
        "SSLV3_ALERT_CERTIFICATE_EXPIRED",
        "SSLV3_ALERT_HANDSHAKE_FAILURE",
    }
)
