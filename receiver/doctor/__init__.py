"""``otelbee doctor``: whether this configuration would work on this machine, and what to do where it would not.

It looks for what ``otelbee run`` would find, and takes nothing: listeners are bound and let go, sources connect and
their data is not taken, the Collector gets an empty request per signal, nothing is written.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

import aiohttp

from receiver.doctor import collector, disk, source
from receiver.doctor.findings import Finding, as_json, as_lines, as_text, failure, works
from receiver.errors import StartError
from receiver.exporters import file, otlp_grpc
from receiver.net.listen import listen
from receiver.registry import SOURCES, source_type
from translators.batch import Signal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from receiver.config import Config
    from receiver.registry import Entry

__all__ = ["Finding", "as_json", "as_lines", "as_text", "examine", "failure", "running_version", "works"]


async def examine(config: Config, *, registry: Mapping[str, Entry] = SOURCES) -> AsyncIterator[Finding]:
    """Look at everything that a valid configuration needs, in the order in which it would be started."""
    yield Finding("config", "ok", f"{', '.join(config.sources)} to {_exporter_name(config)}")
    runs_already = False
    async for finding in _own_port(config.telemetry.endpoint):
        runs_already = finding.verdict == "note"
        yield finding
    needed = _signals(config, registry)
    if config.storage is not None:
        queue_bytes = int(config.exporter.sending_queue.queue_size) * len(needed)
        for finding in disk.examine_storage(config.storage.directory, queue_bytes, runs_already=runs_already):
            yield finding
    exporter = config.exporter
    if isinstance(exporter, otlp_grpc.Config):
        if exporter.dead_letter is not None:
            yield disk.examine_file("exporter::otlp_grpc::dead_letter", exporter.dead_letter.path)
        async for finding in collector.examine(exporter, needed):
            yield finding
    elif isinstance(exporter, file.Config):
        yield disk.examine_file("exporter::file::path", exporter.path)
    for name, section in config.sources.items():
        build = partial(registry[source_type(name)].source, section, None)
        yield await source.examine(name, section, build, runs_already=runs_already)
    if os.geteuid() == 0 and config.run_as.user:
        cause = f"all this was looked at as root; the receiver will be {config.run_as.user}"
        yield Finding("run_as", "note", cause, f"run 'otelbee doctor' as {config.run_as.user} as well")


def _exporter_name(config: Config) -> str:
    return type(config.exporter).__module__.rpartition(".")[2]


def _signals(config: Config, registry: Mapping[str, Entry]) -> frozenset[Signal]:
    """What the sources of a configuration make."""
    made = {signal for name in config.sources for signal in registry[source_type(name)].signals}
    spans = any(getattr(section, "process_spans", False) for section in config.sources.values())
    return frozenset(made | {Signal.TRACES} if spans else made)


async def _own_port(endpoint: str) -> AsyncIterator[Finding]:
    check = "telemetry::endpoint"
    try:
        for listener in listen(endpoint):
            listener.close()
    except StartError as error:
        if version := await running_version(endpoint):
            cause = f"{endpoint} is taken by otelbee {version}, which runs already"
            yield Finding(check, "note", cause, "stop it before another one is started")
        else:
            yield failure(check, str(error))
    else:
        yield Finding(check, "ok", f"{endpoint} can be listened on")


async def running_version(endpoint: str) -> str:
    """The version of the otelbee that listens there; empty where it is something else."""
    timeout = aiohttp.ClientTimeout(total=3)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"http://{endpoint}/live") as response,
        ):
            body: Any = await response.json()
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return ""
    return str(body.get("version", "")) if isinstance(body, dict) and body.get("status") == "live" else ""
