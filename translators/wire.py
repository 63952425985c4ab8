"""The few pieces of the protobuf wire format that the hot paths write by hand.

A log record is joined from prebuilt bytes, so everything here returns the bytes of one field: tag, length, payload
(protobuf.dev/programming-guides/encoding). Field numbers are those of opentelemetry-proto's ``common.v1`` and, for the
``*_TAG`` constants, of the message that the attribute is put into.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

RECORD_TAG = b"\x32"  # LogRecord.attributes = 6
LIST_TAG = b"\x0a"  # KeyValueList.values = 1, Resource.attributes = 1
SCOPE_TAG = b"\x1a"  # InstrumentationScope.attributes = 3

INT64_MAX = (1 << 63) - 1
UINT64_MAX = (1 << 64) - 1

AttributeValue = str | int | float | bool | bytes

_CONTINUE = 0x80
_HEADS = 512
"""Headers are kept for values up to this many bytes; longer ones are computed each time."""


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= _CONTINUE:
        out.append(value & 0x7F | _CONTINUE)
        value >>= 7
    out.append(value)
    return bytes(out)


_VARINTS = tuple(_varint(value) for value in range(1 << 14))


def varint(value: int) -> bytes:
    """Encode an unsigned integer below 2**64; a negative one as its two's complement in 64 bits."""
    if 0 <= value < 16384:  # noqa: PLR2004 - every varint of one or two bytes is in the table
        return _VARINTS[value]
    if 0 < value < 2097152:  # noqa: PLR2004 - three bytes: ports, most process ids
        return bytes((value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14))
    if 0 < value < 34359738368:  # noqa: PLR2004 - up to five bytes: durations in nanoseconds, sizes, times in seconds
        four = bytes((value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14 & 0x7F | 0x80, value >> 21 & 0x7F))
        return four if value < 268435456 else four[:3] + bytes((four[3] | 0x80, value >> 28))  # noqa: PLR2004 - 2**28, where the fifth byte begins
    return _varint(value & UINT64_MAX)


def field(number: int, payload: bytes) -> bytes:
    """Encode a length-delimited field."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def number_field(number: int, value: int) -> bytes:
    """Encode a varint field."""
    return varint(number << 3) + varint(value)


def fixed64_field(number: int, value: int) -> bytes:
    """Encode a fixed64 field; ``value`` is taken modulo 2**64."""
    return varint(number << 3 | 1) + (value & UINT64_MAX).to_bytes(8, "little")


def any_string(value: str) -> bytes:
    """Encode an ``AnyValue`` that holds a string."""
    data = value.encode()
    return b"\x0a" + varint(len(data)) + data


def any_bool(value: bool) -> bytes:  # noqa: FBT001 - it is the value
    """Encode an ``AnyValue`` that holds a boolean."""
    return b"\x10\x01" if value else b"\x10\x00"


def any_int(value: int) -> bytes:
    """Encode an ``AnyValue`` that holds an integer; beyond int64, which is all OTLP has, as decimal text."""
    if value > INT64_MAX:
        return any_string(str(value))
    return b"\x18" + varint(value)


def any_double(value: float) -> bytes:
    """Encode an ``AnyValue`` that holds a double."""
    return b"\x21" + struct.pack("<d", value)


def any_bytes(value: bytes) -> bytes:
    """Encode an ``AnyValue`` that holds bytes."""
    return b"\x3a" + varint(len(value)) + value


def any_array(values: Iterable[bytes]) -> bytes:
    """Encode an ``AnyValue`` that holds an array of encoded ``AnyValue``."""
    return field(5, b"".join([b"\x0a" + varint(len(value)) + value for value in values]))


def any_kvlist(attributes: Iterable[bytes]) -> bytes:
    """Encode an ``AnyValue`` that holds a list of attributes, which were encoded with :data:`LIST_TAG`."""
    return field(6, b"".join(attributes))


def any_value(value: AttributeValue | Sequence[str]) -> bytes:
    """Encode an ``AnyValue`` by the Python type of ``value``."""
    if isinstance(value, str):
        return any_string(value)
    if isinstance(value, bool):
        return any_bool(value)
    if isinstance(value, int):
        return any_int(value)
    if isinstance(value, float):
        return any_double(value)
    if isinstance(value, bytes):
        return any_bytes(value)
    return any_array(map(any_string, value))


class Key:
    """An attribute key, encoded once; each method returns a whole attribute.

    The bytes before a value depend only on the key and the value's length, so they are kept by length.
    """

    __slots__ = ("_integers", "_prefix", "_tag", "_texts", "false", "name", "true")

    def __init__(self, name: str, tag: bytes = RECORD_TAG) -> None:
        """Encode ``name``; ``tag`` is the field that the attribute becomes."""
        key = name.encode()
        self.name = name
        self._tag = tag
        self._prefix = b"\x0a" + varint(len(key)) + key + b"\x12"
        self._texts: dict[int, bytes] = {}
        self._integers: dict[int, bytes] = {}
        self.true = self.any(any_bool(True))  # noqa: FBT003 - it is the value
        self.false = self.any(any_bool(False))  # noqa: FBT003 - it is the value

    def any(self, value: bytes) -> bytes:
        """Return the attribute that holds an encoded ``AnyValue``."""
        payload = self._prefix + varint(len(value)) + value
        return self._tag + varint(len(payload)) + payload

    def text(self, value: str) -> bytes:
        """Return the attribute that holds a string."""
        data = value.encode()
        size = len(data)
        head = self._texts.get(size)
        if head is None:
            whole = self.any(b"\x0a" + varint(size) + data)
            if size <= _HEADS:
                self._texts[size] = whole[: len(whole) - size]
            return whole
        return head + data

    def integer(self, value: int) -> bytes:
        """Return the attribute that holds an integer; beyond int64 as decimal text."""
        if value > INT64_MAX:
            return self.text(str(value))
        data = varint(value)
        size = len(data)
        head = self._integers.get(size)
        if head is None:
            whole = self.any(b"\x18" + data)
            self._integers[size] = whole[: len(whole) - size]
            return whole
        return head + data

    def boolean(self, value: bool) -> bytes:  # noqa: FBT001 - it is the value
        """Return the attribute that holds a boolean."""
        return self.true if value else self.false

    def blob(self, value: bytes) -> bytes:
        """Return the attribute that holds bytes."""
        return self.any(any_bytes(value))

    def texts(self, values: Iterable[str]) -> bytes:
        """Return the attribute that holds an array of strings."""
        return self.any(any_array(map(any_string, values)))


def attributes(values: Mapping[str, AttributeValue | Sequence[str]], tag: bytes) -> bytes:
    """Encode a mapping as attributes in its order."""
    return b"".join([Key(name, tag).any(any_value(value)) for name, value in values.items()])
