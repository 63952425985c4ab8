"""The ``parca`` source: a Parca server to its agents, which hands on what they push."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from receiver.net import grpc_server, http_server
from receiver.net.http_forms import Route
from receiver.net.pushback import Pushback
from receiver.sources.parca import debuginfo, telemetry, write_raw
from receiver.sources.parca.arrow import ARROW_PATH, WRITE_PATH, Arrow
from receiver.sources.parca.intake import ProfileStore

if TYPE_CHECKING:
    from receiver.sources.parca.config import Config
    from receiver.types import Checkpoint, Intake


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
        config = self._config
        protocols = config.protocols
        gate = protocols.gate(intake, Pushback(config.max_pushback.total_seconds()))
        addresses: list[str] = []
        async with AsyncExitStack() as stack:
            store = ProfileStore(intake, config.resource_headers, tells_of_unnamed=config.native_names == "none")
            if protocols.grpc is not None:
                arrow, raw = Arrow(store), write_raw.WriteRaw(store)
                debug = await stack.enter_async_context(debuginfo.service(config.debuginfo))
                methods = {
                    ARROW_PATH: arrow.write_arrow,
                    write_raw.GRPC_PATH: raw.from_message,
                    telemetry.PATH: telemetry.receiver(intake),
                    **debug.methods,
                }
                streams = {
                    WRITE_PATH: grpc_server.Streaming(arrow.write, protocols.grpc.max_bytes),
                    **debug.streams,
                }
                address = await stack.enter_async_context(grpc_server.serve(protocols.grpc, gate, methods, streams))
                addresses.append(f"grpc {address}")
            if protocols.http is not None:
                routes = {write_raw.HTTP_PATH: Route(write_raw.WriteRaw(store).from_json, write_raw.Gateway())}
                address = await stack.enter_async_context(http_server.serve(protocols.http, gate, routes))
                addresses.append(f"http {address}")
            protocols.warn_if_open()
            intake.started(", ".join(addresses))
            intake.state(up=True, reason="listening")
            await asyncio.Event().wait()
