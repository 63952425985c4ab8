"""``WriteRaw``: pprof profiles with labels, over gRPC and as JSON the way Parca's gateway takes them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aiohttp import web
from google.protobuf import json_format

from receiver.errors import Malformed, Unsupported
from receiver.net.http_forms import JSON
from translators.pb.profilestore_pb2 import WriteRawRequest

if TYPE_CHECKING:
    from receiver.net.answers import Answer
    from receiver.net.gate import Sender
    from receiver.sources.parca.intake import ProfileStore

GRPC_PATH: Final = "/parca.profilestore.v1alpha1.ProfileStoreService/WriteRaw"
HTTP_PATH: Final = "/api/profiles/writeraw"

_INLINE_BYTES: Final = 64 * 1024
"""Of JSON, what is parsed in the event loop; more goes to a thread."""
_NOTHING: Final = b""
"""A ``WriteRawResponse``, which has no fields."""


class WriteRaw:
    """Both ways to call it."""

    def __init__(self, store: ProfileStore) -> None:
        """Hand records to ``store``."""
        self._store = store

    async def from_message(self, sender: Sender, message: bytes) -> bytes:
        """Take a ``WriteRawRequest``; one without a series is empty, and a success."""
        if message:
            await self._store.take("write_raw", message, sender)
        return _NOTHING

    async def from_json(self, sender: Sender, body: bytes) -> bytes:
        """Take the same message in JSON."""
        message = _parsed(body) if len(body) <= _INLINE_BYTES else await asyncio.to_thread(_parsed, body)
        return await self.from_message(sender, message)


class Gateway:
    """Requests and answers of grpc-gateway, as Parca's server has it."""

    def check(self, content_type: str) -> None:
        """Take JSON only, and what says nothing."""
        if content_type not in {JSON, "application/octet-stream"}:
            raise Unsupported(f"Content-Type {content_type[:80]!r} is not supported; use {JSON}")

    def success(self, content_type: str, body: bytes) -> web.Response:  # noqa: ARG002 - the seam's
        """Answer with the empty message."""
        return web.json_response({})

    def refusal(self, content_type: str, answered: Answer) -> web.Response:  # noqa: ARG002 - the seam's
        """Answer with a status, as ``google.rpc.Status`` is in JSON."""
        code: int = answered.code.value[0]
        error = {"code": code, "message": answered.message, "details": []}
        return web.json_response(error, status=answered.http)


def _parsed(body: bytes) -> bytes:
    try:
        request = json_format.Parse(body, WriteRawRequest(), ignore_unknown_fields=True)
    except (json_format.ParseError, ValueError, RecursionError) as error:
        raise Malformed(f"the body is no WriteRawRequest in JSON: {str(error)[:200]}") from None
    message: bytes = request.SerializeToString()
    return message
