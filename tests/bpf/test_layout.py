"""Offsets from BTF, fields from tracepoint formats: right where they are, absent where they are not."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpf import btf, layout, tracefs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

INT, POINTER, STRUCT, UNION, ENUM, TYPEDEF = 1, 2, 4, 5, 6, 8
U32, U64, POINTER_ID = 1, 2, 3


class Blob:
    """Writes BTF, as Documentation/bpf/btf.rst describes it."""

    def __init__(self, order: str = "<") -> None:
        """Begin with u32, u64 and a pointer as types 1 to 3."""
        self.order = order
        self.types = b""
        self.strings = b"\0"
        self.count = 0
        self.number("u32", 4)
        self.number("u64", 8)
        self.add("", POINTER, 0, 0)

    def name(self, text: str) -> int:
        """Store a string; "" is at 0."""
        if not text:
            return 0
        at = len(self.strings)
        self.strings += text.encode() + b"\0"
        return at

    def add(self, name: str, kind: int, items: int, size: int, tail: bytes = b"", *, flag: bool = False) -> int:
        """Add a type; return its id."""
        info = kind << 24 | items | flag << 31
        self.types += struct.pack(self.order + "III", self.name(name), info, size) + tail
        self.count += 1
        return self.count

    def number(self, name: str, size: int) -> int:
        """Add an integer type."""
        return self.add(name, INT, 0, size, struct.pack(self.order + "I", size * 8))

    def struct(
        self, name: str, members: Sequence[tuple[str, int, int]], kind: int = STRUCT, *, flag: bool = False
    ) -> int:
        """Add a struct of (name, type, offset in bits)."""
        tail = b"".join(struct.pack(self.order + "III", self.name(member), *rest) for member, *rest in members)
        return self.add(name, kind, len(members), 0, tail, flag=flag)

    def enum(self, name: str, values: dict[str, int]) -> int:
        """Add an enum."""
        tail = b"".join(struct.pack(self.order + "Ii", self.name(key), value) for key, value in values.items())
        return self.add(name, ENUM, len(values), 4, tail)

    def data(self) -> bytes:
        """Return the whole."""
        header = struct.pack(
            self.order + "HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(self.types), len(self.types), len(self.strings)
        )
        return header + self.types + self.strings


@pytest.mark.parametrize("order", ["<", ">"])
def test_members_are_found_in_anonymous_structs(order: str) -> None:
    """Also inside a union in a struct, through typedefs, and never in a named member's struct."""
    blob = Blob(order)
    alias = blob.add("alias", TYPEDEF, 0, U32)
    inner = blob.struct("", [("deep", alias, 32)])
    union = blob.struct("", [("", inner, 0), ("other", U64, 0)], UNION)
    named = blob.struct("named", [("hidden", U32, 0)])
    blob.struct(
        "outer", [("first", U64, 0), ("", union, 64), ("member", named, 128), ("bits", U32, 8 << 24 | 192)], flag=True
    )
    types = btf.Btf(blob.data())
    assert types.member("outer", "deep") == btf.Member(12, 4)
    assert types.member("outer", "other") == btf.Member(8, 8)
    assert types.member("outer", "bits") == btf.Member(24, 0)
    assert types.member("outer", "hidden") is None
    assert types.member("nowhere", "deep") is None


def kernel(**members: tuple[tuple[str, int], ...]) -> btf.Btf:
    """A kernel with these structs; each member is (name, type)."""
    blob = Blob()
    for owner, found in members.items():
        blob.struct(owner, [(name, kind, 64 * i) for i, (name, kind) in enumerate(found)])
    blob.enum("cgroup_subsys_id", {"cpuset_cgrp_id": 0, "pids_cgrp_id": 11})
    blob.enum("bpf_map_type", {"BPF_MAP_TYPE_HASH": 1})
    return btf.Btf(blob.data())


def test_member_of_another_size_is_absent() -> None:
    """self_exec_id had four bytes before Linux 5.7: reading eight would give a wrong number."""
    old = kernel(task_struct=(("self_exec_id", U32), ("start_time", U64)))
    assert layout.flags(old, None, {}) == ["-Dtask_struct__start_time=8"]


@pytest.mark.parametrize("name", ["parent", "__parent"])
def test_renamed_parent_of_a_cgroup(name: str) -> None:
    """kernfs_node.parent became __parent in Linux 6.15."""
    assert layout.flags(kernel(kernfs_node=((name, POINTER_ID),)), None, {}) == ["-Dkernfs_node__parent=0"]


def test_ring_buffer_where_the_kernel_has_it() -> None:
    """BPF_MAP_TYPE_RINGBUF came with Linux 5.8."""
    blob = Blob()
    blob.enum("bpf_map_type", {"BPF_MAP_TYPE_HASH": 1, "BPF_MAP_TYPE_RINGBUF": 27})
    assert "-DUSE_RING_BUFFER=1" in layout.flags(btf.Btf(blob.data()), None, {})


def test_cgroup_by_controller_and_by_v2() -> None:
    """v1 goes through the controller's place in css_set.subsys, v2 through dfl_cgrp."""
    types = kernel(css_set=(("subsys", U64), ("dfl_cgrp", POINTER_ID)), cgroup_subsys_state=(("cgroup", POINTER_ID),))
    assert "-DCGROUP_IN_CSS_SET=88" in layout.flags(types, "pids", {})
    assert "-DCGROUP_BY_CONTROLLER=1" in layout.flags(types, "pids", {})
    assert "-DCGROUP_IN_CSS_SET=8" in layout.flags(types, None, {})
    assert not any("CGROUP" in flag for flag in layout.flags(types, "memory", {}))


def test_end_of_a_process_must_be_known() -> None:
    """Without group_dead in the tracepoint and without signal_struct.live there would be an exit for each thread."""
    with pytest.raises(layout.LayoutError, match=r"signal_struct\.live"):
        layout.flags(kernel(), None, {"pid": 4})
    assert "-DHAVE_GROUP_DEAD=1" in layout.flags(kernel(), None, {"pid": 4, "group_dead": 1})


@pytest.mark.parametrize(
    ("proc_cgroups", "controller"),
    [
        ("#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpuset\t3\t1\t1\nmemory\t4\t1\t1\npids\t8\t1\t1\n", "pids"),
        ("#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpuset\t3\t1\t1\nmemory\t4\t1\t1\npids\t0\t1\t1\n", "memory"),
        ("#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpuset\t0\t1\t1\nmemory\t0\t1\t1\npids\t0\t1\t1\n", None),
        ("", None),
    ],
)
def test_controller(proc_cgroups: str, controller: str | None) -> None:
    """The first v1 hierarchy that every container runtime has its folders in; hierarchy 0 is v2."""
    assert layout.controller(proc_cgroups) == controller


@given(st.binary(max_size=400) | st.binary(max_size=400).map(lambda tail: Blob().data()[:24] + tail))
def test_damaged_btf(data: bytes) -> None:
    """Whatever the file holds, it is read or refused, and nothing else is raised."""
    try:
        types = btf.Btf(data)
        types.member("task_struct", "tgid")
    except btf.BtfError:
        pass


def test_cut_btf() -> None:
    """Type information that ends early is refused wherever it ends."""
    blob = Blob()
    blob.struct("task_struct", [("tgid", U32, 0)])
    blob.enum("bpf_map_type", {"BPF_MAP_TYPE_RINGBUF": 27})
    whole = blob.data()
    for size in range(len(whole)):
        with pytest.raises(btf.BtfError):
            btf.Btf(whole[:size])


def recorded_formats(path: Path) -> dict[tuple[str, str], dict[str, int]]:
    """The formats of a recording: sections that begin with ``### category/event``."""
    formats = {}
    for section in path.read_text(encoding="ascii").split("### ")[1:]:
        category, _, event = section.splitlines()[0].partition("/")
        formats[category, event] = tracefs.fields(section)
    return formats


def test_recorded_formats(shared_data: Callable[..., Path]) -> None:
    """Every tracepoint that a program needs has the fields that it needs on Linux 6.18."""
    formats = recorded_formats(shared_data("bcc", "tracepoint_formats_6.18.txt"))
    for program in layout.PROGRAMS.values():
        for tracepoint, needed in program.tracepoints.items():
            assert set(needed) <= formats[tracepoint].keys()
    assert formats["sched", "sched_process_exit"] == {"comm": 16, "pid": 4, "prio": 4, "group_dead": 1}
    assert formats["sock", "inet_sock_set_state"]["saddr_v6"] == 16


def test_format_file() -> None:
    """Common fields are left out; arrays, pointers and dynamic strings are named right."""
    text = (
        "name: sched_process_exec\nformat:\n"
        "\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\n"
        "\tfield:__data_loc char[] filename;\toffset:8;\tsize:4;\tsigned:0;\n"
        "\tfield:const char * name;\toffset:12;\tsize:8;\tsigned:0;\n"
        "\tfield:char comm[TASK_COMM_LEN];\toffset:20;\tsize:16;\tsigned:0;\n"
    )
    assert tracefs.fields(text) == {"filename": 4, "name": 8, "comm": 16}


def test_missing_tracepoint(tmp_path: Path) -> None:
    """A tracepoint that this kernel lacks is named."""
    with pytest.raises(tracefs.TracefsError, match="lacks the tracepoint sched:nope"):
        tracefs.read_format(tmp_path, "sched", "nope")


def test_missing_btf(tmp_path: Path) -> None:
    """Without BTF the remedy is told."""
    with pytest.raises(btf.BtfError, match="CONFIG_DEBUG_INFO_BTF"):
        btf.read(tmp_path / "vmlinux")
