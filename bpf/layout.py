"""What the programs have to know of this kernel, as compiler flags.

A struct member becomes ``-Dstruct__member=offset``. One that is missing, or whose size is not the one that the programs
read, gives no flag, and the programs leave out what needs it: absent, never a wrong value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from btf import Btf

    Format = Mapping[str, int]
    """A tracepoint's fields and their sizes in bytes."""

RING_BUFFER_PAGES = 1024
"""4 MiB: about 10,000 execs of the usual size."""

_MEMBERS: tuple[tuple[str, str, int], ...] = (
    ("task_struct", "cgroups", 8),
    ("task_struct", "cred", 8),
    ("task_struct", "exit_code", 4),
    ("task_struct", "group_leader", 8),
    ("task_struct", "mm", 8),
    ("task_struct", "real_parent", 8),
    ("task_struct", "self_exec_id", 8),  # 4 before Linux 5.7
    ("task_struct", "signal", 8),
    ("task_struct", "start_time", 8),
    ("task_struct", "tgid", 4),
    ("cgroup", "kn", 8),
    ("cgroup_subsys_state", "cgroup", 8),
    ("cred", "euid", 4),
    ("kernfs_node", "name", 8),
    ("mm_struct", "arg_end", 8),
    ("mm_struct", "arg_start", 8),
    ("signal_struct", "flags", 4),
    ("signal_struct", "group_exit_code", 4),
    ("signal_struct", "live", 4),
)
_CONTROLLERS = ("pids", "memory", "cpuset", "cpu")
"""Whose cgroup v1 hierarchy tells the container, the first that is mounted; every runtime has its folders in these."""


class Program(NamedTuple):
    """A kernel program: its source file, its number in records, and the tracepoints that it needs."""

    number: int
    source: str
    tracepoints: Mapping[tuple[str, str], tuple[str, ...]]
    """(category, event) to the fields without which the program cannot do."""


PROGRAMS: Mapping[str, Program] = {
    "exec": Program(1, "exec.c", {("sched", "sched_process_exec"): ("filename", "old_pid")}),
    "exit": Program(
        2, "exit.c", {("sched", "sched_process_exit"): ("pid",), ("sched", "sched_process_fork"): ("child_pid",)}
    ),
}


class LayoutError(Exception):
    """This kernel lacks something that a program cannot do without."""


def controller(proc_cgroups: str) -> str | None:
    """Return the cgroup v1 controller to ask, from the text of /proc/cgroups; None where all is on cgroup v2.

    Its lines are name, hierarchy, number of cgroups, enabled; hierarchy 0 is cgroup v2 (or nothing).
    """
    rows = (line.split() for line in proc_cgroups.splitlines() if not line.startswith("#"))
    mounted = {row[0] for row in rows if len(row) > 1 and row[1] != "0"}
    return next((name for name in _CONTROLLERS if name in mounted), None)


def flags(btf: Btf, cgroup_controller: str | None, exit_format: Format) -> list[str]:
    """Return the compiler flags for a kernel; ``exit_format`` is that of sched_process_exit, empty when not used."""
    defined: dict[str, int] = {}
    for owner, name, size in _MEMBERS:
        found = btf.member(owner, name)
        if found and found.size == size:
            defined[f"{owner}__{name}"] = found.offset
    parent = btf.member("kernfs_node", "parent") or btf.member("kernfs_node", "__parent")  # renamed in Linux 6.15
    if parent:
        defined["kernfs_node__parent"] = parent.offset
    comm = btf.member("task_struct", "comm")
    if comm:
        defined["task_struct__comm"] = comm.offset
    defined.update(_cgroup(btf, cgroup_controller))
    if "group_dead" in exit_format:
        defined["HAVE_GROUP_DEAD"] = 1
    elif exit_format and not defined.keys() >= {
        "task_struct__signal",
        "signal_struct__live",
        "task_struct__start_time",
    }:
        raise LayoutError("exit: this kernel's BTF lacks signal_struct.live, which tells the end of a process")
    if "BPF_MAP_TYPE_RINGBUF" in btf.constants("bpf_map_type"):
        defined["USE_RING_BUFFER"] = 1
        defined["RING_BUFFER_PAGES"] = RING_BUFFER_PAGES
    return [f"-D{name}={value}" for name, value in sorted(defined.items())]


def _cgroup(btf: Btf, cgroup_controller: str | None) -> dict[str, int]:
    """Where css_set holds the cgroup: v2's at once, v1's through the controller's state."""
    if cgroup_controller is None:
        found = btf.member("css_set", "dfl_cgrp")
        return {"CGROUP_IN_CSS_SET": found.offset} if found else {}
    states = btf.member("css_set", "subsys")
    index = btf.constants("cgroup_subsys_id").get(f"{cgroup_controller}_cgrp_id")
    if states is None or index is None or btf.member("cgroup_subsys_state", "cgroup") is None:
        return {}
    return {"CGROUP_IN_CSS_SET": states.offset + 8 * index, "CGROUP_BY_CONTROLLER": 1}
