"""Many exporters with full queues, as many nodes have after an outage: a process of its own, until it is ended.

``herd.py SETTINGS``, JSON. Each exporter is a pipeline of otelbee's own with everything behind it, as the service builds
it, and a connection of its own. What fits its queue is acknowledged; the last line of output says that all are full.
"""

from __future__ import annotations

import asyncio
import io
import json
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from receiver.errors import QueueFull
from receiver.exporters import build, held, otlp_grpc
from receiver.pipeline import Pipeline
from receiver.telemetry import Telemetry
from tests.faults.sender import Ledger, Load, message
from translators.batch import Batch, Part, Signal

PER_REQUEST = 50


@dataclass(frozen=True)
class Settings:
    """Of all exporters of one process."""

    ledger: str
    port: int
    first: int
    """Number of the first exporter, for its name."""
    exporters: int
    config: dict[str, Any]
    """Of ``otlp_grpc``, without the endpoint."""


async def fill(pipeline: Pipeline, name: str, ledger: Ledger) -> None:
    """Put until there is no room."""
    load = Load(ledger="", endpoint="", name=name, body_bytes=900)
    first = 0
    while True:
        numbers = range(first, first + PER_REQUEST)
        batch = Batch(Signal.LOGS, len(numbers), message(load, numbers), (Part(name, len(numbers), 0),))
        ledger.note("sent", numbers)
        try:
            await pipeline.put([batch], wait=False)
        except QueueFull:
            return
        ledger.note("acknowledged", numbers)
        first = numbers.stop


async def main(settings: Settings) -> None:
    """Fill all queues, and send until ended."""
    with Path(settings.ledger).open("a", buffering=1) as file:  # noqa: ASYNC230 - nothing else runs here yet
        async with AsyncExitStack() as stack:
            for index in range(settings.exporters):
                # gRPC shares a connection between channels to one address.
                endpoint = f"127.0.0.{index + 1}:{settings.port}"
                config = otlp_grpc.Config.model_validate({"endpoint": endpoint, **settings.config})
                telemetry = Telemetry(CollectorRegistry())
                exporter = build(config, telemetry, io.StringIO())
                stack.push_async_callback(exporter.close)
                pipeline = Pipeline(config.sending_queue, exporter, telemetry, held=held(config))
                await stack.enter_async_context(pipeline)
                name = f"herd{settings.first + index}"
                await fill(pipeline, name, Ledger(name, file))
            sys.stdout.write("full\n")
            sys.stdout.flush()
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Settings(**json.loads(sys.argv[1]))))
