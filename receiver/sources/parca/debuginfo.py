"""``DebuginfoService``: what becomes of the debug information that agents would upload.

Without a server behind, each question is answered with "not now", in the one sentence after which an agent asks again in
five minutes; after any other it never would (``reporter/parca_uploader.go``), and a server that is configured later would
get nothing until the agents restart.
"""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import grpc
import grpc.aio

from receiver.errors import Relayed
from receiver.net.grpc import channel, unary
from receiver.net.grpc_server import Streaming
from translators.pb.debuginfo_pb2 import ShouldInitiateUploadResponse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from receiver.net.gate import Receive, Sender
    from receiver.net.grpc_server import Conversation
    from receiver.sources.parca.config import Debuginfo

_SERVICE: Final = "/parca.debuginfo.v1alpha1.DebuginfoService"
SHOULD_PATH: Final = f"{_SERVICE}/ShouldInitiateUpload"
UPLOAD_PATH: Final = f"{_SERVICE}/Upload"
_UNARY_PATHS: Final = tuple(f"{_SERVICE}/{name}" for name in ("InitiateUpload", "MarkUploadFinished"))

IN_PROGRESS: Final = "A previous upload is still in-progress and not stale yet (only stale uploads can be retried)."
"""Word for word what the agent compares with (``ReasonUploadInProgress``)."""
_NOT_NOW: Final = ShouldInitiateUploadResponse(should_initiate_upload=False, reason=IN_PROGRESS).SerializeToString()
_CHUNK_BYTES: Final = 9 << 20
"""An agent's chunks have 8 MiB, and some bytes around them."""
_TIMEOUT_S: Final = 30.0


class Service(NamedTuple):
    """The methods of the service, by name."""

    methods: Mapping[str, Receive]
    streams: Mapping[str, Streaming]


@asynccontextmanager
async def service(config: Debuginfo | None) -> AsyncIterator[Service]:
    """Give the methods while the context is open; None answers without a server behind.

    Raises:
        StartError: A file of ``tls`` cannot be used.
    """
    if config is None:
        yield Service({SHOULD_PATH: _not_now}, {})
        return
    async with channel(config.endpoint, config.tls) as behind:
        methods = {path: partial(_relay, behind, path) for path in _UNARY_PATHS}
        yield Service(
            {SHOULD_PATH: partial(_ask, behind), **methods},
            {UPLOAD_PATH: Streaming(partial(_upload, behind), _CHUNK_BYTES)},
        )


async def _not_now(_: Sender, __: bytes) -> bytes:
    return _NOT_NOW


async def _ask(behind: grpc.aio.Channel, sender: Sender, message: bytes) -> bytes:
    """Ask the server behind; while it is away, agents need not know, and ask again."""
    try:
        return await _relay(behind, SHOULD_PATH, sender, message)
    except Relayed as error:
        if error.status in {"UNAVAILABLE", "DEADLINE_EXCEEDED"}:
            return _NOT_NOW
        raise


async def _relay(behind: grpc.aio.Channel, path: str, _: Sender, message: bytes) -> bytes:
    try:
        return await unary(behind, path, message, timeout_s=_TIMEOUT_S)
    except grpc.aio.AioRpcError as error:
        raise _relayed(error) from None


async def _upload(behind: grpc.aio.Channel, _: Sender, call: Conversation) -> None:
    method: grpc.aio.StreamUnaryMultiCallable[bytes, bytes] = behind.stream_unary(UPLOAD_PATH)
    onward = method()
    try:
        with contextlib.suppress(asyncio.InvalidStateError):  # the server has answered before the end
            while (message := await call.read()) is not None:
                await onward.write(message)
                call.forget()
            await onward.done_writing()
        await call.write(await onward)
    except grpc.aio.AioRpcError as error:
        raise _relayed(error) from None
    finally:
        onward.cancel()


def _relayed(error: grpc.aio.AioRpcError) -> Relayed:
    return Relayed(error.code().name, error.details() or "the server behind gives no reason")
