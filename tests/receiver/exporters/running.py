"""Everything between the queue and a server, as the service builds it."""

from __future__ import annotations

import asyncio
import contextlib
import io
from typing import TYPE_CHECKING, Any

from receiver.exporters import build, dead_letter, otlp_grpc
from receiver.net.backoff import Backoff
from receiver.pipeline import Pipeline

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from receiver.telemetry import Telemetry

NEVER = Backoff(3600, 3600)
"""Between attempts of what is held, in tests where something else must end it."""
SOON = Backoff(0.02, 0.02)


@contextlib.asynccontextmanager
async def pipeline(
    endpoint: str, telemetry: Telemetry, backoff: Backoff = SOON, **options: Any
) -> AsyncIterator[Pipeline]:
    """A pipeline to ``endpoint`` as the service builds it, with short times."""
    queue = {"batch": {"flush_timeout": "10ms"}, **options.pop("sending_queue", {})}
    retry = {"initial_interval": "10ms", "max_interval": "20ms", **options.pop("retry_on_failure", {})}
    config = otlp_grpc.Config.model_validate(
        {
            "endpoint": endpoint,
            "tls": {"insecure": True},
            "sending_queue": queue,
            "retry_on_failure": retry,
            **options,
        }
    )
    exporter = build(config, telemetry, io.StringIO(), first_connection_spread_s=0)
    letters = dead_letter(config)
    try:
        async with Pipeline(config.sending_queue, exporter, telemetry, dead_letter=letters, held=backoff) as running:
            yield running
    finally:
        await exporter.close()
        if letters is not None:
            await letters.close()


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition; the test's timeout is the deadline."""
    while not condition():  # noqa: ASYNC110 - what is waited for happens in a server or a log
        await asyncio.sleep(0.005)
