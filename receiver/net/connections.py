"""The connections of an HTTP listener: how many, how long, and secured with the certificates of the moment."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from aiohttp import web

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from receiver.net.server_tls import Certificates

    _Handle = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_PAUSE_S: Final = 1.0
"""After the process ran out of file descriptors."""


class Timing(NamedTuple):
    """Limits of one listener; tests have narrower ones."""

    idle_s: float = 60.0
    """From the end of a request, or the beginning of the connection, to the end of the next request's headers."""
    handshake_s: float = 10.0
    stop_s: float = 1.0
    """For requests under way when the listener stops."""
    connections: int = 1024


class Connections(web.Server):
    """aiohttp's server, which accepts by itself.

    When all connections are taken, the one that has been idle for longest makes room for a new one.
    """

    def __init__(self, handle: _Handle, certificates: Certificates | None, timing: Timing, **options: Any) -> None:
        """Answer requests by ``handle``; ``options`` are those of aiohttp's request handler."""
        # Cancelled with its connection, a request lets go of its room at once; gRPC's are, too.
        super().__init__(self._busy(handle), handler_cancellation=True, keepalive_timeout=timing.idle_s, **options)
        self._certificates = certificates
        self._timing = timing
        self._free = asyncio.Semaphore(timing.connections)
        self._connected: set[web.RequestHandler] = set()
        self._idle: dict[web.RequestHandler, None] = {}  # in order
        self._arriving: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def accepting(self, listeners: Sequence[socket.socket]) -> AsyncIterator[None]:
        """Accept while the context is open; then let requests under way end, for a moment."""
        tasks = [asyncio.create_task(self._accept(each), name="http accept") for each in listeners]
        try:
            yield
        finally:
            for task in (*tasks, *self._arriving):
                task.cancel()
            await asyncio.gather(*tasks, *self._arriving, return_exceptions=True)
            self.pre_shutdown()
            await self.shutdown(self._timing.stop_s)

    def connection_made(self, handler: Any, transport: asyncio.Transport) -> None:
        """Note a new connection, which is idle until its first request."""
        super().connection_made(handler, transport)
        self._connected.add(handler)
        self._idle[handler] = None

    def connection_lost(self, handler: Any, exc: BaseException | None = None) -> None:
        """Make room."""
        super().connection_lost(handler, exc)
        self._connected.discard(handler)
        self._idle.pop(handler, None)
        self._free.release()

    def _busy(self, handle: _Handle) -> _Handle:
        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            self._idle.pop(request.protocol, None)
            try:
                return await handle(request)
            finally:
                if request.transport is not None:
                    self._idle[request.protocol] = None

        return answer

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError:
                await asyncio.sleep(_PAUSE_S)
                continue
            with contextlib.ExitStack() as stack:
                stack.callback(connection.close)
                await self._room()
                stack.pop_all()
            task = asyncio.create_task(self._begin(connection), name="http handshake")
            self._arriving.add(task)
            task.add_done_callback(self._arriving.discard)

    async def _room(self) -> None:
        if self._free.locked() and self._idle:
            longest = next(iter(self._idle))
            del self._idle[longest]
            longest.force_close()
        await self._free.acquire()

    async def _begin(self, connection: socket.socket) -> None:
        context = self._certificates.context() if self._certificates is not None else None
        handler = self()
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: handler,
                connection,
                ssl=context,
                ssl_handshake_timeout=self._timing.handshake_s if context is not None else None,
            )
        except OSError:  # a failed handshake among them
            if handler not in self._connected:
                self._free.release()
