"""The ``otlp`` source: hands requests on as the bytes they are, and answers when the queue has them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Final

from receiver.errors import Malformed
from receiver.net import grpc_server, http_server
from receiver.net.http_forms import Otlp, Route
from translators.batch import Origin

if TYPE_CHECKING:
    from receiver.net.gate import Sender
    from receiver.sources.otlp.config import Config
    from receiver.types import Checkpoint, Intake

METHODS: Final = {
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
}
PATHS: Final = {signal: f"/v1/{signal}" for signal in METHODS}

_SUCCESS: Final = b""
"""An Export*ServiceResponse without ``partial_success``."""


class Source:
    """Listens on the configured protocols."""

    def __init__(self, config: Config, checkpoint: Checkpoint | None = None) -> None:  # noqa: ARG002 - nothing to resume
        """Keep the configuration; nothing is opened before :meth:`run`."""
        self._config = config

    async def run(self, intake: Intake) -> None:
        """Listen until cancelled.

        Raises:
            StartError: An address cannot be bound, or a file of ``tls`` or ``auth`` cannot be used.
        """
        protocols = self._config.protocols
        gate = protocols.gate(intake)
        addresses: list[str] = []
        async with AsyncExitStack() as stack:
            if protocols.grpc is not None:
                methods = {METHODS[signal]: partial(self._receive, intake, signal) for signal in METHODS}
                address = await stack.enter_async_context(grpc_server.serve(protocols.grpc, gate, methods))
                addresses.append(f"grpc {address}")
            if protocols.http is not None:
                form = Otlp()
                routes = {PATHS[signal]: Route(partial(self._receive, intake, signal), form) for signal in PATHS}
                address = await stack.enter_async_context(http_server.serve(protocols.http, gate, routes))
                addresses.append(f"http {address}")
            protocols.warn_if_open()
            intake.started(", ".join(addresses))
            intake.state(up=True, reason="listening")
            await asyncio.Event().wait()

    async def _receive(self, intake: Intake, signal: str, sender: Sender, body: bytes) -> bytes:
        if not body:
            return _SUCCESS
        labels = {
            key: sender.headers[header]
            for header, key in self._config.resource_headers.items()
            if header in sender.headers
        }
        outcome = await intake.emit(signal, [body], Origin(sender.principal, labels), wait=False)
        if outcome.rejected:
            raise Malformed(outcome.rejected[0].message)
        return _SUCCESS
