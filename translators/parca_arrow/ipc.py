"""What an Arrow IPC stream claims to hold, read before anything of it is believed.

Arrow decompresses a buffer into as many bytes as its prefix claims, and a run-end encoded column of a few bytes may
claim any number of rows. So the claims are added up from the messages' metadata first. Sources: Arrow's
``docs/source/format/Columnar.rst`` ("Encapsulated message format", "Compression") and ``format/Message.fbs``.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from translators.parca_arrow.malformed import MalformedError, TooLargeError

MAX_BYTES: Final = 128 << 20
"""Of all buffers of a record, decompressed. The agent sends at most 32 MiB, which LZ4 made of two to four times that."""
MAX_ROWS: Final = 1 << 19
"""Of a batch or dictionary: five minutes of 96 cores at 19 Hz, which is how long an agent keeps what it cannot send."""
MAX_CELLS: Final = 1 << 25
"""Rows of all columns, on all levels, together."""
_MAX_NESTED: Final = 1 << 22
"""Entries of one column below the first level: frames of stacks."""
_MAX_MESSAGES: Final = 1024
_MAX_METADATA: Final = 1 << 20

_CONTINUATION: Final = b"\xff\xff\xff\xff"
_SCHEMA, _DICTIONARY, _RECORD_BATCH = 1, 2, 3  # Message.fbs, union MessageHeader
_STORED: Final = -1  # in place of a length: the buffer is not compressed after all


class Limits(NamedTuple):
    """How much a record may hold."""

    max_bytes: int = MAX_BYTES
    max_rows: int = MAX_ROWS
    max_cells: int = MAX_CELLS


def check(record: bytes, limits: Limits = Limits()) -> None:  # noqa: B008 - immutable
    """Add up what a stream claims.

    Raises:
        MalformedError: It is no Arrow IPC stream, is cut off, or a length in it is wrong.
        TooLargeError: It claims more than ``limits``.
    """
    size, cells, position, messages = 0, 0, 0, 0
    view = memoryview(record)
    try:
        while position < len(record):
            messages += 1
            if messages > _MAX_MESSAGES:
                raise TooLargeError(f"the Arrow stream has more than {_MAX_MESSAGES} messages")
            metadata, position = _metadata(view, position)
            if metadata is None:
                break
            kind, header, body_length = _header(metadata)
            if not 0 <= body_length <= len(record) - position:
                raise MalformedError(f"an Arrow message claims a body of {body_length} bytes; it is cut off, or lies")
            batch = _field(metadata, header, 1) if kind == _DICTIONARY else header
            if kind in {_DICTIONARY, _RECORD_BATCH}:
                claimed = _claims(metadata, batch, view[position : position + body_length], limits)
                size, cells = size + claimed.size, cells + claimed.cells
            if size > limits.max_bytes:
                raise TooLargeError(f"the Arrow stream claims more than {limits.max_bytes} bytes decompressed")
            if cells > limits.max_cells:
                raise TooLargeError(f"the Arrow stream claims more than {limits.max_cells} cells")
            position += body_length
    except (struct.error, IndexError):
        raise MalformedError("the metadata of an Arrow message is damaged") from None


class _Claims(NamedTuple):
    size: int
    cells: int


def _metadata(view: memoryview, position: int) -> tuple[memoryview | None, int]:
    """Cut the metadata off that stands at ``position``; None where the stream ends."""
    if bytes(view[position : position + 4]) != _CONTINUATION:
        raise MalformedError(f"no Arrow IPC stream: there is no message at byte {position}")
    (length,) = struct.unpack_from("<i", view, position + 4)
    if length == 0:
        return None, position + 8
    if not 0 < length <= min(_MAX_METADATA, len(view) - position - 8):
        raise MalformedError(f"the Arrow message at byte {position} claims {length} bytes of metadata")
    return view[position + 8 : position + 8 + length], position + 8 + length


def _header(metadata: memoryview) -> tuple[int, int, int]:
    """The kind of message, the position of its header and the length of its body (Message.fbs, ``Message``)."""
    (message,) = struct.unpack_from("<I", metadata)
    kind_at, body_at = _slot(metadata, message, 1), _slot(metadata, message, 3)
    kind = metadata[kind_at] if kind_at else 0
    body_length: int = struct.unpack_from("<q", metadata, body_at)[0] if body_at else 0
    if kind not in {_SCHEMA, _DICTIONARY, _RECORD_BATCH}:
        raise MalformedError(f"an Arrow message is of kind {kind}, which is no part of a stream of records")
    return kind, _field(metadata, message, 2), body_length


def _claims(metadata: memoryview, batch: int, body: memoryview, limits: Limits) -> _Claims:
    """Add up one batch (Message.fbs, ``RecordBatch``): what its buffers hold decompressed, and its columns' rows."""
    rows_at = _slot(metadata, batch, 0)
    rows = struct.unpack_from("<q", metadata, rows_at)[0] if rows_at else 0
    nodes, n_nodes = _vector(metadata, batch, 1, 16)
    lengths = [struct.unpack_from("<q", metadata, nodes + 16 * index)[0] for index in range(n_nodes)]
    if rows < 0 or min(lengths, default=0) < 0:
        raise MalformedError("an Arrow batch claims a negative number of rows")
    if rows > limits.max_rows or max(lengths, default=0) > _MAX_NESTED:
        raise TooLargeError(f"an Arrow batch claims more than {limits.max_rows} rows, or {_MAX_NESTED} frames")
    buffers, n_buffers = _vector(metadata, batch, 2, 16)
    is_compressed = _slot(metadata, batch, 3) != 0
    size = 0
    for index in range(n_buffers):
        offset, length = struct.unpack_from("<qq", metadata, buffers + 16 * index)
        if offset < 0 or length < 0 or offset + length > len(body):
            raise MalformedError(f"a buffer of an Arrow batch lies outside of its body of {len(body)} bytes")
        size += _decompressed(body, offset, length) if is_compressed and length else length
    return _Claims(size, sum(lengths))


def _decompressed(body: memoryview, offset: int, length: int) -> int:
    if length < 8:  # noqa: PLR2004 - the prefix
        raise MalformedError("a compressed buffer of an Arrow batch has no length")
    claimed: int = struct.unpack_from("<q", body, offset)[0]
    if claimed < _STORED:
        raise MalformedError(f"a compressed buffer of an Arrow batch claims {claimed} bytes")
    return length if claimed == _STORED else claimed


def _slot(buffer: memoryview, table: int, field: int) -> int:
    """Where the field of a flatbuffers table lies inline, 0 where it has its default."""
    vtable = table - struct.unpack_from("<i", buffer, table)[0]
    (size,) = struct.unpack_from("<H", buffer, vtable)
    entry = 4 + 2 * field
    if entry + 2 > size:
        return 0
    (offset,) = struct.unpack_from("<H", buffer, vtable + entry)
    return table + offset if offset else 0


def _field(buffer: memoryview, table: int, field: int) -> int:
    """Where the table lies that a field refers to."""
    at = _slot(buffer, table, field)
    if not at:
        raise MalformedError("the metadata of an Arrow message lacks a part")
    position: int = at + struct.unpack_from("<I", buffer, at)[0]
    return position


def _vector(buffer: memoryview, table: int, field: int, item: int) -> tuple[int, int]:
    """Where the items of a vector of structs of ``item`` bytes begin, and how many there are."""
    at = _slot(buffer, table, field)
    if not at:
        return 0, 0
    start = at + struct.unpack_from("<I", buffer, at)[0]
    (count,) = struct.unpack_from("<I", buffer, start)
    if start + 4 + count * item > len(buffer):
        raise MalformedError("the metadata of an Arrow message is damaged")
    return start + 4, count
