"""Takes up a changed configuration without a restart: sources and exporter are built anew around the same queue.

Nothing changes unless all of the new configuration is right. A source whose section did not change keeps running.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING, NamedTuple

from receiver import notify
from receiver.errors import ConfigError, OtelbeeError
from receiver.exporters import file, otlp_grpc
from receiver.registry import source_type

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from receiver.config import Config
    from receiver.exporters.replaceable import Replaceable
    from receiver.fields import Section
    from receiver.supervision import Sources
    from receiver.types import Exporter

_log = logging.getLogger(__name__)

_KEPT = ("storage", "telemetry", "memory_limiter", "run_as", "shutdown_timeout")
"""Sections that stay as they were at start."""


class Reload(NamedTuple):
    """How a reload is asked for and what is loaded then."""

    asked: asyncio.Event
    load: Callable[[], Config]
    """Raises :class:`~receiver.errors.ConfigError`."""


class Reloader:
    """Reloads whenever it is asked to."""

    def __init__(
        self, config: Config, sources: Sources, exporter: Replaceable, build_exporter: Callable[[Config], Exporter]
    ) -> None:
        """Begin with ``config``, which runs."""
        self._config = config
        self._sources = sources
        self._exporter = exporter
        self._build_exporter = build_exporter

    async def run(self, reload: Reload) -> None:
        """Reload until cancelled."""
        while True:
            await reload.asked.wait()
            reload.asked.clear()
            notify.notify(notify.reloading())
            try:
                await self._take_up(await asyncio.to_thread(reload.load))
            except ConfigError as error:
                for problem in error.problems:
                    _log.error("Reload: %s", problem)
                _log.error("Reload failed; the configuration from before stays in force")
            except Exception as error:  # noqa: BLE001 - whatever it is, what runs goes on
                fault = None if isinstance(error, OtelbeeError) else error
                _log.error("Reload failed; the configuration from before stays in force: %s", error, exc_info=fault)
            finally:
                notify.notify(notify.READY)

    async def _take_up(self, config: Config) -> None:
        before = self._config
        plans = self._sources.plan(config)
        done: list[str] = []
        if (config.exporter, config.debug) != (before.exporter, before.debug) and not _same_file(config, before):
            await self._exporter.replace(self._build_exporter(config))
            done.append("exporter rebuilt")
        self._config = config
        done += await self._sources.replace(config, plans, config.shutdown_timeout.total_seconds() / 2)
        _log.info("Reload done: %s", "; ".join(done) or "nothing to change")
        if kept := list(_kept(before, config)):
            _log.warning("Reload: what changed in %s takes effect with a restart", ", ".join(kept))


def _same_file(config: Config, before: Config) -> bool:
    """Whether both write to one file, which a second opening might empty."""
    return (
        isinstance(config.exporter, file.Config)
        and isinstance(before.exporter, file.Config)
        and config.exporter.path == before.exporter.path
    )


def _kept(before: Config, now: Config) -> Iterator[str]:
    """Name what changed and is not taken up."""
    yield from (name for name in _KEPT if getattr(before, name) != getattr(now, name))
    if _same_file(now, before) and (now.exporter, now.debug) != (before.exporter, before.debug):
        yield "exporter::file"
    elif before.exporter.sending_queue != now.exporter.sending_queue:
        yield "sending_queue"
    if _dead_letter(before) != _dead_letter(now):
        yield "dead_letter"
    if os.geteuid() == 0 and _bpf(before) != _bpf(now):
        yield "the bpf process's programs and socket"


def _dead_letter(config: Config) -> object:
    return config.exporter.dead_letter if isinstance(config.exporter, otlp_grpc.Config) else None


def _bpf(config: Config) -> list[Section]:
    return [section for name, section in config.sources.items() if source_type(name) == "bpf"]
