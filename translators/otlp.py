"""What is already OTLP: count it, check it, cut it into smaller requests, write it as JSON.

Counting, checking and cutting walk the wire format (Protocol Buffers encoding) on the way from a request to its items
and leave everything else as the bytes it is. The way is the same for every signal: resources, scopes, records; metrics
go on through one of five kinds of data to data points, profiles to samples.
"""

from __future__ import annotations

import base64
import math
from collections import deque
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import ExportProfilesServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from translators.batch import Batch, Part, Signal
from translators.wire import varint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from google.protobuf.message import Message

    Path = tuple[frozenset[int], ...]

REQUESTS: Final[Mapping[Signal, type[Message]]] = {
    Signal.LOGS: ExportLogsServiceRequest,
    Signal.TRACES: ExportTraceServiceRequest,
    Signal.METRICS: ExportMetricsServiceRequest,
    Signal.PROFILES: ExportProfilesServiceRequest,
}
"""The message that ``Batch.data`` is, per signal."""

_RECORDS: Final = (frozenset({1}), frozenset({2}), frozenset({2}))
PATHS: Final[Mapping[Signal, Path]] = {
    Signal.LOGS: _RECORDS,
    Signal.TRACES: _RECORDS,
    Signal.METRICS: (*_RECORDS, frozenset({5, 7, 9, 10, 11}), frozenset({1})),
    Signal.PROFILES: (*_RECORDS, frozenset({2})),
}
"""The field numbers from a request to its items. All are below 16, so their tags have one byte."""

PROFILE_ONCE: Final = frozenset({7, 9, 10})
"""Fields of a Profile that stay with its first piece: profile_id, which backends may use to tell duplicates, and the
original payload with its format, which describes the whole."""

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_MORE = 0x80
"""The bit of a varint's byte that says that another byte follows."""
_VARINT_MAX_BYTES = 10
_FIRST_TAG = 1 << 3
"""Field number 1; there is no field 0."""


class Malformed(ValueError):
    """Bytes that are no OTLP request; the text says what is wrong at which byte offset."""


def count_items(signal: Signal, data: bytes) -> int:
    """Count log records, spans, data points or samples, looking at nothing inside them.

    Raises:
        Malformed: The way to the items is broken.
    """
    return count_in(data, 0, len(data), PATHS[signal])


def validate(signal: Signal, data: bytes) -> None:
    """Check the way to every item and the fields of the items themselves, but not what is in those fields.

    Raises:
        Malformed: A length, a tag or a wire type is wrong.
    """
    count_in(data, 0, len(data), PATHS[signal], into_items=True)


def count_in(data: bytes, position: int, end: int, path: Path, *, into_items: bool = False) -> int:
    """Count the items of a message on the way to them, which lies between two offsets; ``path`` is the rest of the way."""
    numbers, rest = path[0], path[1:]
    if not rest and not into_items and (count := _count_quickly(data, position, end, numbers)) >= 0:
        return count
    total = 0
    for number, wire_type, start, value, stop in walk(data, position, end):
        if number not in numbers:
            continue
        if wire_type != _LENGTH:
            raise Malformed(f"field {number} at byte {start} has wire type {wire_type} where a message belongs")
        if rest:
            total += count_in(data, value, stop, rest, into_items=into_items)
        else:
            total += 1
            if into_items:
                deque(walk(data, value, stop), maxlen=0)
    return total


def _count_quickly(data: bytes, position: int, end: int, numbers: frozenset[int]) -> int:
    """Count the items that lie in one message; -1 where only :func:`walk` can tell, for anything out of the ordinary.

    All the work on a request of many items is done here, so there are no calls and no generator.
    """
    total = 0
    try:
        while position < end:
            tag = data[position]
            size = data[position + 1]
            position += 2
            if tag & 7 != _LENGTH:
                if tag & 7 != _VARINT or size >= _MORE or tag >> 3 in numbers or not _FIRST_TAG <= tag < _MORE:
                    return -1
                continue
            if size >= _MORE:
                more = data[position]
                if more >= _MORE:
                    return -1
                size += (more << 7) - _MORE
                position += 1
            position += size
            if tag >> 3 in numbers:
                total += 1
            elif not _FIRST_TAG <= tag < _MORE:
                return -1
    except IndexError:
        return -1
    return total if position == end else -1


def walk(data: bytes, position: int, end: int) -> Iterator[tuple[int, int, int, int, int]]:
    """Walk one message: (field number, wire type, offset of the tag, of the value, behind the value).

    Raises:
        Malformed: A length, a tag or a wire type is wrong.
    """
    while position < end:
        start = position
        tag = data[position]
        position += 1
        if tag >= _MORE:
            tag, position = _varint(data, start, end)
        number, wire_type = tag >> 3, tag & 7
        value = position
        if wire_type == _LENGTH:
            size, value = _varint(data, position, end)
            position = value + size
        elif wire_type == _VARINT:
            _, position = _varint(data, position, end)
        elif wire_type == _FIXED64:
            position += 8
        elif wire_type == _FIXED32:
            position += 4
        else:
            raise Malformed(f"byte {start} begins a field of wire type {wire_type}, which OTLP does not use")
        if number == 0:
            raise Malformed(f"byte {start} begins a field with number 0, which does not exist")
        if position > end:
            raise Malformed(
                f"field {number} at byte {start} needs {position - value} bytes, but its message ends {end - value} "
                "bytes after its value begins"
            )
        yield number, wire_type, start, value, position


def _varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    if position < end and (byte := data[position]) < _MORE:
        return byte, position + 1
    value = 0
    for index in range(_VARINT_MAX_BYTES):
        at = position + index
        if at >= end:
            raise Malformed(f"the varint at byte {position} is cut off by the end of its message")
        byte = data[at]
        value |= (byte & ~_MORE) << (7 * index)
        if byte < _MORE:
            return value, at + 1
    raise Malformed(f"the varint at byte {position} is longer than {_VARINT_MAX_BYTES} bytes")


class _Piece(NamedTuple):
    data: bytes
    items: int


def split(batch: Batch, max_bytes: int) -> list[Batch]:
    """Cut a batch into requests of at most ``max_bytes`` each, in order; every item keeps its resource and scope.

    What is not on the way to the items (resource, scope, name of a metric, dictionary of profiles) is repeated in
    every piece. A single item that is larger stays alone in its piece. What would leave less than a quarter of
    ``max_bytes`` for items is not repeated: then its items stay together, so that the pieces never sum up to more than
    a small multiple of the batch. A metric or a profile is cut only when it does not fit into one piece.

    Raises:
        Malformed: The data is no request of this signal.
    """
    if len(batch.data) <= max_bytes:
        return [batch]
    once = PROFILE_ONCE if batch.signal is Signal.PROFILES else frozenset()
    pieces = _pieces(batch.data, PATHS[batch.signal], max_bytes, max_bytes // 4, once)
    if len(pieces) == 1:
        return [batch]
    parts = deal(batch.parts, [piece.items for piece in pieces])
    return [Batch(batch.signal, piece.items, piece.data, own) for piece, own in zip(pieces, parts, strict=True)]


def _pieces(data: bytes, path: Path, room: int, least: int, once: frozenset[int]) -> list[_Piece]:
    """Cut one message on the way to the items into messages of at most ``room`` bytes.

    ``least`` is the fewest bytes for items that are worth a repeated envelope; ``once`` are the fields of the message
    that holds the items which only its first piece keeps.
    """
    rest = path[1:]
    kept: list[bytes] = []
    fragments: list[_Piece] = []
    inner: list[tuple[int, bytes, bytes]] = []
    for number, _, start, value, stop in walk(data, 0, len(data)):
        if number in path[0]:
            inner.append((number, data[start:stop], data[value:stop]))
        elif number in once and not rest:
            fragments.append(_Piece(data[start:stop], 0))
        else:
            kept.append(data[start:stop])
    envelope = b"".join(kept)
    room -= len(envelope)
    if room < least:
        return [_Piece(data, count_in(data, 0, len(data), path))]
    for number, field, message in inner:
        if not rest:
            fragments.append(_Piece(field, 1))
        elif len(field) <= room:
            fragments.append(_Piece(field, count_in(message, 0, len(message), rest)))
        else:
            tag = bytes((number << 3 | _LENGTH,))
            inner_room = room - len(tag) - len(varint(room))
            fragments.extend(
                _Piece(tag + varint(len(piece.data)) + piece.data, piece.items)
                for piece in _pieces(message, rest, inner_room, least, once)
            )
    return list(_pack(envelope, fragments, room))


def _pack(envelope: bytes, fragments: Sequence[_Piece], room: int) -> Iterator[_Piece]:
    """Fill one envelope after another with as many consecutive fragments as ``room`` bytes hold."""
    chunks, size, items = [envelope], 0, 0
    for fragment in fragments:
        if size and size + len(fragment.data) > room:
            yield _Piece(b"".join(chunks), items)
            chunks, size, items = [envelope], 0, 0
        chunks.append(fragment.data)
        size += len(fragment.data)
        items += fragment.items
    yield _Piece(b"".join(chunks), items)


def deal(parts: Sequence[Part], counts: Sequence[int]) -> list[tuple[Part, ...]]:
    """Share out parts over pieces of so many items, in order: joined batches keep the order of their parts."""
    left = deque(parts)
    dealt = []
    for count in counts:
        own = []
        missing = count
        while missing and left:
            part = left.popleft()
            taken = min(missing, part.items)
            if taken:
                own.append(part._replace(items=taken))
            if part.items > taken:
                left.appendleft(part._replace(items=part.items - taken))
            missing -= taken
        dealt.append(tuple(own))
    return dealt


def to_json(signal: Signal, data: bytes) -> str:
    """Write a request as one line of JSON, as the Collector's file exporter does (v0.159, ``pdata/internal/json``).

    OTLP's JSON, with the Collector's own choices: fields in the order of the .proto files, what has its default value
    left out, but messages that are neither repeated nor in a oneof always written (``"scope":{}``); ids in
    hexadecimal and left out when all zero; doubles in Go's notation. What the Collector changes before it writes is
    not done here: it turns the inline attribute names of profiles' resources and scopes into references.

    Raises:
        Malformed: The data is no request of this signal.
    """
    return orjson.dumps(_plain(parse(signal, data))).decode()


def parse(signal: Signal, data: bytes) -> Any:
    """Parse a request whole, for people to look at: the message is one of :data:`REQUESTS`.

    Raises:
        Malformed: The data is no request of this signal.
    """
    try:
        return REQUESTS[signal].FromString(data)
    except DecodeError as error:
        raise Malformed(f"no {REQUESTS[signal].DESCRIPTOR.name}: {error}") from None


_IDS: Final = frozenset({"trace_id", "span_id", "parent_span_id", "profile_id"})


class _Layout(NamedTuple):
    """How a message type is written."""

    writers: dict[int, tuple[str, bool, Callable[[Any], Any] | None]]
    """By field number: name in JSON, whether it is repeated, what turns a value into JSON's (None: it is one)."""
    always: tuple[str, ...]
    """Names of messages that are written even when they are not set."""
    order: tuple[str, ...]
    in_order: bool
    """Whether the order of names is that of field numbers."""


_layouts: dict[type[Message], _Layout] = {}


def _layout(message_type: type[Message]) -> _Layout:
    fields: list[Any] = list(message_type.DESCRIPTOR.fields)
    order = sorted(fields, key=lambda field: (field.full_name == _LAST_IN_GO, field.index))
    numbers = [field.number for field in order]
    layout = _layouts[message_type] = _Layout(
        {field.number: (field.json_name, field.is_repeated, _writer(field)) for field in fields},
        tuple(f.json_name for f in order if f.message_type and not f.is_repeated and not f.containing_oneof),
        tuple(field.json_name for field in order),
        numbers == sorted(numbers),
    )
    return layout


_LAST_IN_GO: Final = "opentelemetry.proto.metrics.v1.Exemplar.span_id"
"""The one field that the Collector writes elsewhere than where the .proto file declares it."""


def _plain(message: Message) -> dict[str, Any]:
    layout = _layouts.get(type(message)) or _layout(type(message))
    plain: dict[str, Any] = {}
    for field, value in message.ListFields():
        name, repeated, write = layout.writers[field.number]
        if write is None:
            plain[name] = list(value) if repeated else value
        elif repeated:
            plain[name] = [write(one) for one in value]
        elif (written := write(value)) is not None:
            plain[name] = written
    missing = [name for name in layout.always if name not in plain]
    if not missing and layout.in_order:
        return plain
    for name in missing:
        plain[name] = {}  # none of these messages holds another that is always written
    return {name: plain[name] for name in layout.order if name in plain}


def _writer(field: Any) -> Callable[[Any], Any] | None:
    if field.message_type is not None:
        return _plain
    if field.cpp_type in (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64):
        return str
    if field.cpp_type == FieldDescriptor.CPPTYPE_DOUBLE:
        return _double
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _identity if field.name in _IDS else _base64
    return None


def _identity(value: bytes) -> str | None:
    return value.hex() if any(value) else None


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _double(value: float) -> Any:
    """A double as Go's strconv writes it: no exponent from 1e-6 to 1e21, no trailing ``.0``."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    text = repr(value)
    if "e" in text and 1e-6 <= abs(value) < 1e21:  # noqa: PLR2004 - the limits of Go's encoding
        text = format(Decimal(text), "f")
    return orjson.Fragment(text.removesuffix(".0").encode())
