"""Who this process is, in the terms of the tools that may observe it."""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

from translators.batch import Exclude

_INIT_PID_NS = "pid:[4026531836]"
"""The kernel's fixed inode of the first pid namespace (``PROC_PID_INIT_INO``, include/linux/proc_ns.h)."""
_CONTAINER_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_POD_UID = re.compile(r"pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12})")
_POD_FILE = re.compile(r"/pods/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/(?:etc-hosts|containers/)")


def self_exclude(proc: Path = Path("/proc")) -> Exclude:
    """Return what tells this process's own events apart: pid, container and pod, as far as they can be known.

    Observers report pids of the first pid namespace, so inside another one our pid names some other process and is
    left out. The parent counts as ours only when it runs the same command: a shell or an init system does not.
    """
    container_id, pod_uid = container_and_pod(proc)
    return Exclude(
        pids=_own_pids(proc),
        container_ids=frozenset((container_id,)) if container_id else frozenset(),
        pod_uids=frozenset((pod_uid,)) if pod_uid else frozenset(),
    )


def container_and_pod(proc: Path = Path("/proc")) -> tuple[str, str]:
    """Return the id (64 hexadecimal digits) of our container and the uid of our pod, each empty when not known.

    The cgroup's path carries both (v1, v2, systemd or cgroupfs names). In a cgroup namespace of its own that path is
    ``/``; then the files that the runtime mounts over ``/etc`` carry the container (Docker, Podman) or the pod
    (kubelet).
    """
    cgroups, mounts = _lines(proc / "self/cgroup"), _lines(proc / "self/mountinfo")
    container_id = pod_uid = ""
    for line in cgroups:
        path = line.split(":", 2)[-1]
        container_id = (_CONTAINER_ID.findall(path) or [container_id])[-1]
        pod_uid = (_POD_UID.findall(path) or [pod_uid])[-1]
    for line in mounts:
        fields = line.split(" ")
        if len(fields) < 5:  # noqa: PLR2004 - proc(5): root is the fourth field, mount point the fifth
            continue
        root, mount_point = fields[3], fields[4]
        if mount_point in {"/etc/hosts", "/dev/termination-log"} and not pod_uid:
            pod_uid = (_POD_FILE.findall(root) or [""])[-1]
        # containerd and CRI-O mount their sandbox's hostname: that id is the pause container's.
        if mount_point == "/etc/hostname" and not container_id and "sandboxes" not in root:
            container_id = (_CONTAINER_ID.findall(root) or [""])[-1]
    return container_id, pod_uid.replace("_", "-")


def boot_ns() -> int:
    """Unix time in nanoseconds when this machine started, by the wall clock of now."""
    return time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def in_container(proc: Path = Path("/proc")) -> bool:
    """Whether this process runs in a container or a pod, where ``localhost`` need not be the host's."""
    return any(container_and_pod(proc)) or "KUBERNETES_SERVICE_HOST" in os.environ


def _own_pids(proc: Path) -> frozenset[int]:
    try:
        namespace = str((proc / "self/ns/pid").readlink())
    except OSError:
        return frozenset()
    if namespace != _INIT_PID_NS:
        return frozenset()
    parent = os.getppid()
    return frozenset((os.getpid(), parent)) if _runs_our_command(proc / str(parent)) else frozenset((os.getpid(),))


def _runs_our_command(process: Path) -> bool:
    try:
        command = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    ours = [os.fsencode(argument) for argument in sys.orig_argv]
    length = 3 if len(ours) > 1 and ours[1] == b"-m" else 2
    return len(ours) >= length and command[:length] == ours[:length]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
