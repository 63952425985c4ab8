"""The ``otlp`` source: hands requests on as the bytes they are, and answers when the queue has them."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Final

from receiver.errors import Malformed
from receiver.net import grpc_server, http_server
from receiver.net.gate import Gate
from receiver.net.grpc import is_loopback
from receiver.net.inflight import InFlight
from receiver.net.listen import split_address
from translators.batch import Origin

if TYPE_CHECKING:
    from receiver.net.gate import Sender
    from receiver.sources.otlp.config import Config, Protocols
    from receiver.types import Checkpoint, Intake

_log = logging.getLogger(__name__)

METHODS: Final = {
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
}
PATHS: Final = {signal: f"/v1/{signal}" for signal in METHODS}

_IN_FLIGHT_BYTES: Final = 64 << 20
_IN_FLIGHT_REQUESTS: Final = 4
"""A sender may have half of what is on its way in, so that two of the largest requests fit."""
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
        room = max(_IN_FLIGHT_BYTES, _IN_FLIGHT_REQUESTS * self._config.max_bytes)
        gate = Gate(intake, InFlight(room))
        addresses: list[str] = []
        async with AsyncExitStack() as stack:
            if protocols.grpc is not None:
                methods = {METHODS[signal]: partial(self._receive, intake, signal) for signal in METHODS}
                address = await stack.enter_async_context(grpc_server.serve(protocols.grpc, gate, methods))
                addresses.append(f"grpc {address}")
            if protocols.http is not None:
                routes = {PATHS[signal]: partial(self._receive, intake, signal) for signal in PATHS}
                address = await stack.enter_async_context(http_server.serve(protocols.http, gate, routes))
                addresses.append(f"http {address}")
            _warn_if_open(protocols)
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


def _warn_if_open(protocols: Protocols) -> None:
    """Say once, at the start, what a listener for other machines leaves open."""
    for name, config in (("grpc", protocols.grpc), ("http", protocols.http)):
        if config is None or is_loopback(split_address(config.endpoint)[0]):
            continue
        known = config.auth is not None or (config.tls is not None and config.tls.client_ca_file is not None)
        if not known:
            _log.warning(
                "%s %s can be reached from other machines, and anybody may send; set auth, or tls.client_ca_file",
                name,
                config.endpoint,
            )
        elif config.tls is None:
            _log.warning("%s %s receives secrets from other machines in plain text; set tls", name, config.endpoint)
