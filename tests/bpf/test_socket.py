"""Who may connect, and what becomes of a connection."""

from __future__ import annotations

import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from bpf.live import BPF, DEADLINE_S, SYSTEM_PYTHON, BpfProcess, Peer, require_bpf
from peers.processes import open_to_others

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = 65534

CONNECT_AS = """
import os, socket, sys
os.setgroups([])
os.setresgid(*[int(sys.argv[2])] * 3)
os.setresuid(*[int(sys.argv[3])] * 3)
peer = socket.socket(socket.AF_UNIX)
try:
    peer.connect(sys.argv[1])
except PermissionError:
    print("denied")
else:
    print("answered" if peer.recv(1) else "refused")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that other users may look into."""
    return open_to_others(tmp_path)


@pytest.fixture
def nobodys(folder: Path) -> Iterator[BpfProcess]:
    """The bpf process for a receiver that runs as nobody."""
    require_bpf()
    process = BpfProcess(folder / "bpf.sock", ("exit",), uid=NOBODY)
    yield process
    process.stop()


def connect(process: BpfProcess, gid: int, uid: int) -> str:
    """Connect as another user; tell what came of it."""
    command = [sys.executable, "-c", CONNECT_AS, str(process.path), str(gid), str(uid)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_socket_is_for_one_group_and_user(nobodys: BpfProcess) -> None:
    """0660 with the receiver's group; of those who may open it only the receiver's user is answered."""
    status = nobodys.path.stat()
    assert stat.S_IMODE(status.st_mode) == 0o660
    assert (status.st_uid, status.st_gid) == (0, NOBODY)
    assert connect(nobodys, 1234, 1234) == "denied"
    assert connect(nobodys, NOBODY, 1234) == "refused"
    assert "refused a peer: uid 1234" in nobodys.log
    assert connect(nobodys, 0, 0) == "refused"
    assert connect(nobodys, NOBODY, NOBODY) == "answered"


def test_privileges_of_the_process(nobodys: BpfProcess) -> None:
    """Root with CAP_PERFMON and CAP_BPF and nothing else, and nothing to be gained by an exec."""
    status = Path(f"/proc/{nobodys.process.pid}/status").read_text(encoding="ascii")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert {fields[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd")} == {f"{1 << 38 | 1 << 39:016x}"}
    assert fields["NoNewPrivs"] == "1"
    assert fields["Uid"].split() == ["0"] * 4


def test_second_peer_is_refused(bpf_process: BpfProcess) -> None:
    """There is one peer; another is turned away at once and the first goes on."""
    with bpf_process.peer() as first:
        second = Peer(bpf_process.path)
        assert second.ended
        assert second.hello is None
        second.close()
        child = subprocess.Popen(["/bin/true"])
        child.wait()
        first.exit_of(child.pid)


def test_peer_that_talks_is_dropped(bpf_process: BpfProcess) -> None:
    """The process reads nothing: a peer that sends something is none of ours."""
    with bpf_process.peer() as peer:
        peer.socket.sendall(b"GET / HTTP/1.1\r\n\r\n")
        peer.wait_for(lambda: peer.ended)
    assert "it sent something" in bpf_process.log


def test_killed_process_is_replaced(tmp_path: Path) -> None:
    """After a kill -9 its socket is left behind; the next process takes the place over."""
    require_bpf()
    first = BpfProcess(tmp_path / "bpf.sock", ("exit",))
    first.process.kill()
    first.process.wait(DEADLINE_S)
    assert first.path.is_socket()
    second = BpfProcess(tmp_path / "bpf.sock", ("exit",))
    with second.peer() as peer:
        child = subprocess.Popen(["/bin/true"])
        child.wait()
        peer.exit_of(child.pid)
    second.stop()
    assert not second.path.exists()
    assert second.process.returncode == 0


def refusal(*arguments: str | Path, python: str = SYSTEM_PYTHON) -> str:
    """Run the bpf process where it cannot run; return the one line that it says."""
    command = [python, "-I", "-B", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    return line


def test_place_that_is_taken(bpf_process: BpfProcess, tmp_path: Path) -> None:
    """A second process does not take a living one's socket, nor anything that is no socket."""
    line = refusal(BPF, "--program", "exit", "--socket", bpf_process.path)
    assert line == (
        f"otelbee-bpf: {bpf_process.path}: another process listens there; stop it or choose another --socket"
    )
    precious = tmp_path / "file"
    precious.write_text("precious", encoding="ascii")
    assert "exists and is no socket" in refusal(BPF, "--program", "exit", "--socket", precious)
    assert precious.read_text(encoding="ascii") == "precious"
    assert "No such file" in refusal(BPF, "--program", "exit", "--socket", tmp_path / "a" / "b" / "bpf.sock")


def test_python_without_bcc(tmp_path: Path) -> None:
    """An interpreter without bcc gets the name of the package."""
    require_bpf()
    line = refusal(BPF, "--program", "exit", "--socket", tmp_path / "bpf.sock", python=sys.executable)
    assert "python3-bpfcc" in line
    assert not (tmp_path / "bpf.sock").exists()


def test_closed_peer_is_noticed_while_frames_wait(bpf_process: BpfProcess) -> None:
    """A peer that goes away with its socket full makes room for the next one."""
    stuck = socket.socket(socket.AF_UNIX)
    stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    stuck.connect(str(bpf_process.path))
    for _ in range(100):
        subprocess.run(["/bin/true", "x" * 8000], check=True)
    stuck.close()
    deadline = time.monotonic() + DEADLINE_S
    while not bpf_process.log.splitlines()[-1].startswith("otelbee-bpf: peer gone"):
        assert time.monotonic() < deadline, bpf_process.log
        time.sleep(0.01)
    with bpf_process.peer() as peer:
        assert peer.hello is not None
