"""The bpf process's frames: what one side writes the other reads, however it is cut, and damage is noticed."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import re
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpf import frames as writer
from bpf import layout
from bpf.version import VERSION as BPF_VERSION
from translators.bpf import exec as exec_records
from translators.bpf import exit as exit_records
from translators.bpf import frames, records
from translators.version import VERSION

BPF = Path(__file__).parents[2] / "bpf"
RECORDS_H = (BPF / "programs/records.h").read_text(encoding="ascii")

HELLO = writer.hello(
    version="1.2.3", boot_id="b00t", host_name="node-1", programs={"exec": records.RECORDS_HASH}, pids=(7, 8)
)
EXEC = struct.pack("=IHHQ", 20, 1, 0, 5) + b"1234"
EXIT = struct.pack("=IHHQ", 16, 2, 0, 6)
STREAM = b"".join(
    (
        HELLO,
        writer.clock(100, 1_000_000_100),
        writer.records([EXEC, EXIT, EXEC]),
        writer.lost([(1, writer.BUFFER_FULL, 3), (2, writer.PEER_SLOW_OR_AWAY, 4)]),
    )
)
FRAMES: list[frames.Frame] = [
    frames.Hello("1.2.3", "b00t", "node-1", {"exec": records.RECORDS_HASH}, frozenset((7, 8))),
    frames.Clock(100, 1_000_000_100),
    frames.Records({"exec": [EXEC, EXEC], "exit": [EXIT]}),
    frames.Lost({("exec", "buffer_full"): 3, ("exit", "receiver_slow_or_away"): 4}),
]


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_frames_survive_any_cut(cuts: list[int]) -> None:
    """A stream says the same however it arrives."""
    reader, found = frames.Reader(), []
    places = [0, *sorted(cuts), len(STREAM)]
    for start, end in itertools.pairwise(places):
        found += reader.feed(STREAM[start:end])
    assert found == FRAMES


def test_records_hash_is_the_files() -> None:
    """Whoever changes a record changes the constant, and so looks at the formats."""
    assert hashlib.sha256((BPF / "programs/records.h").read_bytes()).hexdigest() == records.RECORDS_HASH


def test_both_sides_have_one_version() -> None:
    """The bpf process cannot import the service's version."""
    assert BPF_VERSION == VERSION


def test_constants_are_the_headers() -> None:
    """Program numbers and presence bits are those of records.h, and every program is known on both sides."""
    defined = {name: int(value, 0) for name, value in re.findall(r"^#define (\w+) (\w+)", RECORDS_H, re.MULTILINE)}
    assert {
        number: name.removeprefix("PROGRAM_").lower() for name, number in defined.items() if "PROGRAM_" in name
    } == (records.PROGRAMS)
    assert {program.number: name for name, program in layout.PROGRAMS.items()} == records.PROGRAMS
    assert {name: value for name, value in defined.items() if name.startswith("HAS_")} == {
        name: value for name, value in vars(records).items() if name.startswith("HAS_")
    }


def test_formats_are_the_structs() -> None:
    """The formats have the members of records.h in their order and sizes."""
    sizes = {"u16": "H", "u32": "I", "u64": "Q"}

    def members(name: str) -> str:
        body = re.search(rf"^struct {name} {{\n(.*?)^}};", RECORDS_H, re.MULTILINE | re.DOTALL)
        assert body is not None
        text = ""
        for kind, nested, count in re.findall(
            r"^    (?:(u\d\d|char)|struct (\w+)) \w+(?:\[(\d+)\])?;", body[1], re.MULTILINE
        ):
            text += members(nested) if nested else f"{count}s" if kind == "char" else sizes[kind] * int(count or 1)
        return text

    for name, fixed in (("exec_record", exec_records._FIXED), ("exit_record", exit_records._FIXED)):
        flat = members(name)
        assert struct.calcsize("=" + flat) == struct.calcsize("@" + flat) == fixed.size
        compact = re.sub(r"(\d+)([HIQ])", lambda found: found[2] * int(found[1]), fixed.format)
        assert compact.replace("4x", "HH") == "=" + flat


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (struct.pack("<IB", 2 << 20, 1), "claims 2097152 bytes"),
        (struct.pack("<IB", 0, 9), "unknown type 9"),
        (struct.pack("<IB", 4, 1) + b"{}{}", "type 1 and 4 bytes is malformed"),
        (struct.pack("<IB", 2, 1) + b"[]", "malformed"),
        (struct.pack("<IB", 15, 4) + bytes(15), "malformed"),
        (struct.pack("<IB", 15, 3) + bytes(15), "malformed"),
        (writer.lost([(9, 1, 1)]), "malformed"),
        (writer.records([struct.pack("=IHHQ", 99, 1, 0, 5)]), "99 bytes and program 1 does not fit"),
        (writer.records([struct.pack("=IHHQ", 3, 1, 0, 5)]), "3 bytes and program 1 does not fit"),
        (writer.records([struct.pack("=IHHQ", 16, 7, 0, 5)]), "16 bytes and program 7 does not fit"),
        (writer.records([b"123"]), "malformed"),
    ],
)
def test_damage_is_noticed(stream: bytes, message: str) -> None:
    """A stream that is out of step is refused with what is wrong."""
    with pytest.raises(frames.FrameError, match=message):
        list(frames.Reader().feed(stream))


@given(st.binary(max_size=200), st.integers(0, 5))
def test_garbage(payload: bytes, kind: int) -> None:
    """Nothing but FrameError is ever raised."""
    with contextlib.suppress(frames.FrameError):
        list(frames.Reader().feed(struct.pack("<IB", len(payload), kind) + payload))


def test_records_of_another_version() -> None:
    """The message names both versions and the programs, and what to do."""
    hello = frames.Hello("9.9.9", "", "", {"exec": "0" * 64, "exit": records.RECORDS_HASH}, frozenset())
    reason = frames.mismatch(hello)
    assert reason is not None
    assert "otelbee 9.9.9" in reason
    assert f"this receiver {VERSION}" in reason
    assert "records of exec differ" in reason
    assert frames.mismatch(hello._replace(programs={"exit": records.RECORDS_HASH})) is None


def test_records_of_an_undelivered_frame_are_counted() -> None:
    """What never went out is counted by program; frames of other types hold none."""
    assert writer.programs(writer.records([EXEC, EXIT, EXEC])) == {1: 2, 2: 1}
    assert writer.programs(HELLO) == {}


def test_execs_come_before_exits() -> None:
    """A process may begin and end behind another's end in one frame: its exit tells what its exec told."""
    (frame,) = frames.Reader().feed(writer.records([EXIT, EXEC, EXIT]))
    assert isinstance(frame, frames.Records)
    assert list(frame.by_kind.items()) == [("exec", [EXEC]), ("exit", [EXIT, EXIT])]
