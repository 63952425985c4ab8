"""The stand-in agent's stream by every reader there is: the bare Go client, bare grpc.aio, and otelbee to a Collector.

The agent (grpc-go, the official types) serves passes of the recording that were made before, on a unix socket. Each has
exec ids and pids of its own, but where the name says otherwise; ``highvol_k8s`` has the same events in 110 pods that are
replaced by and by. Processor time is that of the named process, with the agent's and the Collector's beside it;
otelbee's is the whole way, from the socket to the Collector's answer. Gzip is gRPC's own, of level 6: C-core knows no
other.
"""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import recordings
from peers import build, records
from peers.processes import Collector, Otelbee, TetragonPeer
from table import Row

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

RUNS = 3
PASSES = 3
EVENTS = PASSES * 44_052
_DELAY_S = 1.5
"""Between the first request and the first event, so that no start is measured."""
_KINDS = {
    "highvol": (),
    "highvol, thrice the same processes": ("--same-processes",),
    "highvol_k8s": ("--pods=110", "--pod-life=20000"),
}
_GRPC = """\
import asyncio, sys, grpc.aio
async def main():
    async with grpc.aio.insecure_channel("unix:" + sys.argv[1]) as channel:
        read, count = channel.unary_stream("/tetragon.FineGuidanceSensors/GetEvents")(b""), 0
        async for _ in read:
            count += 1
            if count == int(sys.argv[2]):
                return
asyncio.run(main())
"""

GO_CLIENT = "bare Go client"
CLIENTS = {GO_CLIENT: [str(build.tetragon())], "bare grpc.aio": [sys.executable, "-c", _GRPC]}
"""Commands to which the address and the number of events are added by :func:`client_command`."""


class Run(NamedTuple):
    """One way through all events; costs are processor time per event."""

    cost_us: float
    per_second: float
    rss_mib: float | None = None
    size_bytes: float | None = None
    gzip_bytes: float | None = None
    agent_us: float | None = None
    behind_us: float | None = None


def rows() -> Iterator[Row]:
    """Every reader in turns; ratios are of otelbee's cost to the bare Go client's."""
    for kind, pods in _KINDS.items():
        runs: dict[str, list[Run]] = {}
        for _ in range(RUNS):
            for name, command in CLIENTS.items():
                runs.setdefault(name, []).append(_client(pods, command))
            for name, redaction, compression in (
                ("otelbee", False, "none"),
                ("otelbee, redaction", True, "none"),
                ("otelbee, gzip level 6", False, "gzip"),
            ):
                runs.setdefault(name, []).append(_otelbee(pods, redaction=redaction, compression=compression))
        base = runs[GO_CLIENT]
        for name, own in runs.items():
            ratio = median(a.cost_us / b.cost_us for a, b in zip(own, base, strict=True))
            yield Row(
                f"{kind}: {name}",
                median(run.per_second for run in own),
                median(run.cost_us for run in own),
                own[0].size_bytes,
                own[0].gzip_bytes,
                own[0].rss_mib,
                None if own is base else ratio,
                agent_us=median(run.agent_us or 0 for run in own),
                behind_us=own[0].behind_us,
            )


def agent(folder: Path, more: Sequence[str]) -> TetragonPeer:
    """The stand-in for Tetragon's agent, whose events have the time at which they are made."""
    flags = [f"--loop={PASSES}", "--stamp", f"--delay={_DELAY_S}s", *more]
    return TetragonPeer(folder, recordings.HIGHVOL, flags=flags)


def _client(pods: Sequence[str], command: list[str]) -> Run:
    """Run a client that ends by itself after all events; what it costs to start is in its figure (a few per cent)."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="otelbee-bench-")))
        peer = stack.enter_context(agent(folder, pods))
        agent_s, begun_s = cpu_s(peer.pid), time.monotonic()
        process = subprocess.Popen(client_command(command, peer.address, EVENTS), stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"{command[0]} ended with {process.returncode}")
        seconds = time.monotonic() - begun_s - _DELAY_S
        return Run(
            (used.ru_utime + used.ru_stime) / EVENTS * 1e6,
            EVENTS / seconds,
            used.ru_maxrss / 1024,
            agent_us=(cpu_s(peer.pid) - agent_s) / EVENTS * 1e6,
        )


def client_command(command: Sequence[str], address: str, events: int) -> list[str]:
    """One of :data:`CLIENTS` that reads so many events from ``address``, ``unix://`` and a path."""
    if command is CLIENTS[GO_CLIENT]:
        return [*command, f"--read={address}", f"--count={events}"]
    return [*command, address.removeprefix("unix://"), str(events)]


def _otelbee(pods: Sequence[str], *, redaction: bool, compression: str) -> Run:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="otelbee-bench-")))
        collector = stack.enter_context(Collector(folder, formats=["proto"]))
        peer = stack.enter_context(agent(folder, pods))
        config: dict[str, Any] = {
            "sources": {"tetragon": {"endpoint": peer.address, "exclude_self": False}},
            "exporter": {
                "otlp_grpc": {
                    "endpoint": collector.endpoint,
                    "tls": {"insecure": True},
                    "compression": compression,
                    "sending_queue": {"queue_size": "1GiB"},
                }
            },
            "redaction": {"enabled": redaction},
        }
        otelbee = stack.enter_context(Otelbee(folder, config))
        peer.report("begin")
        programs = (otelbee, peer, collector)
        begun_s, used_s = time.monotonic(), [cpu_s(program.pid) for program in programs]
        wait_for(collector, EVENTS + 1)  # the gap that a start is
        seconds = time.monotonic() - begun_s
        cost_us, agent_us, behind_us = (
            (cpu_s(program.pid) - before_s) / EVENTS * 1e6 for program, before_s in zip(programs, used_s, strict=True)
        )
        requests = list(records.frames(collector.proto.read_bytes()))
        return Run(
            cost_us,
            EVENTS / seconds,
            otelbee.peak_bytes / 2**20,
            sum(map(len, requests)) / EVENTS,
            sum(len(gzip.compress(request, 6)) for request in requests) / EVENTS,
            agent_us,
            behind_us,
        )


def wait_for(collector: Collector, expected: int) -> None:
    """Wait until the Collector has so many; otelbee is not asked, which would be paid by otelbee."""
    deadline_s = time.monotonic() + 120
    while collector.count() < expected:
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"{collector.count()} of {expected} records are delivered")
        time.sleep(0.25)


def cpu_s(pid: int) -> float:
    """What the scheduler gave to all threads that live, in seconds (proc(5), ``schedstat``)."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9
