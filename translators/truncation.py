"""Cuts log records and spans that are longer than one should be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from translators import attributes as key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.proto.common.v1.common_pb2 import AnyValue
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

_LEAST = 64
"""Values up to this many bytes are left alone: keys, ids and numbers are worth more than what they would save."""
_EVENT_TYPE = ".event.type"
"""How the keys end under which tools repeat an event's name."""


def _values(value: AnyValue) -> Iterator[AnyValue]:
    """Yield the strings and bytes in a value, however deep."""
    kind = value.WhichOneof("value")
    if kind in ("string_value", "bytes_value"):
        yield value
    elif kind == "array_value":
        for item in value.array_value.values:
            yield from _values(item)
    elif kind == "kvlist_value":
        for entry in value.kvlist_value.values:
            yield from _values(entry.value)


def _size(value: AnyValue) -> int:
    return len(value.bytes_value) if value.HasField("bytes_value") else len(value.string_value.encode())


def _cut(value: AnyValue, size: int) -> None:
    if value.HasField("bytes_value"):
        value.bytes_value = value.bytes_value[:size]
    else:
        # A character that does not fit whole is left out, so that the string stays valid UTF-8.
        value.string_value = value.string_value.encode()[:size].decode("utf-8", "ignore")


def truncate(record: bytes, limit: int, kind: type[LogRecord | Span] = LogRecord) -> bytes:
    """Shorten the longest values of an encoded log record or span to one common length, so that it has ``limit`` bytes.

    Where even short values are too many, whole attributes are dropped from the end and counted as OTLP counts them.
    """
    message = kind.FromString(record)
    message.attributes.add(key=key.OTELBEE_TRUNCATED).value.bool_value = True
    leaves = [leaf for entry in message.attributes for leaf in _values(entry.value)]
    if isinstance(message, LogRecord):
        leaves.append(message.body)
    leaves = [leaf for leaf in leaves if _size(leaf) > _LEAST]
    low, high = _LEAST, max((_size(leaf) for leaf in leaves), default=_LEAST)
    excess = message.ByteSize() - limit
    sizes = [_size(leaf) for leaf in leaves]
    while low < high:
        middle = (low + high + 1) // 2
        if sum(max(size - middle, 0) for size in sizes) >= excess:
            low = middle
        else:
            high = middle - 1
    for leaf in leaves:
        if _size(leaf) > low:
            _cut(leaf, low)
    _drop_attributes(message, limit)
    return message.SerializeToString()


def _drop_attributes(message: LogRecord | Span, limit: int) -> None:
    """Drop the largest attributes until the record fits; what marks and names the event stays."""
    kept = (key.OTELBEE_TRUNCATED, key.LOG_RECORD_UID, _EVENT_TYPE)
    while message.ByteSize() > limit:
        sizes = [
            (entry.ByteSize(), index) for index, entry in enumerate(message.attributes) if not entry.key.endswith(kept)
        ]
        if not sizes:
            return
        del message.attributes[max(sizes)[1]]
        message.dropped_attributes_count += 1
