"""A pprof body to its parts: decompressed, recognised, and each sample and location as canonical bytes."""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from google.protobuf.message import DecodeError

from translators.decompression import Damaged, TooLong, decompress
from translators.otlp import Malformed, walk
from translators.pb.profile_lazy_pb2 import Bulk, Header, Rows
from translators.pprof.refused import RefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

ACCEPTED: Final = "accepted is pprof's profile.proto, as it is, in gzip or in zstd"

_OTHER_FORMATS: Final = (
    (re.compile(rb"FLR\0"), "a recording of Java Flight Recorder"),
    (re.compile(rb"(heap profile|heapz|heap_v2|growthz):? *\d|heap_v2/"), "a legacy heap profile, which is text"),
    (re.compile(rb"(goroutine|threadcreate) profile: total "), "a goroutine profile as text (ask for debug=0)"),
    (re.compile(rb"--- *(mutex|contention|contentionz|heapz|growthz|threadz|Memory map)"), "a legacy text profile"),
    (re.compile(rb"goroutine \d+ \["), "a dump of goroutines as text (ask for debug=0)"),
    (re.compile(rb"go 1\.\d+ trace\0"), "a trace of Go's runtime"),
    (re.compile(rb"[{\[<]"), "JSON or HTML"),
    (
        re.compile(rb"\0{8}\x03\0{7}\0{8}|\0{4}\x03\0{7}|\0{7}\x03|\0{15}\x03"),
        "a legacy binary CPU profile of gperftools",
    ),
)
"""What people push that is no profile.proto, by how it begins."""
_MAX_ENTRIES: Final = 1 << 20
"""Samples, locations, functions, mappings and strings together: each costs many times the two bytes that it may have."""
_ONCE: Final = ("time_nanos", "duration_nanos", "period_type", "period")


class Pprof(NamedTuple):
    """One profile; nothing in it has been checked against anything else in it."""

    body: bytes
    """``profile.proto``, decompressed."""
    header: Header
    strings: Sequence[bytes]
    samples: Sequence[bytes]
    """Each a ``Sample`` in its canonical encoding; see ``proto/pprof/profile_lazy.proto``."""
    locations: Sequence[bytes]


def read(record: bytes, max_bytes: int) -> Pprof:
    """Take a body apart that decompresses to at most ``max_bytes``.

    Raises:
        RefusedError: It is no profile, too much, or two in one.
    """
    try:
        body = decompress(record, max_bytes)
    except TooLong as error:
        raise RefusedError(f"it is too large: {error}", "too_large") from None
    except Damaged as error:
        raise RefusedError(str(error)) from None
    if not body:
        raise RefusedError("it is empty")
    if other := next((name for pattern, name in _OTHER_FORMATS if pattern.match(body)), ""):
        raise RefusedError(f"it is {other}; {ACCEPTED}", "unsupported")
    _check_size(body)
    try:
        bulk = Bulk.FromString(body)
        bulk.DiscardUnknownFields()
        rows = Rows.FromString(bulk.SerializeToString())
        del bulk
        header = Header.FromString(body)
    except DecodeError as error:
        raise RefusedError(f"it is no profile.proto ({error}); {ACCEPTED}") from None
    header.DiscardUnknownFields()
    _check_header(header)
    strings: list[bytes] = list(header.string_table)
    return Pprof(body, header, strings or [b""], list(rows.sample), list(rows.location))


def _check_header(header: Header) -> None:
    if header.string_table and header.string_table[0]:
        raise RefusedError("string 0 is not empty")
    for name in _ONCE:
        if len(getattr(header, name)) > 1:
            raise RefusedError(f"{name} stands there twice: profiles were written one after the other; push them apart")
    if not header.sample_type:
        raise RefusedError(f"it has no sample_type, so it is no profile; {ACCEPTED}")


def _check_size(body: bytes) -> None:
    """Walk the fields before anything is made of them; a small body cannot have too many."""
    if len(body) < 2 * _MAX_ENTRIES:
        return
    try:
        if next(islice(walk(body, 0, len(body)), _MAX_ENTRIES, None), None) is not None:
            raise RefusedError(
                f"it has more than {_MAX_ENTRIES} samples, locations, functions and strings", "too_large"
            )
    except Malformed as error:
        raise RefusedError(f"it is no profile.proto ({error}); {ACCEPTED}") from None
