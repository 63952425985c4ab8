"""What the kernel says of processes whose lives are known."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bpf import layout
from translators.bpf.place import place_of

if TYPE_CHECKING:
    from bpf.live import Peer

ARGS_SIZE = 8192  # bpf/programs/records.h
CONTAINER = "5f" * 32


def boot_ticks(pid: int) -> int:
    """A running process's start since boot, in clock ticks (proc(5), /proc/PID/stat, field 22)."""
    return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])


def test_exec_and_exit_of_a_known_program(peer: Peer) -> None:
    """Path, arguments as they were given, users, parent, exit code and duration are exact."""
    args = [b"sh", b"-c", b"sleep 0.2; exit 7", b"", b"b c", "ü".encode(), b"\xff\xfe"]
    before_ns = time.monotonic_ns()
    child = subprocess.Popen(args, executable="/bin/sh")
    started_ns = time.monotonic_ns()
    assert child.wait() == 7
    after_ns = time.monotonic_ns()
    exited = peer.exit_of(child.pid)
    (started,) = peer.execs(child.pid)
    assert started.path == b"/bin/sh"
    assert started.args == b"\0".join(args) + b"\0"
    assert started.args_size == len(started.args)
    assert (started.uid, started.euid, started.parent_pid) == (0, 0, os.getpid())
    assert before_ns < started.time_ns < started_ns + 50_000_000
    assert (exited.status, exited.comm, exited.uid) == (7 << 8, b"sh", 0)
    assert exited.parent_pid == os.getpid()
    assert exited.identity == started.identity
    assert exited.identity is not None
    assert before_ns < exited.identity.start_ns < started.time_ns < exited.time_ns < after_ns
    assert exited.time_ns - exited.identity.start_ns > 200_000_000


def test_identity_is_the_kernels(peer: Peer) -> None:
    """The start is what /proc shows, and an exec counts one more than the parent's image that forked it."""
    child = subprocess.Popen(["/bin/sleep", "0.1"])
    ticks = boot_ticks(child.pid)
    child.wait()
    peer.exit_of(child.pid)
    (started,) = peer.execs(child.pid)
    assert started.identity is not None
    assert started.parent is not None
    suspended_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
    tick_ns = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    assert ticks == pytest.approx((started.identity.start_ns + suspended_ns) / tick_ns, abs=1.5)
    own = (started.parent.start_ns + suspended_ns) / tick_ns
    assert boot_ticks(os.getpid()) == pytest.approx(own, abs=1.5)
    assert started.identity.exec_count == started.parent.exec_count + 1


def test_exec_chain(peer: Peer) -> None:
    """Each exec of one process has the same start and one more on the count; the exit is the last image's."""
    child = subprocess.Popen(["/bin/sh", "-c", "exec /bin/sh -c 'exec /bin/true last'"])
    child.wait()
    exited = peer.exit_of(child.pid)
    images = peer.execs(child.pid)
    assert [image.path for image in images] == [b"/bin/sh", b"/bin/sh", b"/bin/true"]
    identities = [image.identity for image in images]
    assert None not in identities
    first = identities[0]
    assert first is not None
    assert [identity for identity in identities if identity] == [
        first._replace(exec_count=first.exec_count + step) for step in range(3)
    ]
    assert exited.identity == identities[-1]
    assert {image.parent_pid for image in images} == {os.getpid()}


def test_fork_without_exec(peer: Peer, program: Path) -> None:
    """A child that never execs has an exit of its own, with its parent's identity and its own code."""
    child = subprocess.Popen([program, "fork"])
    assert child.wait() == 2
    parent = peer.exit_of(child.pid)
    (forked,) = peer.children_of(child.pid)
    assert peer.execs(forked.pid) == []
    assert forked.status == 4 << 8
    assert forked.parent == parent.identity
    assert forked.identity is not None
    assert parent.identity is not None
    assert forked.identity.exec_count == parent.identity.exec_count
    assert forked.identity.start_ns > parent.identity.start_ns


def test_leader_that_ends_first(peer: Peer, program: Path) -> None:
    """A process ends once, with its last thread, and with the process's code."""
    child = subprocess.Popen([program, "leader"])
    assert child.wait() == 5
    assert peer.exit_of(child.pid).status == 5 << 8


def test_exit_of_the_only_thread(peer: Peer, program: Path) -> None:
    """exit(2) of the only thread gives its code, too."""
    child = subprocess.Popen([program, "raw"])
    assert child.wait() == 9
    assert peer.exit_of(child.pid).status == 9 << 8


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, 40])
def test_killed_by_a_signal(peer: Peer, program: Path, number: int) -> None:
    """The status is the signal's, real-time ones included; a core dump is a bit beside it."""
    child = subprocess.Popen([program, "raise", str(int(number))])
    assert child.wait() == -number
    status = peer.exit_of(child.pid).status
    assert status is not None
    assert status & ~0x80 == number


def test_orphan_without_exec(peer: Peer, program: Path) -> None:
    """The parent of an orphan's exit is who forked it, not the pid 1 that took it over."""
    child = subprocess.Popen([program, "orphan"])
    child.wait()
    parent = peer.exit_of(child.pid)
    peer.wait_for(lambda: peer.children_of(child.pid))
    (orphan,) = peer.children_of(child.pid)
    assert orphan.status == 6 << 8
    assert orphan.parent == parent.identity


def test_exec_of_a_thread(peer: Peer, program: Path) -> None:
    """A thread that execs becomes the process: same pid and start, one exec more, and its old id is told."""
    child = subprocess.Popen([program, "thread-exec", "/bin/sh", "-c", "exit 3"])
    assert child.wait() == 3
    exited = peer.exit_of(child.pid)
    first, second = peer.execs(child.pid)
    assert second.old_thread_id != child.pid
    assert first.old_thread_id == child.pid
    assert first.identity is not None
    assert exited.identity == second.identity == first.identity._replace(exec_count=first.identity.exec_count + 1)
    assert exited.parent_pid == os.getpid()


def test_no_arguments(peer: Peer, program: Path) -> None:
    """Linux 5.18 and later give a program without any argument one empty argument."""
    child = subprocess.Popen([program, "no-arguments"])
    child.wait()
    peer.exit_of(child.pid)
    assert peer.execs(child.pid)[-1].args in {b"\0", b""}


@pytest.mark.parametrize("size", [ARGS_SIZE - 1, ARGS_SIZE, ARGS_SIZE + 1, 120_000])
def test_long_arguments(peer: Peer, size: int) -> None:
    """What exceeds the limit is cut, and the true size tells so."""
    given = b"true\0" + b"x" * (size - 6) + b"\0"
    child = subprocess.Popen(given.split(b"\0")[:2], executable="/bin/true")
    child.wait()
    peer.exit_of(child.pid)
    (started,) = peer.execs(child.pid)
    assert started.args_size == len(given) == size
    assert started.args == given[:ARGS_SIZE]


def test_many_arguments(peer: Peer) -> None:
    """Arguments are cut by their bytes, not by their number."""
    args = ["true", *("a" for _ in range(5000))]
    child = subprocess.Popen(args, executable="/bin/true")
    child.wait()
    peer.exit_of(child.pid)
    (started,) = peer.execs(child.pid)
    assert started.args == ("\0".join(args) + "\0").encode()[:ARGS_SIZE]


def test_long_path(peer: Peer, tmp_path: Path) -> None:
    """A path of thousands of bytes arrives whole, and the strings after it are right."""
    folder = tmp_path
    for _ in range(14):
        folder /= "d" * 250
    folder.mkdir(parents=True)
    link = folder / "true"
    link.symlink_to("/bin/true")
    child = subprocess.Popen([os.fsencode(link), b"argument"])
    child.wait()
    peer.exit_of(child.pid)
    (started,) = peer.execs(child.pid)
    assert started.path == os.fsencode(link)
    assert started.args == os.fsencode(link) + b"\0argument\0"


def test_users(peer: Peer, tmp_path: Path) -> None:
    """The real user is who started it, the effective one whom a set-user-id program became."""
    copy = tmp_path / "true"
    copy.write_bytes(Path("/bin/true").read_bytes())
    os.chown(copy, 65534, 65534)
    copy.chmod(0o4755)
    child = subprocess.Popen([copy])
    child.wait()
    peer.exit_of(child.pid)
    (started,) = peer.execs(child.pid)
    assert (started.uid, started.euid) == (0, 65534)


def cgroup_root() -> Path:
    """Where cgroups are made that the programs look at: a v1 controller's hierarchy, or v2's."""
    controller = layout.controller(Path("/proc/cgroups").read_text(encoding="ascii"))
    return Path("/sys/fs/cgroup") / (controller or "")


def test_container_of_process_and_parent(peer: Peer) -> None:
    """The names of the process's cgroup and its parent's are read in the kernel, for the parent process as well."""
    above = cgroup_root() / f"otelbee-{os.getpid()}"
    inside = above / f"cri-containerd-{CONTAINER}.scope"
    inside.mkdir(parents=True)
    try:
        child = subprocess.Popen(
            ["/bin/sh", "-c", f"echo $$ > {inside}/cgroup.procs; exec /bin/sh -c '/bin/true; exit 1'"]
        )
        child.wait()
        exited = peer.exit_of(child.pid)
        (inner,) = peer.children_of(child.pid)
        outside, moved = peer.execs(child.pid)
        (from_inside,) = peer.execs(inner.pid)
    finally:
        inside.rmdir()
        above.rmdir()
    name, up = inside.name.encode(), above.name.encode()
    assert (
        moved.cgroup == exited.cgroup == inner.cgroup == from_inside.cgroup == from_inside.parent_cgroup == (name, up)
    )
    assert moved.parent_cgroup == outside.parent_cgroup == outside.cgroup != moved.cgroup
    assert place_of(moved.cgroup).container_id == CONTAINER
    assert place_of(moved.cgroup).runtime == "containerd"


def test_longest_cgroup_names(peer: Peer) -> None:
    """Names as long as the kernel allows them arrive whole, and what follows them in the record is right."""
    above = cgroup_root() / ("a" * 255)
    inside = above / ("b" * 255)
    inside.mkdir(parents=True)
    try:
        child = subprocess.Popen(["/bin/sh", "-c", f"echo $$ > {inside}/cgroup.procs; exec /bin/true argument"])
        child.wait()
        exited = peer.exit_of(child.pid)
        moved = peer.execs(child.pid)[-1]
    finally:
        inside.rmdir()
        above.rmdir()
    assert moved.cgroup == exited.cgroup == (b"b" * 255, b"a" * 255)
    assert moved.args == b"/bin/true\0argument\0"


def test_hello_and_clock(peer: Peer) -> None:
    """The peer learns who writes, in which boot, and how the kernel's clock relates to the wall clock."""
    assert peer.hello is not None
    assert peer.clock is not None
    assert peer.hello.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    assert set(peer.hello.programs) == {"exec", "exit"}
    assert os.getpid() in peer.hello.pids
    assert abs(peer.clock.offset_ns - (time.time_ns() - time.monotonic_ns())) < 50_000_000
