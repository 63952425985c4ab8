"""Following a log file: rotation by rename and by truncation, half lines, positions that survive a restart."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.sources.tetragon_file.follow import BLOCK_BYTES, MAX_LINE_BYTES, Follower

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """The file to follow; it exists and is empty."""
    path = tmp_path / "tetragon.log"
    path.touch()
    return path


@pytest.fixture
def follower(log: Path) -> Iterator[Follower]:
    """A follower at the start of the file."""
    one = Follower(log)
    one.open(at_end=False)
    yield one
    one.close()


def append(path: Path, text: str) -> None:
    """Write as a logger does."""
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def drained(follower: Follower) -> list[bytes]:
    """Every line there is now."""
    lines: list[bytes] = []
    while read := follower.read():
        lines += read.lines
    return lines


def rename(path: Path, stamp: int) -> Path:
    """Rotate as lumberjack does."""
    rotated = path.with_name(f"{path.stem}-2026-11-23T00-00-{stamp:02}.000{path.suffix}")
    path.rename(rotated)
    path.touch()
    return rotated


def test_half_lines_wait_for_their_end(log: Path, follower: Follower) -> None:
    """A line is returned when its end is written, once."""
    append(log, "one\ntw")
    assert drained(follower) == [b"one"]
    append(log, "o\n")
    assert drained(follower) == [b"two"]
    assert drained(follower) == []


def test_starting_at_the_end_skips_whole_lines_only(log: Path) -> None:
    """A line that is half written at the start is read when it is whole."""
    append(log, "old\nhalf")
    follower = Follower(log)
    follower.open(at_end=True)
    append(log, " done\nnew\n")
    assert drained(follower) == [b"half done", b"new"]
    follower.close()


def test_rename_loses_nothing(log: Path, follower: Follower) -> None:
    """The rest of the old file comes first, several rotations later, too."""
    append(log, "a\n")
    assert drained(follower) == [b"a"]
    append(log, "b\n")
    rename(log, 1)
    append(log, "c\n")
    rename(log, 2)
    append(log, "d\n")
    assert drained(follower) == [b"b", b"c", b"d"]


def test_an_old_file_that_ends_in_half_a_line(log: Path, follower: Follower) -> None:
    """Nothing will complete it: it is handed on as it is."""
    append(log, "a\nhalf")
    assert drained(follower) == [b"a"]
    rename(log, 1)
    append(log, "b\n")
    assert drained(follower) == [b"half", b"b"]


def test_truncation_goes_on_in_the_copy(log: Path, follower: Follower) -> None:
    """``copytruncate``: what was not read yet is in the copy, what comes is in the file."""
    append(log, "a\n")
    assert drained(follower) == [b"a"]
    append(log, "b\n")
    shutil.copy2(log, log.with_name("tetragon.log.1"))
    log.write_text("", encoding="utf-8")
    append(log, "c\n")
    assert drained(follower) == [b"b", b"c"]


def test_truncation_without_a_copy_starts_over(log: Path, follower: Follower) -> None:
    """Even when the file has grown beyond the old position."""
    append(log, "a\n")
    assert drained(follower) == [b"a"]
    log.write_text("something longer\n", encoding="utf-8")
    assert drained(follower) == [b"something longer"]


@pytest.mark.parametrize("rotations", [0, 1, 3])
def test_a_position_survives_rotations(log: Path, follower: Follower, rotations: int) -> None:
    """A new follower goes on where the old one was, in the file that it is in now."""
    append(log, "a\nb\n")
    read = follower.read()
    assert read is not None
    expected = []
    for n in range(rotations):
        append(log, f"r{n}\n")
        expected.append(f"r{n}".encode())
        rename(log, n)
    append(log, "z\n")
    again = Follower(log)
    assert again.resume(read.position)
    assert drained(again) == [*expected, b"z"]
    again.close()


def test_a_position_in_a_file_that_is_gone(log: Path, follower: Follower) -> None:
    """Says so, and opens nothing: even when the inode is used again."""
    append(log, "a\n")
    read = follower.read()
    assert read is not None
    log.write_text("other\n", encoding="utf-8")
    again = Follower(log)
    assert not again.resume(read.position)
    assert not again.is_open


def test_neighbours_are_not_mistaken_for_rotated_files(log: Path, follower: Follower) -> None:
    """The agent keeps other files in the same folder."""
    for name in ("tetragon-info.json", "tetragon.log.gz", "tetragon-2026-11-23T00-00-00.000.log.gz"):
        log.with_name(name).write_text("no\n", encoding="utf-8")
    append(log, "a\n")
    rename(log, 1)
    append(log, "b\n")
    assert drained(follower) == [b"a", b"b"]


def test_an_endless_line_is_skipped_and_counted(log: Path, follower: Follower) -> None:
    """Memory stays bounded and the next line is whole."""
    with log.open("wb") as file:
        file.write(b"first\n")
        for _ in range(MAX_LINE_BYTES // BLOCK_BYTES + 2):
            file.write(b"x" * BLOCK_BYTES)
        file.write(b"\nlast\n")
    assert drained(follower) == [b"first", b"last"]
    assert follower.oversized == 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["write", "half", "rename", "read", "restart"]), max_size=25))
def test_any_order_of_events_keeps_every_line_once(tmp_path_factory: pytest.TempPathFactory, steps: list[str]) -> None:
    """Writing, rotating, reading and restarting in any order: each line exactly once, in order."""
    log = tmp_path_factory.mktemp("follow") / "tetragon.log"
    log.touch()
    follower = Follower(log)
    follower.open(at_end=False)
    written, seen, count = [], [], 0
    position = None
    open_line = ""
    for step in steps:
        if step == "write":
            append(log, f"line {count}\n")
            written.append((open_line + f"line {count}").encode())
            open_line, count = "", count + 1
        elif step == "half":
            append(log, f"half {count} ")
            open_line, count = open_line + f"half {count} ", count + 1
        elif step == "rename":
            if open_line:
                append(log, "\n")
                written.append(open_line.encode())
                open_line = ""
            rename(log, count)
            count += 1
        elif step == "read":
            while read := follower.read():
                seen += read.lines
                position = read.position
        elif position is not None:
            follower.close()
            follower = Follower(log)
            assert follower.resume(position)
    if open_line:
        append(log, "\n")
        written.append(open_line.encode())
    seen += drained(follower)
    follower.close()
    assert seen == written
