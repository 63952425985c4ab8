"""Spans of processes: which processes have one, and its bytes.

A span is joined from the attributes that the process's log records have, so that both say the same. Where a process
stands in its trace is :mod:`translators.lineage`'s to tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import re2  # type: ignore[import-untyped]  # google-re2 ships no types
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage

from translators import wire
from translators.batch import Batch, Part, Signal
from translators.event import resource_logs
from translators.truncation import truncate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from translators.lineage import Placement

PARTIAL = wire.Key("otelbee.trace.partial").true
"""The trace's root is the oldest process that was known, not the true one."""
START_MISSING = wire.Key("otelbee.span.start_missing").true
"""When the process started was not said; the span begins where it ends."""

_ATTRIBUTES_TAG = 0x4A  # Span.attributes = 9
_SAMPLED = 1  # W3C trace flags; whatever carries the ids belongs to a trace that is exported
_CONTEXT_HEAD = b"\x45" + _SAMPLED.to_bytes(4, "little") + b"\x4a\x10"  # LogRecord.flags = 8, trace_id = 9
_SPAN_FLAGS = b"\x85\x01" + _SAMPLED.to_bytes(4, "little")  # Span.flags = 16
_LINK_FLAGS = b"\x35" + _SAMPLED.to_bytes(4, "little")  # Span.Link.flags = 6
_INTERNAL = wire.number_field(6, 1)  # Span.kind = SPAN_KIND_INTERNAL
_ERROR = wire.number_field(3, 2)  # Status.code = STATUS_CODE_ERROR
_CONTINUE = 0x80


@dataclass(frozen=True)
class Selection:
    """Which processes have a span. A process matches by every list that is not empty, by any of its items."""

    namespaces: tuple[str, ...] = ()
    """Namespaces of pods, exactly; "" is a process outside of any pod."""
    binaries: tuple[str, ...] = ()
    """RE2 patterns, found anywhere in the path of the executable, as in Tetragon's ``binary_regex``."""


class Selector:
    """Decides by a process alone, never by its relatives or by what was seen before."""

    def __init__(self, spans: bool | Selection) -> None:  # noqa: FBT001 - it is the option itself
        """Compile the patterns; ``True`` selects everything."""
        selection = spans if isinstance(spans, Selection) else Selection()
        self._namespaces = frozenset(selection.namespaces)
        self._binaries = [re2.compile(pattern) for pattern in selection.binaries]
        self.everything = not self._namespaces and not self._binaries
        """Whether nothing needs to be known of a process to select it."""

    def selects(self, path: str, namespace: str = "") -> bool:
        """Tell whether a process of this executable, in this namespace, has a span."""
        if self._namespaces and namespace not in self._namespaces:
            return False
        return not self._binaries or any(pattern.search(path) for pattern in self._binaries)


class Ended(NamedTuple):
    """What is said of a process when it is over; times in Unix nanoseconds."""

    name: str
    """Of the executable."""
    start_ns: int
    """0 where it is not known."""
    end_ns: int
    attributes: bytes
    """As a log record has them."""
    failed: bool = False
    """Whether it ended by a signal or with an exit code other than 0."""
    reason: str = ""
    """The signal's name; empty where there was none, for the exit code is an attribute."""


def context(placement: Placement) -> bytes:
    """Encode what ties a log record to a process's span: ``flags``, ``trace_id`` and ``span_id``."""
    return _CONTEXT_HEAD + placement.trace_id + b"\x52\x08" + placement.span_id


def span(placement: Placement, ended: Ended, max_bytes: int = 0) -> bytes:
    """Encode a span; its longest values are cut where it would have more than ``max_bytes`` (0: never)."""
    start_ns = min(ended.start_ns or ended.end_ns, ended.end_ns)
    own = b"" if ended.start_ns else START_MISSING
    if placement.partial:
        own += PARTIAL
    parts = [b"\x0a\x10", placement.trace_id, b"\x12\x08", placement.span_id]
    if placement.parent_span_id:
        parts += (b"\x22\x08", placement.parent_span_id)
    parts += (
        wire.field(5, (ended.name or "unknown").encode()),
        _INTERNAL,
        wire.fixed64_field(7, start_ns),
        wire.fixed64_field(8, ended.end_ns),
        as_span_attributes(ended.attributes + own),
    )
    if placement.link is not None:
        trace_id, span_id = placement.link
        parts.append(wire.field(13, b"\x0a\x10" + trace_id + b"\x12\x08" + span_id + _LINK_FLAGS))
    if ended.failed:
        message = wire.field(2, ended.reason.encode()) if ended.reason else b""
        parts.append(wire.field(15, message + _ERROR))
    parts.append(_SPAN_FLAGS)
    encoded = b"".join(parts)
    return truncate(encoded, max_bytes, SpanMessage) if len(encoded) > max_bytes > 0 else encoded


def as_span_attributes(attributes: bytes) -> bytes:
    """Turn encoded attributes of a LogRecord (field 6) into those of a Span (field 9): only their tags differ."""
    data = bytearray(attributes)
    position = 0
    while position < len(data):
        data[position] = _ATTRIBUTES_TAG
        position += 1
        size = shift = 0
        while data[position] >= _CONTINUE:
            size |= (data[position] & 0x7F) << shift
            shift += 7
            position += 1
        size |= data[position] << shift
        position += 1 + size
    return bytes(data)


def batch(groups: Iterable[tuple[bytes, Sequence[bytes]]], scope: bytes, newest_ns: int) -> Batch:
    """Build the traces request of some spans, each list of them with the Resource that they share."""
    items, data = 0, []
    for resource, spans in groups:
        items += len(spans)
        # ResourceSpans and ScopeSpans have the field numbers of ResourceLogs and ScopeLogs.
        data.append(resource_logs(resource, scope, [wire.field(2, each) for each in spans]))
    return Batch(Signal.TRACES, items, b"".join(data), (Part("", items, newest_ns),))
