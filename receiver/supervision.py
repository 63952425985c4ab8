"""The sources that run: started, restarted when they raise, stopped with a deadline, and rebuilt when they change."""

from __future__ import annotations

import asyncio
import logging
import random
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from receiver.errors import OtelbeeError, PermanentSourceError, StartError
from receiver.intake import SourceIntake
from receiver.registry import source_type
from translators.batch import Signal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from receiver.config import Config
    from receiver.fields import Section
    from receiver.memory import MemoryGuard
    from receiver.registry import Entry, Shared
    from receiver.storage import Storage
    from receiver.telemetry import Telemetry
    from receiver.types import Queue, Source
    from translators.batch import Translator

_log = logging.getLogger(__name__)

_FIRST_RESTART_S = 1.0
_LONGEST_RESTART_S = 30.0
_STEADY_S = 60.0
"""A source that ran this long is healthy again: the next restart waits like the first."""


class Surroundings(NamedTuple):
    """What all sources have in common, for as long as the service runs."""

    queue: Queue
    telemetry: Telemetry
    memory: MemoryGuard
    storage: Storage | None
    registry: Mapping[str, Entry]


class Plan(NamedTuple):
    """One source instance that can be started."""

    section: Section
    translator: Translator
    shared: Shared


class _Running(NamedTuple):
    section: Section
    made_of: tuple[Section, Section]
    """The sections that its translator depends on beside its own."""
    intake: SourceIntake
    task: asyncio.Task[None]


class Sources:
    """All source instances of one service."""

    def __init__(self, around: Surroundings) -> None:
        """Run sources between ``around.registry`` and ``around.queue``."""
        self.intakes: dict[str, SourceIntake] = {}
        """Of the sources that run, by instance name."""
        self._around = around
        self._running: dict[str, _Running] = {}
        self._failures: list[BaseException] = []
        self._failed = asyncio.Event()

    def plan(self, config: Config) -> dict[str, Plan]:
        """Make ready what ``config`` has and does not run yet; starts nothing.

        Raises:
            StartError: a translator cannot be built.
        """
        plans = {}
        for name, section in config.sources.items():
            if name in self._running and self._running[name].section == section and self._is_made_of(name, config):
                continue
            shared = config.shared()
            plans[name] = Plan(section, self._around.registry[source_type(name)].translator(section, shared), shared)
        return plans

    def start(self, config: Config, plans: Mapping[str, Plan], *, may_fail: bool) -> None:
        """Start what is planned. What then cannot start is a failure of the service, or tried again (``may_fail``)."""
        around = self._around
        for name, plan in plans.items():
            entry = around.registry[source_type(name)]
            since_ns = around.storage.newest_event_ns(name) if around.storage else 0
            intake = SourceIntake(
                name,
                plan.translator,
                around.queue,
                around.telemetry,
                plan.shared,
                memory=around.memory,
                gap_since_ns=since_ns if entry.stream else None,
                after=self.intakes.get(name),
            )
            build = partial(entry.source, plan.section, around.storage.checkpoint(name) if around.storage else None)
            task = asyncio.create_task(
                supervise(build, intake, around.telemetry, may_fail=may_fail), name=f"source {name}"
            )
            task.add_done_callback(self._note_failure)
            self.intakes[name] = intake
            self._running[name] = _Running(plan.section, (config.resource, config.redaction), intake, task)

    async def stop(self, timeout_s: float, names: Iterable[str] | None = None) -> None:
        """Stop these sources, or all; one that does not end within ``timeout_s`` is left behind, and named."""
        stopping = {name: self._running.pop(name) for name in list(self._running if names is None else names)}
        for each in stopping.values():
            each.task.cancel()
        if stopping:
            await asyncio.wait([each.task for each in stopping.values()], timeout=timeout_s)
        for name, each in stopping.items():
            if not each.task.done():
                _log.error("source %s did not stop within %.1f s and is left behind", name, timeout_s)
            each.intake.close()

    async def replace(self, config: Config, plans: Mapping[str, Plan], timeout_s: float) -> list[str]:
        """Stop what ``config`` has no more or differently, start what is planned; returns the names, in words."""
        gone = [name for name in self._running if name not in config.sources]
        changed = [name for name in self._running if name in plans]
        added = [name for name in plans if name not in self._running]
        await self.stop(timeout_s, [*gone, *changed])
        for name in gone:
            del self.intakes[name]
            self._around.telemetry.source_gone(name)
        self.start(config, plans, may_fail=True)
        words = (("stopped", gone), ("restarted", changed), ("started", added))
        return [f"{word} {', '.join(names)}" for word, names in words if names]

    def derived(self) -> frozenset[Signal]:
        """Signals that none of the sources receives."""
        return frozenset(Signal).difference(
            *(self._around.registry[source_type(name)].signals for name in self.intakes)
        )

    async def started(self) -> None:
        """Wait until every source has started."""
        for intake in list(self.intakes.values()):
            await intake.has_started.wait()

    async def failed(self) -> None:
        """Wait for the first source that fails for good, and raise what it raised."""
        await self._failed.wait()
        starts = [failure for failure in self._failures if isinstance(failure, StartError)]
        if len(starts) == len(self._failures):
            raise StartError("\n".join(map(str, starts)))
        raise next(failure for failure in self._failures if not isinstance(failure, StartError))

    def _is_made_of(self, name: str, config: Config) -> bool:
        return self._running[name].made_of == (config.resource, config.redaction)

    def _note_failure(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (failure := task.exception()) is not None:
            self._failures.append(failure)
            self._failed.set()


async def supervise(
    build: Callable[[], Source],
    intake: SourceIntake,
    telemetry: Telemetry,
    *,
    may_fail: bool = False,
) -> None:
    """Run one source until cancelled; restart it where it raises, unless its peer refused it for good.

    Raises:
        StartError: it raised before it had started, and may not (``may_fail``).
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
            if not may_fail and not intake.has_started.is_set():
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
