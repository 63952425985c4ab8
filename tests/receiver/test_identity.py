"""Who we are, read from /proc as the kernel writes it in hosts, containers and pods."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from receiver.identity import container_and_pod, in_container, self_exclude

if TYPE_CHECKING:
    from pathlib import Path

CONTAINER, OTHER = "0123456789abcdef" * 4, "fedcba9876543210" * 4
POD = "0a1b2c3d-0000-1111-2222-333344445555"
SYSTEMD_POD = f"kubepods-besteffort-pod{POD.replace('-', '_')}.slice"
HOST_PIDS, OTHER_PIDS = "pid:[4026531836]", "pid:[4026532177]"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A /proc of a process on the host, to be changed."""
    (tmp_path / "self/ns").mkdir(parents=True)
    (tmp_path / "self/ns/pid").symlink_to(HOST_PIDS)
    return tmp_path


def mount(root: str, mount_point: str) -> str:
    """One line of mountinfo (proc(5))."""
    return f"612 598 254:1 {root} {mount_point} rw,relatime - ext4 /dev/vda1 rw"


@pytest.mark.parametrize(
    ("cgroup", "mounts", "container", "pod"),
    [
        ("0::/user.slice/user-0.slice/session-1.scope", [], "", ""),
        (f"12:pids:/docker/{CONTAINER}\n1:name=systemd:/docker/{CONTAINER}", [], CONTAINER, ""),
        (f"0::/system.slice/docker-{CONTAINER}.scope", [], CONTAINER, ""),
        (f"0::/machine.slice/libpod-{CONTAINER}.scope/container", [], CONTAINER, ""),
        (f"11:cpu:/kubepods/burstable/pod{POD}/{CONTAINER}", [], CONTAINER, POD),
        (
            f"0::/kubepods.slice/kubepods-besteffort.slice/{SYSTEMD_POD}/cri-containerd-{CONTAINER}.scope",
            [],
            CONTAINER,
            POD,
        ),
        (f"0::/docker/{OTHER}/kubelet/kubepods/pod{POD}/{CONTAINER}", [], CONTAINER, POD),
        ("0::/", [mount(f"/var/lib/docker/containers/{CONTAINER}/hostname", "/etc/hostname")], CONTAINER, ""),
        (
            "0::/",
            [
                mount(f"/var/lib/kubelet/pods/{POD}/etc-hosts", "/etc/hosts"),
                mount(f"/run/containerd/io.containerd.grpc.v1.cri/sandboxes/{OTHER}/hostname", "/etc/hostname"),
            ],
            "",
            POD,
        ),
        ("0::/", [mount(f"/var/lib/kubelet/pods/{POD}/containers/a/1b2c", "/dev/termination-log")], "", POD),
        ("0::/", [mount(f"/var/lib/kubelet/pods/{POD}/volumes/x", "/host/volumes/x")], "", ""),
        ("0::/", ["short line"], "", ""),
        (f"0::/x/{CONTAINER}0", [], "", ""),
    ],
)
def test_container_and_pod(proc: Path, cgroup: str, mounts: list[str], container: str, pod: str) -> None:
    """Both cgroup versions, both cgroup drivers, nested runtimes, and a cgroup namespace that hides all."""
    (proc / "self/cgroup").write_text(cgroup + "\n")
    (proc / "self/mountinfo").write_text("\n".join(mounts) + "\n")
    assert container_and_pod(proc) == (container, pod)


def test_on_the_host_our_pid_counts(proc: Path) -> None:
    """Tetragon reports pids of the first pid namespace, which is ours here. The parent, a test runner, is not ours."""
    assert self_exclude(proc) == (frozenset({os.getpid()}), frozenset(), frozenset())


def test_a_parent_that_runs_our_command_counts(proc: Path) -> None:
    """The small parent that starts the service is otelbee as well."""
    parent = proc / str(os.getppid())
    parent.mkdir()
    command = [*sys.orig_argv[: 3 if sys.orig_argv[1] == "-m" else 2], "--config", "x"]
    (parent / "cmdline").write_bytes(b"\0".join(map(os.fsencode, command)) + b"\0")
    assert self_exclude(proc).pids == {os.getpid(), os.getppid()}


def test_inside_a_pid_namespace_our_pid_is_another_process(proc: Path) -> None:
    """A pid of another namespace would exclude a stranger on the host."""
    (proc / "self/ns/pid").unlink()
    (proc / "self/ns/pid").symlink_to(OTHER_PIDS)
    (proc / "self/cgroup").write_text(f"0::/docker/{CONTAINER}\n")
    assert self_exclude(proc) == (frozenset(), frozenset({CONTAINER}), frozenset())


def test_without_proc_nothing_is_known(tmp_path: Path) -> None:
    """No guess is made."""
    assert self_exclude(tmp_path) == (frozenset(), frozenset(), frozenset())


def test_a_pod_is_known_by_its_environment(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kubelet sets the variable in every container, where nothing else may tell."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert not in_container(proc)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert in_container(proc)


@pytest.mark.skipif(os.geteuid() != 0, reason="a new pid namespace needs root")
def test_a_real_pid_namespace() -> None:
    """The kernel's own answer in a namespace of its own."""
    code = "from receiver.identity import self_exclude; print(sorted(self_exclude().pids))"
    inside = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert inside.stdout == "[]\n"
