"""The stand-in agent's stream by every reader there is: the bare Go client, bare grpc.aio, and otelbee to a Collector.

The agent (grpc-go, the official types) serves passes of the recording that were made before, each with exec ids and pids
of its own, on a unix socket; ``highvol_k8s`` has the same events in 110 pods that are replaced by and by. Processor time
is that of the named process; otelbee's is the whole way, from the socket to the Collector's answer.
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
from table import Row

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from peers import build, records
from peers.processes import Collector, Otelbee, TetragonPeer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

RUNS = 3
PASSES = 3
EVENTS = PASSES * 44_052
_DELAY_S = 1.5
"""Between the first request and the first event, so that no start is measured."""
_KINDS = {"highvol": (), "highvol_k8s": ("--pods=110", "--pod-life=20000")}
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


class Run(NamedTuple):
    """One way through all events."""

    cost_us: float
    per_second: float
    rss_mib: float | None = None
    size_bytes: float | None = None
    gzip_bytes: float | None = None


def rows() -> Iterator[Row]:
    """Every reader in turns; ratios are of otelbee's cost to the bare Go client's."""
    for kind, pods in _KINDS.items():
        runs: dict[str, list[Run]] = {}
        for _ in range(RUNS):
            runs.setdefault("bare Go client", []).append(_client(pods, [str(build.tetragon())]))
            runs.setdefault("bare grpc.aio", []).append(_client(pods, [sys.executable, "-c", _GRPC]))
            for name, redaction, compression in (
                ("otelbee", False, "none"),
                ("otelbee, redaction", True, "none"),
                ("otelbee, gzip", False, "gzip"),
            ):
                runs.setdefault(name, []).append(_otelbee(pods, redaction=redaction, compression=compression))
        base = runs["bare Go client"]
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
            )


def agent(folder: Path, more: Sequence[str]) -> TetragonPeer:
    """The stand-in for Tetragon's agent, whose events have the time at which they are made."""
    flags = [f"--loop={PASSES}", "--stamp", f"--delay={_DELAY_S}s", *more]
    return TetragonPeer(folder, recordings.HIGHVOL, flags=flags)


def _client(pods: Sequence[str], command: list[str]) -> Run:
    """Run a client that ends by itself after all events; what it costs to start is in its figure (a few per cent)."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="otelbee-bench-")))
        address = stack.enter_context(agent(folder, pods)).address
        is_go = command[0] == str(build.tetragon())
        arguments = [f"--read={address}", f"--count={EVENTS}"] if is_go else [address[7:], str(EVENTS)]
        begun_s = time.monotonic()
        process = subprocess.Popen([*command, *arguments], stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"{command[0]} ended with {process.returncode}")
        seconds = time.monotonic() - begun_s - _DELAY_S
        return Run((used.ru_utime + used.ru_stime) / EVENTS * 1e6, EVENTS / seconds, used.ru_maxrss / 1024)


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
        used_s, begun_s = cpu_s(otelbee.pid), time.monotonic()
        wait_for(collector, EVENTS)
        seconds = time.monotonic() - begun_s
        requests = list(records.frames(collector.proto.read_bytes()))
        return Run(
            (cpu_s(otelbee.pid) - used_s) / EVENTS * 1e6,
            EVENTS / seconds,
            otelbee.peak_bytes / 2**20,
            sum(map(len, requests)) / EVENTS,
            sum(len(gzip.compress(request, 6)) for request in requests) / EVENTS,
        )


def wait_for(collector: Collector, events: int) -> None:
    """Wait until the Collector has all; otelbee is not asked, which would be paid by otelbee."""
    deadline_s = time.monotonic() + 120
    while collector.count() <= events:  # one more: the gap that a start is
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"{collector.count()} of {events} events are delivered")
        time.sleep(0.25)


def cpu_s(pid: int) -> float:
    """What the scheduler gave to all threads that live, in seconds (proc(5), ``schedstat``)."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9
