"""Reads the frames that the bpf process writes to its socket (bpf/frames.py describes them)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

import orjson

from translators.bpf.records import HEADER, PROGRAMS, RECORDS_HASH
from translators.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

MAX_PAYLOAD = 1024 * 1024
"""The bpf process writes 80 KiB at most; a larger length means that the stream is out of step."""

_FRAME = struct.Struct("<IB")
_LOST = struct.Struct("<IIQ")
_CLOCK = struct.Struct("<QQ")
_REASONS = {1: "buffer_full", 2: "receiver_slow_or_away"}


class FrameError(ValueError):
    """The stream is not what the bpf process writes; nothing after it can be read."""


class Hello(NamedTuple):
    """Who writes; the first frame."""

    version: str
    boot_id: str
    host_name: str
    programs: Mapping[str, str]
    """Name to the SHA-256 of the records.h that its records follow."""
    pids: frozenset[int]
    """The bpf process and its reader, in the first pid namespace; empty where that is not known."""


class Records(NamedTuple):
    """Records by kind, each in the order of the events; execs before exits, for an exit tells what its exec told."""

    by_kind: Mapping[str, list[bytes]]


class Lost(NamedTuple):
    """How many records were lost since the last such frame, by (kind, reason)."""

    counts: Mapping[tuple[str, str], int]


class Clock(NamedTuple):
    """Two clocks, read together, in nanoseconds."""

    monotonic_ns: int
    wall_ns: int

    @property
    def offset_ns(self) -> int:
        """Wall clock minus CLOCK_MONOTONIC."""
        return self.wall_ns - self.monotonic_ns


Frame = Hello | Records | Lost | Clock


class Reader:
    """Cuts a stream into frames."""

    def __init__(self) -> None:
        """Start with an empty stream."""
        self._pending = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that ``data`` completes. Raises FrameError."""
        self._pending += data
        at = 0
        try:
            while len(self._pending) - at >= _FRAME.size:
                length, kind = _FRAME.unpack_from(self._pending, at)
                if length > MAX_PAYLOAD:
                    raise FrameError(f"a frame claims {length} bytes; the most is {MAX_PAYLOAD}")
                start = at + _FRAME.size
                if len(self._pending) < start + length:
                    return
                payload = bytes(self._pending[start : start + length])
                at = start + length
                yield _parse(kind, payload)
        finally:
            del self._pending[:at]

    def end(self) -> None:
        """Raise FrameError where the stream ends inside a frame."""
        if self._pending:
            raise FrameError(f"the last frame is cut off after {len(self._pending)} bytes")


def mismatch(hello: Hello) -> str | None:
    """Say why the records of this peer cannot be read, naming both versions; None where they can."""
    differing = sorted(name for name, digest in hello.programs.items() if digest != RECORDS_HASH)
    if not differing:
        return None
    return (
        f"the bpf process is otelbee {hello.version}, this receiver {VERSION}, and the records of "
        f"{', '.join(differing)} differ between them: install the same version on both sides"
    )


def _parse(kind: int, payload: bytes) -> Frame:
    parse = _PARSERS.get(kind)
    if parse is None:
        raise FrameError(f"a frame has the unknown type {kind}")
    try:
        return parse(payload)
    except FrameError:
        raise
    except (struct.error, KeyError, TypeError, ValueError) as error:
        raise FrameError(f"a frame of type {kind} and {len(payload)} bytes is malformed") from error


def _hello(payload: bytes) -> Hello:
    fields = orjson.loads(payload)
    programs = {str(name): str(digest) for name, digest in fields["programs"].items()}
    pids = frozenset(int(pid) for pid in fields["pids"])
    return Hello(str(fields["version"]), str(fields["boot_id"]), str(fields["host_name"]), programs, pids)


def _records(payload: bytes) -> Records:
    by_kind: dict[str, list[bytes]] = {name: [] for name in PROGRAMS.values()}
    at = 0
    while at < len(payload):
        size, program, _, _ = HEADER.unpack_from(payload, at)
        if size < HEADER.size or at + size > len(payload) or program not in PROGRAMS:
            raise FrameError(f"a record of {size} bytes and program {program} does not fit into its frame")
        by_kind[PROGRAMS[program]].append(payload[at : at + size])
        at += size
    return Records({name: records for name, records in by_kind.items() if records})


def _lost(payload: bytes) -> Lost:
    return Lost({(PROGRAMS[program], _REASONS[reason]): count for program, reason, count in _LOST.iter_unpack(payload)})


def _clock(payload: bytes) -> Clock:
    return Clock(*_CLOCK.unpack(payload))


_PARSERS: Mapping[int, Callable[[bytes], Frame]] = {1: _hello, 2: _records, 3: _lost, 4: _clock}
"""By the types of bpf/frames.py."""
