"""Recorded records of one tool, as files hold them: JSON lines, or 4-byte big-endian length and message.

Either may be gzip. The kinds are told apart by the first byte: a message is at most 64 MiB, so its length begins with a
byte of at most 4, and no JSON text does.
"""

from __future__ import annotations

import gzip
import io
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

from receiver.errors import RecordingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Buffer

MAX_RECORD_BYTES = 64 * 1024 * 1024
"""No record may be larger, decompressed: what stands where a length is expected may be anything."""

_GZIP_MAGIC = b"\x1f\x8b"
_LENGTH_BYTES = 4
_MAX_FIRST_LENGTH_BYTE = MAX_RECORD_BYTES >> 24


class Recorded(NamedTuple):
    """One record and where it stands."""

    kind: str
    """``protobuf`` or ``json``, or another word, as translators call them."""
    number: int
    """The line (JSON) or message (protobuf), counted from 1."""
    data: bytes


def read_numbered(stream: BinaryIO) -> Iterator[Recorded]:
    """Read the records of ``stream`` one at a time; blank lines are skipped but counted.

    Raises:
        RecordingError: the data ends inside a record, a record is larger than 64 MiB, or the gzip data is damaged. It
            names the line, or the message and its offset in the decompressed data, in bytes.
    """
    plain = _decompressed(stream)
    try:
        first = plain.peek(1)[:1]
        if first and first[0] <= _MAX_FIRST_LENGTH_BYTE:
            yield from _messages(plain)
        else:
            yield from _lines(plain)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise RecordingError(f"the gzip data is damaged or cut off: {error}") from error


def read_whole(kind: str) -> Callable[[BinaryIO], Iterator[Recorded]]:
    """Make a reader of files that are one record of a kind, compressed as it may be."""

    def read(stream: BinaryIO) -> Iterator[Recorded]:
        data = stream.read(MAX_RECORD_BYTES + 1)
        if len(data) > MAX_RECORD_BYTES:
            raise RecordingError(f"the file is larger than {MAX_RECORD_BYTES} bytes")
        if data:
            yield Recorded(kind, 1, data)

    return read


class _Rejoined(io.RawIOBase):
    """A stream whose first bytes were read already, put back in front of it. Closing it leaves the stream open."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        super().__init__()
        self._head = head
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer)
        data, self._head = (self._head[: len(view)], self._head[len(view) :]) if self._head else (b"", b"")
        data = data or self._rest.read(len(view))
        view[: len(data)] = data
        return len(data)


def _decompressed(stream: BinaryIO) -> io.BufferedReader[Any]:
    head = stream.read(len(_GZIP_MAGIC))
    plain = io.BufferedReader(_Rejoined(head, stream))
    return io.BufferedReader(cast("io.RawIOBase", gzip.GzipFile(fileobj=plain))) if head == _GZIP_MAGIC else plain


def _messages(stream: io.BufferedReader[Any]) -> Iterator[Recorded]:
    number, offset = 0, 0
    while head := stream.read(_LENGTH_BYTES):
        number += 1
        length = int.from_bytes(head, "big")
        if len(head) == _LENGTH_BYTES and length > MAX_RECORD_BYTES:
            raise RecordingError(
                f"message {number} at offset {offset} claims {length} bytes; the limit is {MAX_RECORD_BYTES}: "
                "the recording is damaged, or it is not length-prefixed messages"
            )
        data = stream.read(length) if len(head) == _LENGTH_BYTES else b""
        if len(head) < _LENGTH_BYTES or len(data) < length:
            raise RecordingError(
                f"message {number} at offset {offset} is cut off: "
                f"{len(head) + len(data)} of {_LENGTH_BYTES + (length if len(head) == _LENGTH_BYTES else 0)} bytes"
            )
        yield Recorded("protobuf", number, data)
        offset += _LENGTH_BYTES + length


def _lines(stream: io.BufferedReader[Any]) -> Iterator[Recorded]:
    number = 0
    while line := stream.readline(MAX_RECORD_BYTES + 1):
        number += 1
        if len(line) > MAX_RECORD_BYTES:
            raise RecordingError(f"line {number} is longer than {MAX_RECORD_BYTES} bytes")
        if record := line.strip():
            yield Recorded("json", number, record)
