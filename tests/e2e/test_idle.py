"""What otelbee costs while nothing happens: nothing polls, whatever is configured."""

from __future__ import annotations

import re
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from peers.processes import Collector, Otelbee, TetragonPeer, free_port, until

from bpf import frames
from receiver.registry import SOURCES
from translators.bpf.records import RECORDS_HASH
from translators.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS, WINDOWS = 5.0, 4
"""The quietest window counts: what else runs on the machine makes every wake-up dearer, and never cheaper."""
MAX_CPU_SHARE = 0.002
"""Of a core."""
MAX_WAKEUPS_PER_S = 25
"""Of all threads together; one that polls as often as it sensibly can wakes 50 times a second and more."""
MAX_RSS_MIB = 128


@pytest.fixture
def bpf_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A socket as the bpf process listens at; otelbee starts none, for the whole machine's programs are never idle."""
    monkeypatch.setenv("OTELBEE_UNDER_PARENT", "1")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "bpf.sock"))
        listener.listen()
        yield listener


@pytest.mark.usefixtures("peers")
@pytest.mark.alone
def test_nothing_happens_and_nothing_is_done(tmp_path: Path, shared: Path, bpf_process: socket.socket) -> None:
    """With every source there is, all connected: under 0.2 % of a core, few wake-ups, memory as documented."""
    log = tmp_path / "tetragon.log"
    log.touch()
    recording = shared / "data" / "tetragon" / "recordings" / "highvol.pb.gz"
    with Collector(tmp_path) as collector, TetragonPeer(tmp_path, recording, flags=["--delay=1h"]) as agent:
        settings: dict[str, dict[str, Any]] = {  # of the sources that need some
            "tetragon": {"endpoint": agent.address},
            "tetragon_file": {"path": str(log)},
            "bpf": {"socket": str(tmp_path / "bpf.sock")},
            **{name: {"protocols": _protocols()} for name in ("otlp", "parca", "pprof")},
        }
        config = {
            "sources": {name: settings.get(name, {}) for name in SOURCES},
            "exporter": {"otlp_grpc": {"endpoint": collector.endpoint, "tls": {"insecure": True}}},
            "storage": str(tmp_path / "storage"),
            "memory_limiter": {"limit_mib": MAX_RSS_MIB},
        }
        with Otelbee(tmp_path, config) as otelbee:
            connection, _ = bpf_process.accept()
            with connection:
                programs = {"exec": RECORDS_HASH, "exit": RECORDS_HASH}
                hello = frames.hello(version=VERSION, boot_id="b00t", host_name="node-1", programs=programs, pids=())
                connection.sendall(hello + frames.clock(1_000, 5_000))
                until(lambda: otelbee.source("bpf")["up"] and otelbee.source("tetragon")["up"], "all peers are there")
                # Of the start: the first export, the gaps that it is.
                until(lambda: otelbee.metric("otelbee_exporter_queue_size") == 0, "what the start had to say is sent")
                time.sleep(1.5)  # the longest flush, and its timers
                cpu_share, per_s = min(_window(otelbee.pid) for _ in range(WINDOWS))
                rss_mib = otelbee.peak_bytes / 2**20
        assert (cpu_share < MAX_CPU_SHARE, per_s < MAX_WAKEUPS_PER_S, rss_mib < MAX_RSS_MIB) == (True, True, True), (
            f"{cpu_share:.2%} of a core, {per_s:.1f} wake-ups a second, {rss_mib:.0f} MiB"
        )


def _protocols() -> dict[str, dict[str, str]]:
    return {name: {"endpoint": f"127.0.0.1:{free_port()}"} for name in ("grpc", "http")}


def _window(pid: int) -> tuple[float, float]:
    """The share of a core and the wake-ups per second, for some seconds."""
    cpu_ns, wakeups, begun_s = _cpu_ns(pid), _wakeups(pid), time.monotonic()
    time.sleep(SECONDS)
    seconds = time.monotonic() - begun_s
    return (_cpu_ns(pid) - cpu_ns) / 1e9 / seconds, (_wakeups(pid) - wakeups) / seconds


def _cpu_ns(pid: int) -> int:
    """What the scheduler gave to all threads (proc(5), ``schedstat``): exact, where ``stat`` counts ticks of 10 ms."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))


def _wakeups(pid: int) -> int:
    """How often a thread stopped to wait for something."""
    statuses = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/status")]
    return sum(int(re.findall(r"^voluntary_ctxt_switches:\s+(\d+)$", text, re.MULTILINE)[0]) for text in statuses)
