"""The real bpf process on the real kernel, and a peer that reads from it."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from receiver.net.backoff import Backoff
from receiver.parent import Identity, Setup, bpf_command
from translators.bpf import exec as exec_records
from translators.bpf import exit as exit_records
from translators.bpf import frames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from translators.bpf.exec import Exec
    from translators.bpf.exit import Exit

BPF = Path(__file__).parents[2] / "bpf"
SYSTEM_PYTHON = "/usr/bin/python3"
DEADLINE_S = 20.0


def unavailable(reason: str) -> None:
    """Skip the calling test for want of something of the machine; fail it in CI, where all of it is there."""
    if os.environ.get("CI", "").lower() == "true" or os.environ.get("OTELBEE_REQUIRE_BPF") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def require_bpf() -> None:
    """Skip or fail where the real kernel cannot be asked."""
    if os.geteuid() != 0:
        unavailable("loading kernel programs needs root")
    if subprocess.run([SYSTEM_PYTHON, "-c", "import bcc"], check=False, capture_output=True).returncode:
        unavailable("no bcc for the system's Python: apt-get install python3-bpfcc")
    subprocess.run([SYSTEM_PYTHON, "-I", "-B", str(BPF), "--mount-tracefs"], check=True)


class Peer:
    """A reader of the bpf process that keeps everything it got."""

    def __init__(self, path: Path) -> None:
        """Connect and wait for hello and clock, or for the end of the connection."""
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.socket.connect(str(path))
        except OSError:
            self.socket.close()
            raise
        self._cutter = frames.Reader()
        self.hello: frames.Hello | None = None
        self.clock: frames.Clock | None = None
        self.raw: dict[str, list[bytes]] = {"exec": [], "exit": []}
        self.lost: Counter[tuple[str, str]] = Counter()
        self.ended = False
        self.wait_for(lambda: self.clock is not None or self.ended)

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def read(self, timeout_s: float) -> bool:
        """Take what comes within the time; False when nothing did."""
        self.socket.settimeout(timeout_s)
        try:
            data = self.socket.recv(1 << 20)
        except TimeoutError:
            return False
        except ConnectionResetError:
            data = b""
        if not data:
            self.ended = True
            return False
        for frame in self._cutter.feed(data):
            if isinstance(frame, frames.Records):
                for kind, records in frame.by_kind.items():
                    self.raw[kind] += records
            elif isinstance(frame, frames.Hello):
                self.hello = frame
            elif isinstance(frame, frames.Clock):
                self.clock = frame
            else:
                self.lost.update(frame.counts)
        return True

    def wait_for(self, condition: Callable[[], object]) -> None:
        """Read until the condition holds."""
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, f"waited {DEADLINE_S:g} s in vain; lost: {dict(self.lost)}"
            self.read(0.1)

    def all_execs(self) -> list[Exec]:
        """Every exec so far, decoded."""
        return [exec_records.read(record) for record in self.raw["exec"]]

    def execs(self, pid: int) -> list[Exec]:
        """The execs of a process, decoded."""
        return [record for record in self.all_execs() if record.pid == pid]

    def exits(self, pid: int) -> list[Exit]:
        """The exits of a process, decoded."""
        return [record for record in map(exit_records.read, self.raw["exit"]) if record.pid == pid]

    def exit_of(self, pid: int) -> Exit:
        """Wait for the one exit of a process."""
        self.wait_for(lambda: self.exits(pid))
        (record,) = self.exits(pid)
        return record

    def children_of(self, pid: int) -> list[Exit]:
        """The exits of the processes that a process forked, decoded."""
        return [record for record in map(exit_records.read, self.raw["exit"]) if record.parent_pid == pid]


class BpfProcess:
    """The bpf process with the privileges that the parent gives it."""

    def __init__(self, path: Path, programs: tuple[str, ...] = ("exec", "exit"), uid: int = 0) -> None:
        """Start it for a receiver of this user and wait until it listens."""
        self.path = path
        self._log = path.with_suffix(".log")
        setup = Setup(Identity(uid, uid, ()), programs, path, (), backoff=Backoff())
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(bpf_command(setup), stderr=log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + DEADLINE_S
        while "listening at" not in self.log:
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)

    @property
    def log(self) -> str:
        """What it has said so far."""
        return self._log.read_text(encoding="utf-8")

    @contextmanager
    def peer(self) -> Iterator[Peer]:
        """Connect to it, once the one before is gone."""
        connection = Peer(self.path)
        try:
            yield connection
        finally:
            gone = self.log.count("peer gone")
            connection.close()
            deadline = time.monotonic() + DEADLINE_S
            while self.process.poll() is None and self.log.count("peer gone") == gone and "refused" not in self.log:
                assert time.monotonic() < deadline, self.log
                time.sleep(0.01)

    def runs(self) -> int:
        """How often the kernel has run its (one) program, while kernel.bpf_stats_enabled is set."""
        counts = []
        for info in Path(f"/proc/{self.process.pid}/fdinfo").iterdir():
            with suppress(FileNotFoundError):  # closed since it was listed
                found = re.search(r"^run_cnt:\s*(\d+)", info.read_text(encoding="ascii"), re.MULTILINE)
                counts += [int(found[1])] if found else []
        (count,) = counts
        return count

    def stop(self) -> None:
        """Stop it and wait for its end."""
        self.process.terminate()
        self.process.wait(DEADLINE_S)


def compiled(folder: Path, source: str) -> Path:
    """Compile a small C program."""
    if shutil.which("gcc") is None:
        unavailable("no gcc to compile the test's program")
    (folder / "program.c").write_text(source, encoding="ascii")
    program = folder / "program"
    subprocess.run(["gcc", "-pthread", "-o", program, folder / "program.c"], check=True)
    return program
