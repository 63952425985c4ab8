"""The dictionary of a piece of a profiles request: only what the piece refers to, renumbered."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import ExportProfilesServiceRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.message import Message

_NAMES: Final = ("name_strindex", "system_name_strindex", "filename_strindex")
_REFERENCES: Final[Mapping[str, tuple[tuple[str, str], ...]]] = MappingProxyType(
    {
        "Function": tuple((name, "string") for name in _NAMES),
        "KeyValue": (("key_strindex", "string"),),
        "KeyValueAndUnit": (("key_strindex", "string"), ("unit_strindex", "string")),
        "Line": (("function_index", "function"),),
        "Location": (("mapping_index", "mapping"),),
        "Mapping": (("filename_strindex", "string"),),
        "Sample": (("stack_index", "stack"), ("link_index", "link")),
        "ValueType": (("type_strindex", "string"), ("unit_strindex", "string")),
    }
)
"""By message, the fields that are an index, and of which table."""
_LISTS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "Location": ("attribute_indices", "attribute"),
        "Mapping": ("attribute_indices", "attribute"),
        "Profile": ("attribute_indices", "attribute"),
        "Sample": ("attribute_indices", "attribute"),
        "Stack": ("location_indices", "location"),
    }
)
"""By message, the field that is a list of indices, and of which table."""


class _UnknownEntryError(Exception):
    """An index leads out of its table."""


def compact(data: bytes) -> bytes:
    """Drop from the dictionary what nothing refers to; a request whose indices lead nowhere is left as it is.

    The entries that stay keep what is in them, unknown fields included; only their positions change.
    """
    try:
        request = ExportProfilesServiceRequest.FromString(data)
        compaction = _Compaction(request.dictionary)
        for resource in request.resource_profiles:
            compaction.rewrite(resource)
    except (DecodeError, _UnknownEntryError):
        return data
    request.dictionary.CopyFrom(compaction.new)
    encoded: bytes = request.SerializeToString()
    return encoded


class _Compaction:
    def __init__(self, dictionary: Any) -> None:
        self.new: Any = type(dictionary)()
        self._indices: dict[str, dict[int, int]] = {}
        self._old: dict[str, Any] = {}
        self._tables: dict[str, Any] = {}
        for field in dictionary.DESCRIPTOR.fields:
            name = field.name.removesuffix("_table")
            old, new = getattr(dictionary, field.name), getattr(self.new, field.name)
            new.extend(old[:1])
            self._indices[name], self._old[name], self._tables[name] = {0: 0}, old, new

    def rewrite(self, message: Message) -> None:
        """Replace every index in a message and in what it holds."""
        name = message.DESCRIPTOR.name
        for field, table in _REFERENCES.get(name, ()):
            if index := getattr(message, field):
                setattr(message, field, self._moved(table, index))
        if name in _LISTS:
            field, table = _LISTS[name]
            indices = getattr(message, field)
            if indices:
                known = self._indices[table]
                indices[:] = [known[index] if index in known else self._moved(table, index) for index in indices]
        if name in {"Sample", "ValueType", "Line", "Function", "Stack"}:
            return  # all that is below them is numbers
        if name == "AnyValue" and message.HasField("string_value_strindex"):
            index = self._moved("string", message.string_value_strindex)  # type: ignore[attr-defined] # an AnyValue
            message.string_value_strindex = index  # type: ignore[attr-defined] # likewise
        for descriptor, value in message.ListFields():
            if descriptor.message_type is not None:
                for each in value if descriptor.is_repeated else (value,):
                    self.rewrite(each)

    def _moved(self, table: str, index: int) -> int:
        """The new index of an entry, which is moved with all that it refers to where that has not been done."""
        known = self._indices[table]
        if index not in known:
            old, new = self._old[table], self._tables[table]
            if not 0 <= index < len(old):
                raise _UnknownEntryError
            if table == "string":
                new.append(old[index])
                known[index] = len(new) - 1
            else:
                entry = type(old[index])()
                entry.CopyFrom(old[index])
                self.rewrite(entry)
                new.append(entry)
                known[index] = len(new) - 1
        return known[index]
