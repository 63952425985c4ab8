"""What is on this machine, for a first configuration; each look is the doctor's."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from receiver.doctor import Finding, collector, disk, source
from receiver.exporters import otlp_grpc
from receiver.exporters.sending_queue import SendingQueue
from receiver.init import ports
from receiver.init.text import Block, block
from receiver.net.tls import ClientTLS
from receiver.registry import SOURCES
from receiver.sources import bpf, tetragon, tetragon_file
from receiver.sources.tetragon.discovery import DISCOVERY_FILE
from translators.batch import Signal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from receiver.fields import Section

_QUEUES_BYTES = SendingQueue().queue_size * len(Signal)


class Places(NamedTuple):
    """Where things are on a machine."""

    discovery_file: Path = DISCOVERY_FILE
    tetragon_socket: Path = Path("/var/run/tetragon/tetragon.sock")
    """For an agent without a discovery file."""
    export_files: tuple[Path, ...] = (
        Path("/var/log/tetragon/tetragon.log"),  # packages
        Path("/var/run/cilium/tetragon/tetragon.log"),  # the Helm chart up to 1.7
    )
    bpf_socket: Path = bpf.DEFAULT_SOCKET
    collector: str = "localhost:4317"
    own: str = "localhost:8877"
    """Health and metrics."""
    storage: Path = Path("/var/lib/otelbee")


class Found(NamedTuple):
    """What was looked at, and the keys of the configuration that follow from it."""

    findings: Sequence[Finding]
    sources: Sequence[Block]
    exporter: Block
    rest: Sequence[Block]


async def look(places: Places) -> Found:
    """Look at everything that a configuration could name."""
    stream, file = await _tetragon(places)
    kernel, programs = await _kernel(places, doubled=stream[1].on or file[1].on)
    read = [stream[1], file[1], programs]
    nothing = not any(each.on for each in read)
    exporter = await _collector(places)
    storage = _storage(places)
    own, free = await ports.own(places.own)
    moved, pushed = ports.listeners(SOURCES, free, on=nothing)
    return Found(
        findings=[stream[0], file[0], kernel, exporter[0], storage[0], *moved],
        sources=[*read, *pushed],
        exporter=exporter[1],
        rest=[storage[1], *own],
    )


async def _tetragon(places: Places) -> tuple[tuple[Finding, Block], tuple[Finding, Block]]:
    """The agent's stream and its export file; one of the two is switched on where both are there."""
    stream = tetragon.Config(discovery_file=places.discovery_file)
    if not places.discovery_file.exists() and places.tetragon_socket.exists():
        stream = tetragon.Config(endpoint=f"unix://{places.tetragon_socket}")
    finding = await _source("tetragon", stream)
    connected = finding.verdict == "ok"
    first = finding, block("tetragon", stream, on=connected, why=finding.cause)
    files = _export_files(places)
    file = tetragon_file.Config(path=next((path for path in files if path.exists()), files[0]))
    finding = await _source("tetragon_file", file)
    readable = finding.verdict == "ok"
    why = "the same events as the stream's, which is on" if connected and readable else finding.cause
    return first, (finding, block("tetragon_file", file, on=readable and not connected, why=why))


def _export_files(places: Places) -> tuple[Path, ...]:
    """The file that the agent says it writes (``InitInfo`` of its pkg/bugtool), then the usual ones."""
    try:
        told = json.loads(places.discovery_file.read_bytes())["export_fname"]
    except (OSError, ValueError, LookupError, TypeError):
        told = None
    return (Path(told), *places.export_files) if isinstance(told, str) and told.startswith("/") else places.export_files


async def _kernel(places: Places, *, doubled: bool) -> tuple[Finding, Block]:
    section = bpf.Config(socket=places.bpf_socket)
    finding = await _source("bpf", section)
    able = finding.verdict == "ok"
    why = "the same processes as Tetragon's, which is on" if able and doubled else finding.cause
    return finding, block("bpf", section, on=able and not doubled, why=why)


async def _source(name: str, section: Section) -> Finding:
    """What the doctor says about a source; that something is not there is no failure here."""
    finding = await source.examine(name, section, partial(SOURCES[name].source, section, None), runs_already=False)
    return finding if finding.verdict == "ok" else finding._replace(verdict="note")


async def _collector(places: Places) -> tuple[Finding, Block]:
    section = otlp_grpc.Config(endpoint=places.collector, tls=ClientTLS(insecure=True))
    looked = [each async for each in collector.examine(section, frozenset({Signal.LOGS}))]
    finding = next((each for each in looked if each.verdict == "fail"), looked[-1])
    if finding.verdict == "fail":
        finding = finding._replace(verdict="note")
    why = "a Collector answers here" if finding.verdict == "ok" else f"nobody takes anything here yet: {finding.cause}"
    return finding, block("otlp_grpc", section, on=True, why=why)


def _storage(places: Places) -> tuple[Finding, Block]:
    """Queues of every signal on disk; little room or another otelbee are no reason against it."""
    finding, *more = disk.examine_storage(places.storage, _QUEUES_BYTES, runs_already=True)
    finding = next((each for each in more if each.verdict == "fail"), finding)
    if finding.verdict == "fail":
        return finding._replace(verdict="note"), Block("storage", str(places.storage), on=False, why=finding.cause)
    return finding, Block("storage", str(places.storage), on=True, why="queues and checkpoints survive a restart")
