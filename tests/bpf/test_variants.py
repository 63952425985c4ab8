"""On kernels that lack something, what they lack is absent and everything else is right."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from bpf.live import SYSTEM_PYTHON, require_bpf

from bpf import layout
from translators.bpf import exec as exec_records
from translators.bpf import exit as exit_records

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from translators.bpf.exec import Exec
    from translators.bpf.exit import Exit

CONTAINER = "ab" * 32
COMMAND = ["/bin/sh", "-c", "exit 3", "", "last"]
MEMBERS = [f"{owner}__{name}" for owner, name, _ in layout._MEMBERS]


class Kernel(NamedTuple):
    """The helper that loads variants."""

    helper: subprocess.Popen[str]

    def run(
        self, drop: Sequence[str] = (), controller: str | None = "", command: Sequence[str] = COMMAND
    ) -> tuple[list[Exec], list[Exit]]:
        """Run a command under a variant; return its process's records."""
        if controller == "":
            controller = layout.controller(Path("/proc/cgroups").read_text(encoding="ascii"))
        assert self.helper.stdin is not None
        assert self.helper.stdout is not None
        question = {"drop": list(drop), "controller": controller, "command": list(command)}
        self.helper.stdin.write(json.dumps(question) + "\n")
        self.helper.stdin.flush()
        answer = json.loads(self.helper.stdout.readline())
        assert "error" not in answer
        execs = [exec_records.read(bytes.fromhex(record)) for record in answer["exec"]]
        return execs, [exit_records.read(bytes.fromhex(record)) for record in answer["exit"]]


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    """One helper for all variants: BCC's start costs more than a compilation."""
    require_bpf()
    command = [SYSTEM_PYTHON, str(Path(__file__).with_name("variants.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as helper:
        yield Kernel(helper)


def lacking_exec(record: Exec) -> set[str]:
    """What an exec record does not tell; whatever it tells is checked to be right."""
    assert record.pid > 0
    assert record.path == b"/bin/sh"
    assert record.uid == 0
    assert record.euid in {0, None}
    assert record.parent_pid is None or record.parent_pid > 0
    assert record.args in {None, b"/bin/sh\0-c\0exit 3\0\0last\0"}
    for identity in (record.identity, record.parent):
        assert identity is None or (0 < identity.start_ns < record.time_ns and 0 < identity.exec_count < 1000)
    return {name for name, value in record._asdict().items() if value is None}


def lacking_exit(record: Exit) -> set[str]:
    """What an exit record does not tell; whatever it tells is checked to be right."""
    assert record.status in {3 << 8, None}
    assert record.comm in {b"sh", None}
    assert record.parent_pid is None or record.parent_pid > 0
    assert record.identity is None or 0 < record.identity.start_ns < record.time_ns
    return {name for name, value in record._asdict().items() if value is None}


IDENTITIES = {"identity", "parent"}
PARENTS = {"parent", "parent_pid"}
ABSENT: dict[str, tuple[set[str], set[str]]] = {
    "task_struct__cred": ({"euid"}, {"euid"}),
    "cred__euid": ({"euid"}, {"euid"}),
    "task_struct__exit_code": (set(), {"status"}),
    "task_struct__group_leader": (IDENTITIES | PARENTS, IDENTITIES | PARENTS),
    "task_struct__mm": ({"args"}, set()),
    "mm_struct__arg_start": ({"args"}, set()),
    "mm_struct__arg_end": ({"args"}, set()),
    "task_struct__real_parent": (PARENTS, PARENTS),
    "task_struct__tgid": (PARENTS, PARENTS),
    "task_struct__self_exec_id": (IDENTITIES, IDENTITIES | PARENTS),
    "task_struct__start_time": (IDENTITIES, IDENTITIES | PARENTS),
    "task_struct__signal": (set(), {"status"}),
    "signal_struct__flags": (set(), {"status"}),
    "signal_struct__group_exit_code": (set(), {"status"}),
    "task_struct__comm": (set(), {"comm"}),
}
"""What a member that BTF does not have takes away from exec and exit; cgroup names, which are empty then, aside."""


@pytest.mark.parametrize("member", [*MEMBERS, "task_struct__comm", "kernfs_node__parent", "CGROUP_IN_CSS_SET"])
def test_missing_member(kernel: Kernel, member: str) -> None:
    """Each struct member may be missing: the programs load, and only what needs it is absent."""
    (started,), (exited,) = kernel.run(drop=[member])
    assert (lacking_exec(started), lacking_exit(exited)) == ABSENT.get(member, (set(), set()))


def test_no_members_at_all(kernel: Kernel) -> None:
    """A kernel whose structs are all unknown still tells pid, user, path, time."""
    everything = [*MEMBERS, "task_struct__comm", "kernfs_node__parent", "CGROUP_IN_CSS_SET"]
    (started,), (exited,) = kernel.run(drop=everything)
    assert lacking_exec(started) == {"identity", "parent", "parent_pid", "euid", "args"}
    assert lacking_exit(exited) == {"identity", "parent", "parent_pid", "euid", "status", "comm"}
    assert started.cgroup == exited.cgroup == (b"", b"")


@pytest.mark.parametrize("drop", [("USE_RING_BUFFER",), ("HAVE_GROUP_DEAD",), ("USE_RING_BUFFER", "HAVE_GROUP_DEAD")])
def test_older_kernel(kernel: Kernel, drop: tuple[str, ...]) -> None:
    """Before Linux 5.8 records come through perf buffers; before group_dead the last thread is found by counting."""
    (started,), (exited,) = kernel.run(drop=drop)
    assert lacking_exec(started) == lacking_exit(exited) == set()
    assert exited.identity == started.identity


def test_threads_without_group_dead(kernel: Kernel, program: Path) -> None:
    """A process whose leader ends first has one exit with the process's code on older kernels, too."""
    _, (exited,) = kernel.run(drop=["HAVE_GROUP_DEAD"], command=[str(program), "leader"])
    assert exited.status == 5 << 8


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_both_cgroup_versions(kernel: Kernel, version: str) -> None:
    """The container's names are read from a v1 controller's hierarchy and from v2's alike."""
    wanted = "cgroup2" if version == "v2" else "cgroup"
    controller = layout.controller(Path("/proc/cgroups").read_text(encoding="ascii"))
    mounts = [line.split() for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    folders = [
        Path(mount[1])
        for mount in mounts
        if mount[2] == wanted and (version == "v2" or controller in mount[3].split(","))
    ]
    if not folders:
        pytest.skip(f"this machine has no cgroup {version}")
    above = folders[0] / f"otelbee-{os.getpid()}"
    inside = above / CONTAINER
    inside.mkdir(parents=True)
    try:
        script = f"echo $$ > {inside}/cgroup.procs; exec /bin/true"
        chosen = controller if version == "v1" else None
        (_, moved), (exited,) = kernel.run(controller=chosen, command=["/bin/sh", "-c", script])
    finally:
        inside.rmdir()
        above.rmdir()
    assert moved.cgroup == exited.cgroup == (CONTAINER.encode(), above.name.encode())
