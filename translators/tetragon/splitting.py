"""Takes an event's message apart without parsing it: process, parent, everything else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError

if TYPE_CHECKING:
    from translators.tetragon.kinds import Kind

_TAGS = (0x0A, 0x12)  # fields 1 and 2, length-delimited
_CONTINUE = 0x80
_MAX_SHIFT = 28
"""A message is at most 2 GiB long, so that its length has at most five bytes."""


def split(body: bytes, kind: Kind) -> tuple[bytes, bytes, bytes]:
    """Return (process, parent, rest) of a message that begins as Tetragon writes it; each may be empty.

    Raises DecodeError when a process reaches beyond the end.
    """
    found = [b"", b""]
    position = 0
    end = len(body)
    for part in range(kind.parts):
        if position >= end or body[position] != _TAGS[part]:
            continue
        start = position + 1
        size = shift = 0
        while True:
            if start >= end or shift > _MAX_SHIFT:
                raise DecodeError(f"{kind.name}: truncated before the {('process', 'parent')[part]}")
            byte = body[start]
            start += 1
            size |= (byte & 0x7F) << shift
            if byte < _CONTINUE:
                break
            shift += 7
        position = start + size
        if position > end:
            raise DecodeError(f"{kind.name}: truncated inside the {('process', 'parent')[part]}")
        found[part] = body[start:position]
    return found[0], found[1], body[position:] if position else body


def reorder(body: bytes, kind: Kind) -> tuple[bytes, bytes, bytes]:
    """Return the same for a message that has its fields in any order. Raises DecodeError."""
    message: Any = kind.message.FromString(body)
    process, parent = message.process, message.parent
    for name in ("process", "parent")[: kind.parts]:
        message.ClearField(name)
    return process, parent, message.SerializeToString()
