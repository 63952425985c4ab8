"""An HTTP/1.1 listener for requests that push something in their body."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Final

from aiohttp import web
from pydantic import Field

from receiver.errors import Malformed, TooLarge, Unauthenticated
from receiver.fields import Address, Section, Size
from receiver.net.auth import Auth, Authenticator
from receiver.net.compression import decompress
from receiver.net.connections import Connections, Timing
from receiver.net.gate import Gate, Sender
from receiver.net.listen import listen, show_address
from receiver.net.server_tls import Certificates, ServerTLS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from receiver.net.answers import Answer
    from receiver.net.http_forms import Route
    from receiver.net.inflight import Reservation

_FIRST_BYTES: Final = 64 * 1024
"""Reserved for a body that does not say its length; more as it comes."""
_INLINE_BYTES: Final = 64 * 1024
_INLINE_RESULT_BYTES: Final = 1024 * 1024
"""What is decompressed in the event loop; what is larger goes to a thread."""
_LINGER_S: Final = 2.0
"""How long the rest of a refused body is read and thrown away, so that its sender comes to see the answer."""


class Config(Section):
    """An HTTP listener; the keys are those of the Collector's confighttp."""

    endpoint: Address
    """Where to listen."""
    tls: ServerTLS | None = None
    """Unset: plain text."""
    auth: Auth | None = None
    """Unset: whoever can connect may send."""
    max_request_body_size: Annotated[Size, Field(ge=1024, le=64 << 20)] = Size(20 << 20)
    """Of a body, as it arrives and decompressed."""


_QUIET: Final = logging.getLogger(f"{__name__}.requests")
"""aiohttp's own messages are each about one request, and whoever can connect can cause them."""
_QUIET.disabled = True


@asynccontextmanager
async def serve(
    config: Config,
    gate: Gate,
    routes: Mapping[str, Route],
    timing: Timing = Timing(),  # noqa: B008 - immutable
) -> AsyncIterator[str]:
    """Serve ``POST`` to paths while the context is open; gives the address bound.

    Raises:
        StartError: The address cannot be bound, or a file of ``tls`` or ``auth`` cannot be used.
    """
    requests = _Requests(config, gate, routes)
    certificates = Certificates(config.tls) if config.tls is not None else None
    async with AsyncExitStack() as stack:
        listeners = listen(config.endpoint)
        for listener in listeners:
            stack.callback(listener.close)
        server = Connections(
            requests.handle,
            certificates,
            timing,
            access_log=None,
            logger=_QUIET,
            auto_decompress=False,
            lingering_time=_LINGER_S,
        )
        await stack.enter_async_context(server.accepting(listeners))
        yield show_address(listeners[0])


class _Requests:
    def __init__(self, config: Config, gate: Gate, routes: Mapping[str, Route]) -> None:
        self._gate = gate
        self._routes = routes
        self._max_bytes = int(config.max_request_body_size)
        self._authenticator = Authenticator(config.auth) if config.auth is not None else None

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        response = await self._answer(request)
        response.headers["Server"] = "otelbee"  # else aiohttp writes its own and Python's versions
        return response

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        route, below = self._route(request)
        if route is None:
            return web.Response(status=404, text=f"there are only {', '.join(self._routes)}")
        if request.method != "POST":
            return web.Response(status=405, headers={"Allow": "POST"}, text="only POST is possible")
        try:
            body = await self._take(route, below, request)
        except ConnectionError:
            return web.Response(status=400)  # nobody reads it
        except Exception as error:  # noqa: BLE001 - whatever it is, the sender is told
            answered = self._gate.refused(error, request.remote or "")
            response = route.form.refusal(request.content_type, answered)
            response.headers.update(self._hints(answered))
            return response
        self._gate.passed(request.remote or "")
        return route.form.success(request.content_type, body)

    def _route(self, request: web.BaseRequest) -> tuple[Route | None, str]:
        """Find what is served at a path, and what stands below the route, still percent-encoded."""
        path = request.rel_url.raw_path
        if (route := self._routes.get(path)) is not None:
            return route, ""
        for prefix, route in self._routes.items():
            if prefix.endswith("/") and path.startswith(prefix):
                return route, path.removeprefix(prefix)
        return None, ""

    async def _take(self, route: Route, below: str, request: web.BaseRequest) -> bytes:
        sender = self._sender(below, request)
        route.form.check(request.content_type)
        length = request.content_length
        if length is not None and length > self._max_bytes:
            raise TooLarge(f"the body is larger than max_request_body_size, {self._max_bytes} bytes")
        self._gate.check()
        first = _FIRST_BYTES if length is None else length
        async with self._gate.in_flight.reserve(first, sender.principal or request.remote or "") as reservation:
            if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
                request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = await self._body(request, reservation)
            encoding = request.headers.get("Content-Encoding", "").strip().lower()
            if encoding not in {"", "identity"}:
                body = await self._decompressed(encoding, body, reservation)
            return await route.receive(sender, body)

    async def _body(self, request: web.BaseRequest, reservation: Reservation) -> bytes:
        pieces: list[bytes] = []
        size = 0
        try:
            async with reservation.reading():
                while piece := await request.content.readany():
                    size += len(piece)
                    if size > self._max_bytes:
                        raise TooLarge(f"the body is larger than max_request_body_size, {self._max_bytes} bytes")
                    reservation.grow(size)
                    pieces.append(piece)
        except web.RequestPayloadError as error:
            raise Malformed(f"the body is cut off or not well chunked: {error}") from None
        return b"".join(pieces)

    async def _decompressed(self, encoding: str, body: bytes, reservation: Reservation) -> bytes:
        result = None
        small = min(self._max_bytes, _INLINE_RESULT_BYTES)
        if len(body) <= _INLINE_BYTES:
            reservation.grow(len(body) + small)
            with contextlib.suppress(TooLarge):
                result = decompress(encoding, body, small)
        if result is None:
            reservation.grow(len(body) + self._max_bytes)
            result = await asyncio.to_thread(decompress, encoding, body, self._max_bytes)
        reservation.resize(len(result))
        return result

    def _sender(self, below: str, request: web.BaseRequest) -> Sender:
        headers = {name.lower(): _text(value) for name, value in request.headers.items()}
        query = tuple((_text(name), _text(value)) for name, value in request.rel_url.query.items())
        if self._authenticator is None:
            return Sender(None, headers, below, query)
        if len(request.headers.getall("Authorization", ())) > 1:
            raise Unauthenticated("there is more than one Authorization header")
        return Sender(self._authenticator.principal(request.headers.get("Authorization")), headers, below, query)

    def _hints(self, answered: Answer) -> dict[str, str]:
        hints = {}
        if answered.retry_after_s is not None:
            hints["Retry-After"] = str(math.ceil(answered.retry_after_s))
        if answered.http == 401 and self._authenticator is not None:  # noqa: PLR2004 - Unauthorized
            hints["WWW-Authenticate"] = self._authenticator.challenge
        return hints


def _text(value: str) -> str:
    """Text of a request that can be encoded: aiohttp keeps bytes that are no UTF-8 as surrogates."""
    return value.encode(errors="replace").decode()
