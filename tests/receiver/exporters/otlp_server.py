"""A real OTLP/gRPC server that answers by a script."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration

from translators.batch import Batch, Part, Signal
from translators.otlp import REQUESTS
from translators.pb.status_pb2 import RetryInfo, Status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


@dataclass
class Answer:
    """What the server does with one request."""

    code: grpc.StatusCode = grpc.StatusCode.OK
    details: str = ""
    retry_delay_s: float | None = None
    status_details: bytes | None = None
    silent: bool = False
    body: bytes = b""


@dataclass
class Request:
    """What the server saw of one request, and whether it took it."""

    method: str
    data: bytes
    metadata: dict[str, Any]
    at_s: float
    taken: bool = False


@dataclass
class Server:
    """Answers requests in turn by ``script``; when that is used up as ``judge`` says, by default with success."""

    port: int = 0
    script: deque[Answer] = field(default_factory=deque)
    requests: list[Request] = field(default_factory=list)
    judge: Callable[[Request], Answer] = field(default=lambda _: Answer())

    @property
    def endpoint(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    async def answer(self, method: str, data: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        """Record one request and do with it what the script says."""
        metadata = dict(context.invocation_metadata() or ())
        seen = Request(method, data, metadata, asyncio.get_running_loop().time())
        self.requests.append(seen)
        answer = self.script.popleft() if self.script else self.judge(seen)
        if answer.silent:
            await asyncio.Event().wait()
        if answer.code is not grpc.StatusCode.OK:
            await context.abort(answer.code, answer.details, _trailers(answer))
        seen.taken = True
        return answer.body

    @property
    def taken(self) -> list[Request]:
        """The requests that it answered with success, the empty ones left out."""
        return [seen for seen in self.requests if seen.taken and seen.data]


def _trailers(answer: Answer) -> tuple[tuple[str, bytes], ...]:
    details = answer.status_details
    if answer.retry_delay_s is not None:
        delay = Duration()
        delay.FromNanoseconds(round(answer.retry_delay_s * 1e9))
        retry_info = RetryInfo(retry_delay=delay).SerializeToString()
        # The type URL of the real google.rpc.RetryInfo, whose fields are those of ours.
        detail = AnyMessage(type_url="type.googleapis.com/google.rpc.RetryInfo", value=retry_info)
        details = Status(code=answer.code.value[0], details=[detail]).SerializeToString()
    return () if details is None else (("grpc-status-details-bin", details),)


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, server: Server) -> None:
        self._server = server

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        async def answer(data: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            return await self._server.answer(details.method, data, context)

        return grpc.unary_unary_rpc_method_handler(answer)


@contextlib.asynccontextmanager
async def serve(
    server: Server, credentials: grpc.ServerCredentials | None = None, **options: Any
) -> AsyncIterator[Server]:
    """Let ``server`` listen, on its own port if it has one already; with TLS if there are ``credentials``."""
    listener = grpc.aio.server(options=[*options.items(), ("grpc.so_reuseport", 0)])
    listener.add_generic_rpc_handlers((_Handler(server),))
    address = f"127.0.0.1:{server.port}"
    if credentials is None:
        server.port = listener.add_insecure_port(address)
    else:
        server.port = listener.add_secure_port(address, credentials)
    await listener.start()
    try:
        yield server
    finally:
        await listener.stop(0.2)  # an answer that the client already has may not have ended here


def request(signal: Signal = Signal.LOGS, records: int = 1) -> Batch:
    """A batch of ``records`` log records, spans, data points or samples."""
    message: Any = REQUESTS[signal]()
    if signal is Signal.LOGS:
        scope = message.resource_logs.add().scope_logs.add()
        for index in range(records):
            scope.log_records.add().body.string_value = f"record {index}"
    elif signal is Signal.TRACES:
        scope = message.resource_spans.add().scope_spans.add()
        for index in range(records):
            scope.spans.add().name = f"span {index}"
    elif signal is Signal.METRICS:
        scope = message.resource_metrics.add().scope_metrics.add()
        for index in range(records):
            scope.metrics.add(name="m").gauge.data_points.add().as_int = index
    else:
        scope = message.resource_profiles.add().scope_profiles.add()
        for index in range(records):
            scope.profiles.add().samples.add().values.append(index)
    return Batch(signal, records, message.SerializeToString(), (Part("test", records, 0),))
