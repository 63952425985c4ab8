"""Any message as an AnyValue: a list of its set fields under their names, nested as the message is."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from translators import wire
from translators.tetragon import names

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.descriptor import FieldDescriptor
    from google.protobuf.message import Message

    from translators.tetragon.redaction import Redaction

_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_WRAPPERS = frozenset(
    {"google.protobuf.UInt32Value", "google.protobuf.Int32Value", "google.protobuf.BoolValue"},
)


def snake_case(name: str) -> str:
    """Write a field's name as attributes are written: ``ProgType`` is ``prog_type``."""
    return _CAPITAL.sub("_", name).lower()


@lru_cache(maxsize=512)
def _key(name: str) -> wire.Key:
    return wire.Key(snake_case(name), wire.LIST_TAG)


def entry(name: str, value: bytes) -> bytes:
    """Encode one entry of a kvlist; ``value`` is an encoded AnyValue. ``name`` comes from a schema, not from input."""
    return _key(name).any(value)


def message_entries(message: Message, redaction: Redaction) -> list[bytes]:
    """Encode the set fields of a message as entries of a kvlist, in the order of their numbers."""
    return [_key(field.name).any(_value(field, value, redaction)) for field, value in message.ListFields()]


def message_value(message: Message, redaction: Redaction) -> bytes:
    """Encode a message as an AnyValue."""
    return wire.any_kvlist(message_entries(message, redaction))


def _value(field: FieldDescriptor, value: Any, redaction: Redaction) -> bytes:
    if field.is_repeated:
        return _list(field, value, redaction)
    return _single(field, value, redaction)


def _list(field: FieldDescriptor, values: Iterable[Any], redaction: Redaction) -> bytes:
    return wire.any_array([_single(field, value, redaction) for value in values])


def _single(field: FieldDescriptor, value: Any, redaction: Redaction) -> bytes:
    if field.message_type is not None:
        if field.message_type.full_name in _WRAPPERS:
            return wire.any_value(value.value)
        return message_value(value, redaction)
    if field.enum_type is not None:
        name = names.enum_name(field.enum_type, value)
        return wire.any_string("CAP_DAC_OVERRIDE" if name == "DAC_OVERRIDE" else name)
    if isinstance(value, str):
        return wire.any_string(redaction.text(value))
    if isinstance(value, bytes):
        return wire.any_bytes(redaction.data(value))
    return wire.any_value(value)
