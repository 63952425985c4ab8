"""Takes an event's message apart without parsing it: process, parent, everything else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError

from translators.wire import field

if TYPE_CHECKING:
    from translators.tetragon.kinds import Kind

_PROCESS, _PARENT = 0x0A, 0x12  # tags of fields 1 and 2, length-delimited
_CONTINUE = 0x80


def split(body: bytes, kind: Kind) -> tuple[bytes, bytes, bytes]:
    """Return (process, parent, rest) of a message that begins as Tetragon writes it; each may be empty.

    Raises DecodeError when a process reaches beyond the end.
    """
    process = parent = b""
    position, end = 0, len(body)
    if kind.parts and end and body[0] == _PROCESS:
        start, position = _payload(body, 1)
        if position > end:
            raise DecodeError(f"{kind.name}: truncated inside the process")
        process = body[start:position]
    if kind.parts > 1 and position < end and body[position] == _PARENT:
        start, position = _payload(body, position + 1)
        if position > end:
            raise DecodeError(f"{kind.name}: truncated inside the parent")
        parent = body[start:position]
    return process, parent, body[position:]


def _payload(body: bytes, position: int) -> tuple[int, int]:
    """Read a length and return where the payload starts and ends; the end may lie beyond the body's."""
    size = shift = 0
    for byte in body[position : position + 5]:  # a message has at most 2 GiB, its length at most five bytes
        position += 1
        size |= (byte & 0x7F) << shift
        if byte < _CONTINUE:
            return position, position + size
        shift += 7
    raise DecodeError("a length is truncated or has more than five bytes")


def reorder(process: bytes, parent: bytes, rest: bytes, kind: Kind) -> tuple[bytes, bytes, bytes]:
    """Return the same for a message that has its fields in any order, some of them in ``rest``. Raises DecodeError."""
    parts = [field(number, part) for number, part in enumerate((process, parent), 1) if part]
    message: Any = kind.message.FromString(b"".join((*parts, rest)))
    process, parent = message.process, message.parent
    for name in ("process", "parent")[: kind.parts]:
        message.ClearField(name)
    return process, parent, message.SerializeToString()
