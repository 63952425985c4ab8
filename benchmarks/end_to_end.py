"""The whole way: ``otelbee replay`` serves the recording, ``otelbee run`` translates and exports, a sink counts.

Four programs share the machine's cores, so the rate is what this machine does; the cost per event, of ``otelbee run``
alone, is what can be compared.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import IO, TYPE_CHECKING, NamedTuple

import recordings
from table import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNS = 3
_DEADLINE_S = 120.0
_ROOT = Path(__file__).resolve().parent.parent
_SINK = Path(__file__).resolve().parent / "sink.py"


class Run(NamedTuple):
    """One recording from end to end."""

    per_second: float
    cost_us: float
    size_bytes: float
    rss_mib: float


class Arrival(NamedTuple):
    """One request at the sink."""

    monotonic_ns: int
    items: int
    size: int


def rows() -> Iterator[Row]:
    """Redaction off and on in turns."""
    events = len(recordings.as_it_is())
    off, on = [], []
    for _ in range(RUNS):
        off.append(_run(events, redaction=False))
        on.append(_run(events, redaction=True))
    for name, runs in (("off", off), ("on", on)):
        ratio = None if name == "off" else median(b.cost_us / a.cost_us for a, b in zip(off, on, strict=True))
        yield Row(
            f"replay to sink, redaction {name}",
            median(run.per_second for run in runs),
            median(run.cost_us for run in runs),
            median(run.size_bytes for run in runs),
            rss_mib=median(run.rss_mib for run in runs),
            ratio=ratio,
        )


def _run(events: int, *, redaction: bool) -> Run:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="otelbee-bench-")))
        errors = stack.enter_context((folder / "errors").open("w"))
        sink = stack.enter_context(_program([str(_SINK)], errors))
        assert sink.stdout is not None
        deadline = threading.Timer(_DEADLINE_S, sink.kill)
        deadline.start()
        stack.callback(deadline.cancel)
        stack.callback(_show_errors, folder / "errors")
        port = int(sink.stdout.readline())
        tetragon = folder / "tetragon.sock"
        replay = ["replay", "tetragon", str(recordings.HIGHVOL), "--listen", f"unix://{tetragon}"]
        stack.enter_context(_program(["-m", "receiver.cli", *replay], errors))
        _wait_for(tetragon)
        config = folder / "config.yaml"
        config.write_text(
            # A recorded process may have the pid that otelbee has here.
            f"sources: {{tetragon: {{endpoint: 'unix://{tetragon}', exclude_self: false}}}}\n"
            f"exporter: {{otlp_grpc: {{endpoint: 'localhost:{port}', tls: {{insecure: true}}}}}}\n"
            f"redaction: {{enabled: {str(redaction).lower()}}}\n"
            f"telemetry: {{endpoint: 'localhost:{_free_port()}', logs: {{level: warn}}}}\n",
        )
        otelbee = stack.enter_context(_program(["-m", "receiver.cli", "run", "--config", str(config)], errors))
        arrivals = [_arrival(sink.stdout.readline())]
        cpu_s = _cpu_s(otelbee.pid)
        while sum(arrival.items for arrival in arrivals) < events:
            arrivals.append(_arrival(sink.stdout.readline()))
        cpu_s = _cpu_s(otelbee.pid) - cpu_s
        rss_mib = sum(_peak_rss_kib(pid) for pid in _family(otelbee.pid)) / 1024
    # The last batch waits for more until flush_timeout; the rate is that of the full ones before it.
    full, counted = arrivals[:-1], sum(arrival.items for arrival in arrivals[1:])
    seconds = (full[-1].monotonic_ns - full[0].monotonic_ns) / 1e9
    return Run(
        sum(arrival.items for arrival in full[1:]) / seconds,
        cpu_s / counted * 1e6,
        sum(arrival.size for arrival in arrivals) / events,
        rss_mib,
    )


@contextmanager
def _program(arguments: list[str], errors: IO[str]) -> Iterator[subprocess.Popen[str]]:
    """Run a Python program of ours in the repository; its output is read here, what it logs goes to ``errors``."""
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    process = subprocess.Popen(
        [sys.executable, *arguments], cwd=_ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(_DEADLINE_S)
        assert process.stdout is not None
        process.stdout.close()


def _arrival(line: str) -> Arrival:
    if not line:
        raise RuntimeError(f"not everything arrived within {_DEADLINE_S:.0f} s; what the programs said is above")
    return Arrival(*map(int, line.split()))


def _show_errors(path: Path) -> None:
    """Show what the programs logged; nothing, when all is well, but that the recording is served."""
    for line in path.read_text().splitlines():
        if " is served at " not in line:
            print(line, file=sys.stderr)


def _wait_for(path: Path) -> None:
    end_s = time.monotonic() + _DEADLINE_S
    while not path.exists():
        if time.monotonic() > end_s:
            raise TimeoutError(f"nothing serves {path} after {_DEADLINE_S:.0f} s")
        time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _family(pid: int) -> list[int]:
    """A process and its descendants: as root, ``otelbee run`` is a small parent and the receiver below it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(one for child in children for one in _family(int(child)))]


def _cpu_s(pid: int) -> float:
    """Processor time of a process and its descendants, in seconds (proc(5), stat fields 14 and 15)."""
    ticks = 0
    for one in _family(pid):
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _peak_rss_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM:")))
