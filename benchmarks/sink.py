"""A Collector that only counts: takes OTLP logs over gRPC and writes a line for each request.

A program of its own, so that what it costs is not measured. Its first line is the port; then, for each request, the
monotonic time in nanoseconds, the log records and the bytes in it.
"""

from __future__ import annotations

import asyncio
import time

import grpc
import grpc.aio

from translators.batch import Signal
from translators.otlp import count_items

_SERVICE = "opentelemetry.proto.collector.logs.v1.LogsService"
_MAX_BYTES = 64 * 1024 * 1024


async def main() -> None:
    """Serve until killed."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", _MAX_BYTES)])
    export = grpc.unary_unary_rpc_method_handler(_export)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, {"Export": export}),))
    port = server.add_insecure_port("localhost:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


async def _export(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    del context
    print(time.monotonic_ns(), count_items(Signal.LOGS, request), len(request), flush=True)
    return b""


if __name__ == "__main__":
    asyncio.run(main())
