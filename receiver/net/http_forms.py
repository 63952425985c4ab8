"""How the requests of an HTTP route are written, and how its answers look."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from aiohttp import web

from receiver.errors import Unsupported
from receiver.net.retry_info import encode_status

if TYPE_CHECKING:
    from receiver.net.answers import Answer
    from receiver.net.gate import Receive

PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"
_CONNECT_PROTO: Final = "application/proto"
_SHOWN_CHARACTERS: Final = 80


class Form(Protocol):
    """One protocol's way to write requests and answers over HTTP."""

    def check(self, content_type: str) -> None:
        """Raise :class:`~receiver.errors.Unsupported` for a ``Content-Type`` that is not understood."""
        ...

    def success(self, content_type: str, body: bytes) -> web.Response:
        """Answer a request of this content type that was taken; ``body`` is what its receiver returned."""
        ...

    def refusal(self, content_type: str, answered: Answer) -> web.Response:
        """Answer a request of this content type that was not taken."""
        ...


class Route(NamedTuple):
    """What is served at a path; one that ends in ``/`` is served at everything below it."""

    receive: Receive
    form: Form


class Otlp:
    """OTLP/HTTP with protobuf bodies; an error is a ``google.rpc.Status`` (OTLP specification, "Failures")."""

    def check(self, content_type: str) -> None:
        """Take protobuf only."""
        if content_type != PROTOBUF:
            yet = " yet" if content_type == JSON else ""
            raise Unsupported(f"Content-Type {_shown(content_type)} is not supported{yet}; use {PROTOBUF}")

    def success(self, content_type: str, body: bytes) -> web.Response:  # noqa: ARG002 - the seam's
        """Answer with the response message."""
        return web.Response(body=body, content_type=PROTOBUF)

    def refusal(self, content_type: str, answered: Answer) -> web.Response:
        """Answer in the content type of the request."""
        code: int = answered.code.value[0]
        if content_type == JSON:
            return web.json_response({"code": code, "message": answered.message}, status=answered.http)
        body = encode_status(code, answered.message, answered.retry_after_s)
        return web.Response(status=answered.http, body=body, content_type=PROTOBUF)


class Connect:
    """Unary calls of the Connect protocol (connectrpc.com/docs/protocol): a message as it is, an error as JSON.

    The HTTP status of an error is that of the one table, which says more than Connect's; its clients go by ``code``.
    """

    def check(self, content_type: str) -> None:
        """Take protobuf and JSON."""
        if content_type not in {_CONNECT_PROTO, JSON}:
            hint = "; gRPC has a port of its own" if content_type.startswith("application/grpc") else ""
            raise Unsupported(
                f"Content-Type {_shown(content_type)} is not supported; use {_CONNECT_PROTO} or {JSON}{hint}"
            )

    def success(self, content_type: str, body: bytes) -> web.Response:
        """Answer in the content type of the request; an empty message is ``{}`` in JSON."""
        return web.Response(body=body or (b"{}" if content_type == JSON else b""), content_type=content_type)

    def refusal(self, content_type: str, answered: Answer) -> web.Response:  # noqa: ARG002 - always JSON
        """Answer with the code's name in lower case."""
        error = {"code": answered.code.name.lower(), "message": answered.message}
        return web.json_response(error, status=answered.http)


class Plain:
    """Any body; an answer is a status, and for an error a line of text for a person."""

    def __init__(self, success: int) -> None:
        """Answer what was taken with the status ``success``."""
        self._success = success

    def check(self, content_type: str) -> None:
        """Take whatever it says; the receiver looks at the body."""

    def success(self, content_type: str, body: bytes) -> web.Response:  # noqa: ARG002 - the seam's
        """Answer with the status alone."""
        return web.Response(status=self._success, body=body or None)

    def refusal(self, content_type: str, answered: Answer) -> web.Response:  # noqa: ARG002 - the seam's
        """Answer with the reason."""
        return web.Response(status=answered.http, text=f"{answered.message}\n")


def _shown(content_type: str) -> str:
    return repr(content_type[:_SHOWN_CHARACTERS])
