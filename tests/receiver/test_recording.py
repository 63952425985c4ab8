"""Recordings: both formats, gzip or not, and every way in which a file can be cut off."""

from __future__ import annotations

import gzip
import io
import os
import threading
from typing import TYPE_CHECKING

import pytest

from receiver.errors import RecordingError
from receiver.recording import MAX_RECORD_BYTES, read_numbered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import BinaryIO


def framed(*records: bytes) -> bytes:
    """Records as 4-byte big-endian length and message."""
    return b"".join(len(record).to_bytes(4, "big") + record for record in records)


def read_records(stream: BinaryIO) -> Iterator[tuple[str, bytes]]:
    """Kind and data of each record."""
    return ((each.kind, each.data) for each in read_numbered(stream))


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_messages_are_read_one_by_one(pack: Callable[[bytes], bytes]) -> None:
    """Length-prefixed messages come back whole, an empty one included."""
    assert list(read_records(io.BytesIO(pack(framed(b"one", b"", b"three"))))) == [
        ("protobuf", b"one"),
        ("protobuf", b""),
        ("protobuf", b"three"),
    ]


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_lines_keep_their_numbers(pack: Callable[[bytes], bytes]) -> None:
    """Blank lines are skipped but counted, and the last line needs no newline."""
    found = list(read_numbered(io.BytesIO(pack(b'{"a":1}\n\n  {"b":2}\r\nnot json'))))
    assert found == [("json", 1, b'{"a":1}'), ("json", 3, b'{"b":2}'), ("json", 4, b"not json")]


def test_nothing_holds_nothing() -> None:
    """An empty file is a recording without records."""
    assert list(read_records(io.BytesIO())) == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (framed(b"one", b"three")[:-1], "message 2 at offset 7 is cut off: 8 of 9 bytes"),
        (framed(b"one") + b"\x00\x00", "message 2 at offset 7 is cut off: 2 of 4 bytes"),
        (framed(b"one") + b"\xff\xff\xff\xff", "message 2 at offset 7 claims 4294967295 bytes"),
        (gzip.compress(framed(b"one" * 100))[:-9], "the gzip data is damaged or cut off"),
        (b"\x1f\x8bnot gzip at all", "the gzip data is damaged or cut off"),
        (gzip.compress(b"{}\n")[:-6] + b"abcdef", "the gzip data is damaged or cut off"),
    ],
    ids=["cut off", "cut off in a length", "huge", "gzip cut off", "no gzip", "wrong checksum"],
)
def test_damage_is_named(data: bytes, message: str) -> None:
    """A recording that ends too early, or holds something else, says so and where."""
    with pytest.raises(RecordingError, match=message):
        list(read_records(io.BytesIO(data)))


def test_a_cut_off_tail_keeps_what_came_before() -> None:
    """The records in front of the damage are given out first."""
    records = read_records(io.BytesIO(framed(b"one", b"two")[:-1]))
    assert next(records) == ("protobuf", b"one")
    with pytest.raises(RecordingError, match="cut off"):
        next(records)


def test_an_endless_line_is_refused() -> None:
    """Memory stays bounded: a line longer than the limit is an error, not a larger buffer."""
    with pytest.raises(RecordingError, match="line 1 is longer than"):
        list(read_records(io.BytesIO(b"x" * (MAX_RECORD_BYTES + 2))))


def test_the_stream_stays_open() -> None:
    """The caller's stream is not closed behind its back."""
    stream = io.BytesIO(b"{}\n")
    list(read_records(stream))
    assert not stream.closed


def test_a_pipe_that_gives_single_bytes() -> None:
    """The format is told by what is there in the end, not by how it was cut in transit."""
    reading, writing = os.pipe()

    def write() -> None:
        for byte in gzip.compress(framed(b"one")):
            os.write(writing, bytes([byte]))
        os.close(writing)

    writer = threading.Thread(target=write)
    writer.start()
    with os.fdopen(reading, "rb") as stream:
        assert list(read_records(stream)) == [("protobuf", b"one")]
    writer.join()


def test_the_agents_recordings_are_read(shared_data: Callable[..., Path]) -> None:
    """A real recording gives as many messages as its manifest says."""
    with shared_data("tetragon", "recordings", "throttle.pb.gz").open("rb") as stream:
        assert sum(kind == "protobuf" for kind, _ in read_records(stream)) == 692
