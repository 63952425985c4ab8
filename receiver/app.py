"""The composition root: what feeds what, what starts first, what stops first.

Started in this order, and stopped in the reverse one: the exporter, the pipeline (queues in front of it), the sources,
each with its intake in front of the pipeline. Health and metrics are served all the while.
"""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, TextIO

from prometheus_client import CollectorRegistry

from receiver import exporters, health
from receiver.errors import OtelbeeError, PermanentSourceError, StartError
from receiver.intake import SourceIntake
from receiver.memory import MemoryGuard, container_limit
from receiver.pipeline import Pipeline
from receiver.registry import SOURCES, source_type
from receiver.storage import Storage
from receiver.telemetry import Telemetry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from receiver.config import Config
    from receiver.registry import Entry
    from receiver.types import Source

_log = logging.getLogger(__name__)

_FIRST_RESTART_S = 1.0
_LONGEST_RESTART_S = 30.0
_STEADY_S = 60.0
"""A source that ran this long is healthy again: the next restart waits like the first."""


async def run(
    config: Config, shutdown: Awaitable[object], stream: TextIO, *, registry: Mapping[str, Entry] = SOURCES
) -> None:
    """Run the service until ``shutdown`` is done, then stop within ``config.shutdown_timeout``.

    Args:
        config: What to run.
        shutdown: Its completion begins the graceful stop. Cancelling this coroutine stops at once.
        stream: Where the debug exporter writes.
        registry: What the sources of ``config`` are.

    Raises:
        StartError: a part cannot start on this machine.
    """
    telemetry = Telemetry(CollectorRegistry())
    intakes: dict[str, SourceIntake] = {}
    builders: dict[str, Callable[[], Source]] = {}
    state = health.Health(telemetry, intakes)
    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(health.serve(state, config.telemetry.endpoint))
        _log.info("Health and metrics are served at http://%s", address)
        storage = await stack.enter_async_context(Storage(config.storage)) if config.storage else None
        exporter = exporters.build(config.exporter, telemetry, stream, tap=config.debug)
        stack.push_async_callback(exporter.close)
        if (dead_letter := exporters.dead_letter(config.exporter)) is not None:
            stack.push_async_callback(dead_letter.close)
        pipeline = await stack.enter_async_context(
            Pipeline(
                config.exporter.sending_queue,
                exporter,
                telemetry,
                storage,
                dead_letter=dead_letter,
                held=exporters.held(config.exporter),
            )
        )
        memory = await stack.enter_async_context(_memory_guard(config, telemetry))
        for name, section in config.sources.items():
            shared = config.shared()
            entry = registry[source_type(name)]
            translator = entry.translator(section, shared)
            since_ns = storage.newest_event_ns(name) if storage else 0
            intakes[name] = SourceIntake(
                name,
                translator,
                pipeline,
                telemetry,
                shared,
                memory=memory,
                gap_since_ns=since_ns if entry.stream else None,
            )
            stack.callback(intakes[name].close)
            builders[name] = partial(entry.source, section, storage.checkpoint(name) if storage else None)
        deadline_s = await _run_sources(config, shutdown, state, intakes, builders)
        await pipeline.drain(max(0.0, deadline_s - asyncio.get_running_loop().time()))
    _log.info("Shutdown complete.")


def _memory_guard(config: Config, telemetry: Telemetry) -> MemoryGuard:
    soft_limit_bytes = config.memory_limiter.soft_limit_bytes(container_limit())
    return MemoryGuard(soft_limit_bytes, lambda: sum(level.size_bytes for level in telemetry.queues().values()))


async def _run_sources(
    config: Config,
    shutdown: Awaitable[object],
    state: health.Health,
    intakes: Mapping[str, SourceIntake],
    builders: Mapping[str, Callable[[], Source]],
) -> float:
    """Run all sources until ``shutdown``; returns the loop time, in seconds, by which the rest must have stopped."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_announce(state, intakes.values()), name="announce")]
            for name, intake in intakes.items():
                source = supervise(builders[name], intake, state.telemetry)
                tasks.append(group.create_task(source, name=f"source {name}"))
            await shutdown
            deadline_s = asyncio.get_running_loop().time() + config.shutdown_timeout.total_seconds()
            state.phase = "stopping"
            _log.info("Starting shutdown...")
            for task in tasks:
                task.cancel()
    except* StartError as failures:
        raise StartError("\n".join(str(failure) for failure in failures.exceptions)) from failures
    return deadline_s


async def _announce(state: health.Health, intakes: Iterable[SourceIntake]) -> None:
    for intake in intakes:
        await intake.has_started.wait()
    state.phase = "running"
    _log.info("Everything is ready. Begin running and processing data.")


async def supervise(build: Callable[[], Source], intake: SourceIntake, telemetry: Telemetry) -> None:
    """Run one source until cancelled; restart it where it raises, unless its peer refused it for good.

    Raises:
        StartError: it raised before it had started.
    """
    loop = asyncio.get_running_loop()
    delay_s = _FIRST_RESTART_S
    while True:
        began_s = loop.time()
        try:
            await build().run(intake)
        except PermanentSourceError as error:
            intake.state(up=False, reason=str(error))
            intake.has_started.set()  # the service starts and runs without it
            return
        except Exception as error:
            if not intake.has_started.is_set():
                raise StartError(f"sources::{intake.name}: {_reason(error)}") from error
            if loop.time() - began_s > _STEADY_S:
                delay_s = _FIRST_RESTART_S
            wait_s = delay_s * random.uniform(1.0, 1.5)  # noqa: S311 - jitter is no secret
            intake.state(up=False, reason=f"{_reason(error)}; restarted in {wait_s:.1f} s")
            if not isinstance(error, OtelbeeError):
                _log.exception("source %s raised", intake.name)
        else:
            intake.state(up=False, reason="ended")
            intake.has_started.set()
            return
        telemetry.restarted(intake.name)
        await asyncio.sleep(wait_s)
        delay_s = min(2 * delay_s, _LONGEST_RESTART_S)


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
