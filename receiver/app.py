"""The composition root: what feeds what, what starts first, what stops first.

Started in this order, and stopped in the reverse one: the exporter, the pipeline (queues in front of it), the sources,
each with its intake in front of the pipeline. Health and metrics are served all the while.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, TextIO

from prometheus_client import CollectorRegistry

from receiver import exporters, health, notify
from receiver.exporters.replaceable import Replaceable
from receiver.memory import MemoryGuard, container_limit
from receiver.pipeline import Pipeline
from receiver.registry import SOURCES
from receiver.reload import Reload, Reloader
from receiver.storage import Storage
from receiver.supervision import Sources, Surroundings
from receiver.telemetry import Telemetry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from receiver.config import Config
    from receiver.registry import Entry
    from receiver.types import Exporter

_log = logging.getLogger(__name__)

_SOURCES_SHARE = 0.5
"""Of the time for a stop; the rest is left to send what they have queued."""


async def run(
    config: Config,
    shutdown: Awaitable[object],
    stream: TextIO,
    *,
    registry: Mapping[str, Entry] = SOURCES,
    reload: Reload | None = None,
) -> None:
    """Run the service until ``shutdown`` is done, then stop within ``config.shutdown_timeout``.

    Args:
        config: What to run.
        shutdown: Its completion begins the graceful stop. Cancelling this coroutine stops at once.
        stream: Where the debug exporter writes.
        registry: What the sources of ``config`` are.
        reload: How to take up another configuration; None never does.

    Raises:
        StartError: a part cannot start on this machine.
    """
    telemetry = Telemetry(CollectorRegistry())
    loop = asyncio.get_running_loop()

    def build_exporter(config: Config) -> Exporter:
        return exporters.build(config.exporter, telemetry, stream, tap=config.debug)

    async with AsyncExitStack() as stack:
        state = health.Health(telemetry)
        address = await stack.enter_async_context(health.serve(state, config.telemetry.endpoint))
        _log.info("Health and metrics are served at http://%s", address)
        await stack.enter_async_context(notify.watchdog())
        state.storage = storage = await stack.enter_async_context(Storage(config.storage)) if config.storage else None
        exporter = Replaceable(build_exporter(config))
        stack.push_async_callback(exporter.close)
        pipeline = await stack.enter_async_context(_pipeline(config, exporter, telemetry, storage, stack))
        memory = await stack.enter_async_context(_memory_guard(config, telemetry))
        sources = Sources(Surroundings(pipeline, telemetry, memory, storage, registry))
        state.sources, state.derived = sources.intakes, sources.derived
        sources.start(config, sources.plan(config), may_fail=False)
        try:
            reloader = Reloader(config, sources, exporter, build_exporter)
            await _until(shutdown, state, sources, reloader, reload)
        finally:
            state.phase = "stopping"
            stop_by_s = loop.time() + config.shutdown_timeout.total_seconds()
            await sources.stop(_SOURCES_SHARE * config.shutdown_timeout.total_seconds())
        await pipeline.drain(max(0.0, stop_by_s - loop.time()))
    _log.info("Shutdown complete.")


def _pipeline(
    config: Config, exporter: Exporter, telemetry: Telemetry, storage: Storage | None, stack: AsyncExitStack
) -> Pipeline:
    if (dead_letter := exporters.dead_letter(config.exporter)) is not None:
        stack.push_async_callback(dead_letter.close)
    return Pipeline(
        config.exporter.sending_queue,
        exporter,
        telemetry,
        storage,
        dead_letter=dead_letter,
        held=exporters.held(config.exporter),
    )


def _memory_guard(config: Config, telemetry: Telemetry) -> MemoryGuard:
    soft_limit_bytes = config.memory_limiter.soft_limit_bytes(container_limit())
    return MemoryGuard(soft_limit_bytes, lambda: sum(level.size_bytes for level in telemetry.queues().values()))


async def _until(
    shutdown: Awaitable[object], state: health.Health, sources: Sources, reloader: Reloader, reload: Reload | None
) -> None:
    """Wait for ``shutdown``, reloading meanwhile; raises what makes the service fail."""
    asked = asyncio.ensure_future(shutdown)
    failed = asyncio.create_task(sources.failed(), name="failed")
    beside = [asyncio.create_task(_announce(state, sources), name="announce")]
    if reload is not None:
        beside.append(asyncio.create_task(reloader.run(reload), name="reload"))
    try:
        await asyncio.wait({asked, failed}, return_when=asyncio.FIRST_COMPLETED)
        if failed.done():
            failed.result()
        notify.notify(notify.STOPPING)
        _log.info("Starting shutdown...")
    finally:
        for task in (failed, *beside):
            task.cancel()
        await asyncio.wait({failed, *beside})


async def _announce(state: health.Health, sources: Sources) -> None:
    await sources.started()
    state.phase = "running"
    notify.notify(notify.READY)
    _log.info("Everything is ready. Begin running and processing data.")
