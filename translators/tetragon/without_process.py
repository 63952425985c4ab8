"""Events that no process stands behind: throttling, rate limits, tests, and kinds that are not known here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.unknown_fields import UnknownFieldSet

from translators import wire
from translators.pb import tetragon_lazy_pb2 as lazy
from translators.pb import tetragon_pb2 as full
from translators.tetragon import names
from translators.tetragon.detail import Detail
from translators.tetragon.kinds import INFO, RATE_LIMIT, TEST, THROTTLE, UNKNOWN, WARN, severity_field
from translators.tetragon.redaction import raw_attributes
from translators.tetragon.text import printable

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from translators.tetragon.kinds import Kind

_THROTTLE_TYPE = wire.Key("tetragon.throttle.type")
_CGROUP = wire.Key("tetragon.cgroup")
_DROPPED = wire.Key("tetragon.dropped_events")
_TEST = {name: wire.Key("tetragon.test." + name) for name in ("arg0", "arg1", "arg2", "arg3")}
_FIELD_NUMBER = wire.Key("tetragon.event.field_number")
_KIND = wire.Key("tetragon.event.kind")

_KIND_NUMBERS_BELOW = 1000
"""GetEventsResponse numbers its kinds 1 to 999 and 40000 and above; what lies between describes every event."""
_KIND_NUMBERS_FROM = 40_000


def _detail(kind: Kind, parts: list[bytes], severity: int, tail: str, unknown_fields: int) -> Detail:
    attributes = b"".join(parts)
    return Detail(
        attributes=attributes,
        fingerprint=attributes,
        severity=severity_field(severity),
        word=kind.word.encode(),
        tail=f" {tail}".encode() if tail else b"",
        unknown_fields=unknown_fields,
    )


def _unknown_fields(message: Message) -> int:
    return len(UnknownFieldSet(message))


def read_throttle(data: bytes) -> Detail:
    """Read a throttle event; the agent pads the cgroup's name with NULs. Raises DecodeError."""
    message = lazy.ProcessThrottle.FromString(data)
    name = names.throttle_type(message.type)
    cgroup = message.cgroup.rstrip("\0")
    parts = [_THROTTLE_TYPE.text(name)] if message.type else []
    if cgroup:
        parts.append(_CGROUP.text(cgroup))
    severity = INFO if name == "stop" else WARN
    return _detail(THROTTLE, parts, severity, f"{name.upper()} {printable(cgroup)}", _unknown_fields(message))


def read_rate_limit(data: bytes) -> Detail:
    """Read what the agent's JSON export dropped. Raises DecodeError."""
    message = full.RateLimitInfo.FromString(data)
    dropped = message.number_of_dropped_process_events
    return _detail(
        RATE_LIMIT,
        [_DROPPED.integer(dropped)],
        WARN,
        f"{dropped} events dropped by the export",
        _unknown_fields(message),
    )


def read_test(data: bytes) -> Detail:
    """Read an event of the agent's unit tests. Raises DecodeError."""
    message = full.Test.FromString(data)
    parts = [key.integer(getattr(message, name)) for name, key in _TEST.items() if getattr(message, name)]
    return _detail(TEST, parts, INFO, "", _unknown_fields(message))


def unknown_kind(event: lazy.Event, raw: bytes, kind: str, *, withheld: bool) -> Detail:
    """Keep an event of a kind that is not known here: ``kind`` is its name where the input has names.

    ``raw`` is the whole input; where it is ``withheld`` only its length and hash are kept.
    """
    parts = []
    unknown = UnknownFieldSet(event)
    numbers = [unknown[index].field_number for index in range(len(unknown))]
    candidates = [number for number in numbers if number < _KIND_NUMBERS_BELOW or number >= _KIND_NUMBERS_FROM]
    tail = kind or (f"kind {candidates[0]}" if candidates else "kind")
    if kind:
        parts.append(_KIND.text(kind))
    elif candidates:
        parts.append(_FIELD_NUMBER.integer(candidates[0]))
    parts.append(raw_attributes(raw, withheld=withheld))
    return _detail(UNKNOWN, parts, UNKNOWN.severity, printable(tail), unknown_fields=0)
