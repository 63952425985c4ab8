"""Writes the frames of the socket; the receiver's translators/bpf/frames.py reads them.

A frame is the length of its payload (u32), its type (u8) and the payload, little-endian:

=======  ====  ==========================================================================================
hello    1     a JSON object: ``version``, ``boot_id``, ``host_name`` ("" where not known), ``programs`` (name to
               the SHA-256 of records.h), ``pids`` (this process and its peer; empty where not known)
records  2     records one after the other, as the kernel wrote them; each begins with its size (u32)
lost     3     entries of u32 program, u32 reason (1 the kernel's buffer was full, 2 the peer was slow or
               away) and u64 count, since the last such frame
clock    4     u64 CLOCK_MONOTONIC and u64 CLOCK_REALTIME, read together, in nanoseconds
=======  ====  ==========================================================================================
"""

from __future__ import annotations

import json
import struct
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_HEADER = struct.Struct("<IB")
_RECORD = struct.Struct("=IH")  # struct record_header: size, program
_LOST = struct.Struct("<IIQ")
_CLOCK = struct.Struct("<QQ")
_HELLO_TYPE, _RECORDS_TYPE, _LOST_TYPE, _CLOCK_TYPE = 1, 2, 3, 4

BUFFER_FULL = 1
PEER_SLOW_OR_AWAY = 2


def hello(*, version: str, boot_id: str, host_name: str, programs: Mapping[str, str], pids: Sequence[int]) -> bytes:
    """Return the first frame of a connection."""
    fields = {
        "version": version,
        "boot_id": boot_id,
        "host_name": host_name,
        "programs": dict(programs),
        "pids": list(pids),
    }
    return _frame(_HELLO_TYPE, json.dumps(fields).encode())


def records(batch: Sequence[bytes]) -> bytes:
    """Return a frame of records."""
    return _frame(_RECORDS_TYPE, b"".join(batch))


def programs(frame: bytes) -> Counter[int]:
    """Count the records in a frame by program; none where it is a frame of another type."""
    counts: Counter[int] = Counter()
    at = _HEADER.size
    while frame[4] == _RECORDS_TYPE and at < len(frame):
        size, program = _RECORD.unpack_from(frame, at)
        counts[program] += 1
        at += size
    return counts


def lost(entries: Sequence[tuple[int, int, int]]) -> bytes:
    """Return a frame of (program, reason, count)."""
    return _frame(_LOST_TYPE, b"".join(_LOST.pack(*entry) for entry in entries))


def clock(monotonic_ns: int, wall_ns: int) -> bytes:
    """Return a frame with a pair of clock readings."""
    return _frame(_CLOCK_TYPE, _CLOCK.pack(monotonic_ns, wall_ns))


def _frame(kind: int, payload: bytes) -> bytes:
    return _HEADER.pack(len(payload), kind) + payload
