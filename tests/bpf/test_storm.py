"""Nothing is lost without being counted: delivered + lost is how often the kernel ran the program."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from bpf.live import BpfProcess, Peer, require_bpf

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.alone

PROCESSES = 5000
LONG_ARGUMENT = "x" * 4000  # 5,000 of them are 20 MB: more than kernel buffer, outbox and socket hold together
_STATS = Path("/proc/sys/kernel/bpf_stats_enabled")


class Account:
    """Compares the kernel's count with what peers got; other processes of the machine exec all the while."""

    def __init__(self, process: BpfProcess) -> None:
        """Connect the first peer; what happened before it does not count."""
        self.process = process
        runs = process.runs()
        self.peer = Peer(process.path)
        self._base = process.runs()
        self._delivered = self._lost = 0
        self.is_exact = runs == self._base
        """No program ran while the peer connected."""

    def got(self) -> int:
        """How many records were delivered, or reported as lost."""
        return self._delivered + self._lost + len(self.peer.raw["exec"]) + sum(self.peer.lost.values())

    def balance(self) -> None:
        """Read until delivered + lost is the kernel's count; it must never be more."""
        deadline = time.monotonic() + 20
        while (due := self.process.runs() - self._base) != self.got():
            assert self.got() <= self.process.runs() - self._base
            assert time.monotonic() < deadline, f"{due - self.got()} of {due} records are unaccounted for"
            self.peer.read(0.05)

    def hang_up(self) -> None:
        """Take what was sent and disconnect; the bpf process is stopped meanwhile, so nothing is under way."""
        os.kill(self.process.process.pid, signal.SIGSTOP)
        while self.peer.read(0.2):
            pass
        self._delivered += len(self.peer.raw["exec"])
        self._lost += sum(self.peer.lost.values())
        self.peer.close()
        os.kill(self.process.process.pid, signal.SIGCONT)

    def close(self) -> None:
        """End the peer and the process."""
        self.peer.close()
        self.process.stop()

    def come_back(self) -> None:
        """Connect again."""
        self.peer = Peer(self.process.path)


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    """An account with the bpf process and one program, whose beginning is exact."""
    require_bpf()
    before = _STATS.read_text(encoding="ascii")
    _STATS.write_text("1", encoding="ascii")
    account = Account(BpfProcess(tmp_path / "bpf.sock", ("exec",)))
    while not account.is_exact:
        account.close()
        account = Account(BpfProcess(tmp_path / "bpf.sock", ("exec",)))
    yield account
    account.close()
    _STATS.write_text(before, encoding="ascii")


def test_storm_is_delivered(account: Account, program: Path) -> None:
    """5,000 execs as fast as the machine can make them arrive, every one."""
    storm = subprocess.Popen([program, "storm", str(PROCESSES), "short"])
    while storm.poll() is None:
        account.peer.read(0.01)
    account.balance()
    assert sum(b"nothing\0short\0" in record for record in account.peer.raw["exec"]) == PROCESSES
    assert not account.peer.lost


def test_peer_that_does_not_read(account: Account, program: Path) -> None:
    """A peer that stops for a while costs counted records, never a blocked kernel reader, and then has the rest."""
    subprocess.run([program, "storm", str(PROCESSES), LONG_ARGUMENT], check=True)
    account.balance()
    assert set(account.peer.lost) == {("exec", "receiver_slow_or_away")}
    assert 0 < sum(account.peer.lost.values()) < PROCESSES


def test_stopped_bpf_process(account: Account, program: Path) -> None:
    """A bpf process that is stopped (SIGSTOP) goes on by itself; what the kernel's buffer had no room for is counted."""
    os.kill(account.process.process.pid, signal.SIGSTOP)
    subprocess.run([program, "storm", str(PROCESSES), LONG_ARGUMENT], check=True)
    os.kill(account.process.process.pid, signal.SIGCONT)
    account.balance()
    assert account.peer.lost["exec", "buffer_full"] > 0


def test_peer_that_was_away(account: Account, program: Path) -> None:
    """What happens between two peers is counted and told to the second."""
    account.hang_up()
    subprocess.run([program, "storm", "500", "short"], check=True)
    account.come_back()
    account.balance()
    assert account.peer.lost["exec", "receiver_slow_or_away"] >= 500


def test_peer_that_dies_with_a_full_outbox(account: Account, program: Path) -> None:
    """What waited for a peer that never came to read it is counted, too; only what its socket held is not."""
    subprocess.run([program, "storm", "1000", LONG_ARGUMENT], check=True)
    account.hang_up()
    account.come_back()
    account.balance()
    assert account.peer.lost["exec", "receiver_slow_or_away"] > 0
