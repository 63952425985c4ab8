"""Nothing is lost without being counted: delivered + lost is how often the kernel ran the program."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from bpf.live import BpfProcess, require_bpf

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bpf.live import Peer

PROCESSES = 5000
LONG_ARGUMENT = "x" * 4000  # 5,000 of them are 20 MB: more than kernel buffer, outbox and socket hold together
_STATS = Path("/proc/sys/kernel/bpf_stats_enabled")


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BpfProcess]:
    """The bpf process with one program, whose runs the kernel counts."""
    require_bpf()
    before = _STATS.read_text(encoding="ascii")
    _STATS.write_text("1", encoding="ascii")
    process = BpfProcess(tmp_path_factory.mktemp("storm") / "bpf.sock", ("exec",))
    yield process
    process.stop()
    _STATS.write_text(before, encoding="ascii")


def settled(process: BpfProcess, peer: Peer) -> tuple[int, int]:
    """(runs, delivered + lost) at a moment when nothing is under way; other processes of the machine exec as well."""
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        runs = process.runs()
        while peer.read(1.3):  # losses are reported within a second
            pass
        if process.runs() == runs:
            return runs, len(peer.raw["exec"]) + sum(peer.lost.values())
    pytest.fail("the machine never came to rest")


def test_storm_is_delivered(counted: BpfProcess, program: Path) -> None:
    """5,000 execs as fast as the machine can make them arrive, every one."""
    with counted.peer() as peer:
        runs, got = settled(counted, peer)
        storm = subprocess.Popen([program, "storm", str(PROCESSES), "short"])
        while storm.poll() is None:
            peer.read(0.01)
        runs_after, got_after = settled(counted, peer)
        assert runs_after - runs == got_after - got >= PROCESSES
        assert sum(b"nothing\0short\0" in record for record in peer.raw["exec"]) == PROCESSES
        assert not peer.lost


def test_peer_that_does_not_read(counted: BpfProcess, program: Path) -> None:
    """A peer that stops for a while costs counted records, never a blocked kernel reader, and then has the rest."""
    with counted.peer() as peer:
        runs, got = settled(counted, peer)
        subprocess.run([program, "storm", str(PROCESSES), LONG_ARGUMENT], check=True)
        runs_after, got_after = settled(counted, peer)
        assert runs_after - runs == got_after - got >= PROCESSES
        assert set(peer.lost) == {("exec", "receiver_slow_or_away")}
        assert 0 < sum(peer.lost.values()) < PROCESSES


def test_stopped_bpf_process(counted: BpfProcess, program: Path) -> None:
    """A bpf process that is stopped (SIGSTOP) goes on by itself; what the kernel's buffer had no room for is counted."""
    with counted.peer() as peer:
        runs, got = settled(counted, peer)
        os.kill(counted.process.pid, signal.SIGSTOP)
        subprocess.run([program, "storm", str(PROCESSES), LONG_ARGUMENT], check=True)
        os.kill(counted.process.pid, signal.SIGCONT)
        runs_after, got_after = settled(counted, peer)
        assert runs_after - runs == got_after - got >= PROCESSES
        assert peer.lost["exec", "buffer_full"] > 0


def test_peer_that_was_away(counted: BpfProcess, program: Path) -> None:
    """What happens between two peers is counted and told to the second."""
    with counted.peer() as peer:
        runs, _ = settled(counted, peer)
    subprocess.run([program, "storm", "500", "short"], check=True)
    with counted.peer() as peer:
        runs_after, got_after = settled(counted, peer)
        assert peer.lost["exec", "receiver_slow_or_away"] >= 500
        assert runs_after - runs == got_after
