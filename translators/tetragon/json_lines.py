"""One line of Tetragon's JSON export back to the bytes of the same event.

The export is protobuf's JSON mapping with the schema's own field names (protojson, ``UseProtoNames``). Encoding it by
tables made from the schema, instead of building message objects, is several times faster and can say where a value
is wrong and what was not known.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, cast

import orjson
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from translators import wire
from translators.pb import tetragon_pb2 as full

Encode = Callable[[Any, str, list[str]], bytes]
"""(value, path of the value, paths that were not known, appended to) to the encoded payload."""

# Names up to Tetragon 1.0; on the wire nothing changed.
_FORMER_FIELDS: Mapping[str, Mapping[str, str]] = {"tetragon.ProcessKprobe": {"stack_trace": "kernel_stack_trace"}}
_FORMER_VALUES: Mapping[str, Mapping[str, str]] = {
    "tetragon.KprobeAction": {"KPROBE_ACTION_NOTIFYKILLER": "KPROBE_ACTION_NOTIFYENFORCER"}
}
_INTEGER_DIGITS = 20  # -9223372036854775808
_TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class MalformedLine(ValueError):
    """A line that is no event; the text says what is wrong and where, and nothing of the content."""


class Line(NamedTuple):
    """A line as bytes of the schema."""

    raw: bytes
    kind: str
    """Name of an event kind that the schema does not know; "" where it knows the kind or there is none."""
    unknown_fields: int


def encode_line(line: bytes) -> Line:
    """Encode one JSON line as a GetEventsResponse. Raises MalformedLine."""
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise MalformedLine(f"not JSON: {error.msg} at line {error.lineno} column {error.colno}") from error
    if not isinstance(event, dict):
        raise MalformedLine(f"an event is a JSON object, this is {_type(event)}")
    for name in _KIND_NAMES.intersection(event):
        event[name] = event.pop(name)  # last, where Go writes it
    unknown: list[str] = []
    raw = _EVENT(event, "", unknown)
    strangers = [path for path in unknown if "." not in path and isinstance(event[path], dict)]
    known = any(event.get(name) is not None for name in _KIND_NAMES)
    kind = strangers[0] if strangers and not known else ""
    return Line(raw, kind, len(unknown) - bool(kind))


def _type(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _wrong(path: str, expected: str, value: Any) -> MalformedLine:
    return MalformedLine(f"{path or 'event'}: expected {expected}, this is {_type(value)}")


def _integer(low: int, high: int) -> Encode:
    def encode(value: Any, path: str, _: list[str]) -> bytes:
        number = value
        if isinstance(value, str):
            # 64-bit integers are JSON strings; int() alone would also take spaces and underscores.
            if not value.isascii() or not value.removeprefix("-").isdecimal() or len(value) > _INTEGER_DIGITS:
                raise MalformedLine(f"{path}: expected an integer, this is another text")
            number = int(value)
        elif isinstance(value, float) and value.is_integer():
            number = int(value)
        if not isinstance(number, int) or isinstance(number, bool):
            raise _wrong(path, "an integer", value)
        if not low <= number <= high:
            raise MalformedLine(f"{path}: the integer is not between {low} and {high}")
        return wire.varint(number)

    return encode


def _boolean(value: Any, path: str, _: list[str]) -> bytes:
    if not isinstance(value, bool):
        raise _wrong(path, "a boolean", value)
    return b"\x01" if value else b"\x00"


def _string(value: Any, path: str, _: list[str]) -> bytes:
    if not isinstance(value, str):
        raise _wrong(path, "a string", value)
    return value.encode()


def _bytes(value: Any, path: str, _: list[str]) -> bytes:
    if not isinstance(value, str):
        raise _wrong(path, "a base64 string", value)
    text = value.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedLine(f"{path}: not base64") from error


def _enum(field: FieldDescriptor) -> Encode:
    assert field.enum_type is not None
    numbers = {value.name: value.number for value in field.enum_type.values}
    former = _FORMER_VALUES.get(field.enum_type.full_name, {})
    numbers |= {name: numbers[now] for name, now in former.items()}

    def encode(value: Any, path: str, unknown: list[str]) -> bytes:
        if isinstance(value, str):
            if value not in numbers:
                # A value that a newer agent knows. Its name cannot be said on the wire.
                unknown.append(path)
                return b"\x00"
            return wire.varint(numbers[value])
        return _INT32(value, path, unknown)

    return encode


def _timestamp(value: Any, path: str, _: list[str]) -> bytes:
    found = _TIMESTAMP.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise _wrong(path, "a timestamp such as 2026-01-02T03:04:05.678Z", value)
    try:
        instant = datetime.fromisoformat(found[1] + ("+00:00" if found[3] == "Z" else found[3]))
        seconds = int((instant - _EPOCH).total_seconds())
    except (ValueError, OverflowError) as error:
        raise MalformedLine(f"{path}: no such date or time") from error
    nanos = int((found[2] or "").ljust(9, "0"))
    parts = wire.number_field(1, seconds) if seconds else b""
    return parts + (wire.number_field(2, nanos) if nanos else b"")


def _wrapper(encode: Encode) -> Encode:
    def encode_wrapper(value: Any, path: str, unknown: list[str]) -> bytes:
        payload = encode(value, path, unknown)
        return b"" if payload == b"\x00" else b"\x08" + payload

    return encode_wrapper


_INT32 = _integer(-(1 << 31), (1 << 31) - 1)
_UINT32 = _integer(0, (1 << 32) - 1)

_SCALARS: Mapping[int, Encode] = {
    FieldDescriptor.TYPE_INT32: _INT32,
    FieldDescriptor.TYPE_INT64: _integer(-(1 << 63), wire.INT64_MAX),
    FieldDescriptor.TYPE_UINT32: _UINT32,
    FieldDescriptor.TYPE_UINT64: _integer(0, wire.UINT64_MAX),
    FieldDescriptor.TYPE_BOOL: _boolean,
    FieldDescriptor.TYPE_STRING: _string,
    FieldDescriptor.TYPE_BYTES: _bytes,
}
_WELL_KNOWN: Mapping[str, Encode] = {
    "google.protobuf.Timestamp": _timestamp,
    "google.protobuf.UInt32Value": _wrapper(_UINT32),
    "google.protobuf.Int32Value": _wrapper(_INT32),
    "google.protobuf.BoolValue": _wrapper(_boolean),
}


class _Field(NamedTuple):
    tag: bytes
    encode: Encode
    delimited: bool
    repeated: bool
    presence: bool
    map_entry: bool


class _Message:
    """Encodes objects of one message type; fields are looked up when the type is first used, for types may nest."""

    def __init__(self, descriptor: Descriptor) -> None:
        self._descriptor = descriptor
        self._fields: dict[str, _Field] = {}

    def __call__(self, value: Any, path: str, unknown: list[str]) -> bytes:
        if not isinstance(value, dict):
            raise _wrong(path, "an object", value)
        if not self._fields:
            self._fields = {
                name: _field(field) for field in self._descriptor.fields for name in (field.name, field.json_name)
            }
            former = _FORMER_FIELDS.get(self._descriptor.full_name, {})
            self._fields |= {name: self._fields[now] for name, now in former.items()}
        parts = []
        prefix = f"{path}." if path else ""
        for name, item in value.items():
            field = self._fields.get(name)
            if field is None:
                unknown.append(prefix + name)
            elif item is not None:
                parts.append(_encode_field(field, item, prefix + name, unknown))
        return b"".join(parts)


def _encode_field(field: _Field, value: Any, path: str, unknown: list[str]) -> bytes:
    if field.map_entry:
        if not isinstance(value, dict):
            raise _wrong(path, "an object", value)
        entries = [{"key": name, "value": value[name]} for name in value]
        return b"".join(_one(field, entry, path, unknown) for entry in entries)
    if field.repeated:
        if not isinstance(value, list):
            raise _wrong(path, "an array", value)
        return b"".join(_one(field, item, f"{path}[{index}]", unknown) for index, item in enumerate(value))
    return _one(field, value, path, unknown)


def _one(field: _Field, value: Any, path: str, unknown: list[str]) -> bytes:
    payload = field.encode(value, path, unknown)
    if field.delimited:
        if not payload and not field.presence:
            return b""
        return field.tag + wire.varint(len(payload)) + payload
    if payload == b"\x00" and not field.presence:
        return b""
    return field.tag + payload


def _field(field: FieldDescriptor) -> _Field:
    message = field.message_type
    if message is not None:
        encode = _WELL_KNOWN.get(message.full_name) or encoder(message)
    elif field.enum_type is not None:
        encode = _enum(field)
    else:
        encode = _SCALARS[field.type]
    delimited = message is not None or field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)
    return _Field(
        tag=wire.varint(field.number << 3 | (2 if delimited else 0)),
        encode=encode,
        delimited=delimited,
        repeated=field.is_repeated,
        presence=field.has_presence or field.is_repeated,
        map_entry=message is not None and message.GetOptions().map_entry,
    )


_MESSAGES: dict[str, _Message] = {}


def encoder(descriptor: Descriptor) -> Encode:
    """Return what encodes the objects of a message type."""
    return _MESSAGES.setdefault(descriptor.full_name, _Message(descriptor))


_EVENT = encoder(cast("Descriptor", full.GetEventsResponse.DESCRIPTOR))
_KIND_NAMES = frozenset(field.name for field in full.GetEventsResponse.DESCRIPTOR.oneofs_by_name["event"].fields)
