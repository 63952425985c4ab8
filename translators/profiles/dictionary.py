"""The dictionary of an OTLP profiles request: seven tables whose entries are addressed by position.

``opentelemetry/proto/profiles/v1development/profiles.proto`` (1.10 and 1.11): entry 0 of every table is its zero value,
no two entries are equal, nothing is there that nothing refers to. An entry is told from others by its encoding, so
everything here encodes canonically: fields in order, defaults left out, lists of attributes sorted. What keeps orphans
out is that callers only enter what they refer to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from translators.wire import any_string, field, varint

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Table:
    """One table; :meth:`add` finds or appends."""

    __slots__ = ("_tag", "entries")

    def __init__(self, number: int) -> None:
        """Begin with the zero value; ``number`` is the table's field in ``ProfilesDictionary``."""
        self.entries: dict[bytes, int] = {b"": 0}
        self._tag = varint(number << 3 | 2)

    def add(self, entry: bytes) -> int:
        """Return the index of an encoded entry, which is appended where it is new."""
        entries = self.entries
        return entries.setdefault(entry, len(entries))

    def extend(self, entries: Iterable[bytes]) -> list[int]:
        """Return the index of each of some encoded entries, as :meth:`add` does."""
        known = self.entries
        return [known.setdefault(entry, len(known)) for entry in entries]

    def cut(self, size: int) -> None:
        """Forget what was added since the table had ``size`` entries."""
        while len(self.entries) > size:
            self.entries.popitem()

    def encode(self) -> bytes:
        """Encode the table as repeated fields of ``ProfilesDictionary``."""
        heads = {size: self._tag + varint(size) for size in set(map(len, self.entries))}
        return b"".join([heads[len(entry)] + entry for entry in self.entries])


class Dictionary:
    """The tables of one request under construction."""

    def __init__(self) -> None:
        """Begin with the zero entries."""
        self.mappings: Final = Table(1)
        self.locations: Final = Table(2)
        self.functions: Final = Table(3)
        self.links: Final = Table(4)
        self.strings: Final = Table(5)
        self.attributes: Final = Table(6)
        self.stacks: Final = Table(7)

    def encode(self) -> bytes:
        """Encode the ``ProfilesDictionary``, without its tag and length."""
        return b"".join([table.encode() for table in self._tables()])

    def sizes(self) -> tuple[int, ...]:
        """How many entries each table has, for :meth:`cut`."""
        return tuple(len(table.entries) for table in self._tables())

    def cut(self, sizes: Sequence[int]) -> None:
        """Forget what was entered since the tables had these :meth:`sizes`: nothing is left of what is refused."""
        for table, size in zip(self._tables(), sizes, strict=True):
            table.cut(size)

    def _tables(self) -> tuple[Table, ...]:
        return (
            self.mappings,
            self.locations,
            self.functions,
            self.links,
            self.strings,
            self.attributes,
            self.stacks,
        )

    def string(self, text: str) -> int:
        """Return the index of a string."""
        return self.strings.add(text.encode())

    def attribute(self, key: str, value: bytes, unit: str = "") -> int:
        """Return the index of an attribute; ``value`` is an encoded ``AnyValue``, ``unit`` is one of UCUM or none."""
        return self.attributes.add(
            number(1, self.string(key)) + field(2, value) + number(3, self.string(unit) if unit else 0)
        )

    def text_attribute(self, key: str, value: str) -> int:
        """Return the index of an attribute that holds a string."""
        return self.attribute(key, any_string(value))

    def mapping(self, start: int, limit: int, offset: int, filename: int, attributes: Iterable[int]) -> int:
        """Return the index of a mapping: addresses and offset in bytes, the index of a string, those of attributes."""
        return self.mappings.add(
            number(1, start) + number(2, limit) + number(3, offset) + number(4, filename) + indices(5, attributes)
        )

    def function(self, name: int, system_name: int, filename: int, start_line: int) -> int:
        """Return the index of a function, by indices of strings; one that has no name of any kind is none: 0."""
        if not (name or system_name or filename):
            return 0
        return self.functions.add(
            number(1, name) + number(2, system_name) + number(3, filename) + number(4, start_line)
        )

    def link(self, trace_id: bytes, span_id: bytes) -> int:
        """Return the index of a link; the ids have 16 and 8 bytes."""
        return self.links.add(field(1, trace_id) + field(2, span_id))

    def value_type(self, kind: str, unit: str) -> bytes:
        """Encode a ``ValueType``."""
        return number(1, self.string(kind)) + number(2, self.string(unit))


def number(field_number: int, value: int) -> bytes:
    """Encode a varint field; nothing for 0, the default. ``field_number`` is below 16."""
    return _TAGS[field_number] + varint(value) if value else b""


_TAGS: Final = tuple(varint(number << 3) for number in range(16))


def indices(field_number: int, values: Iterable[int]) -> bytes:
    """Encode indices of attributes as a packed field, sorted: they are a set; nothing for none."""
    ordered: Sequence[int] = sorted(values)
    return field(field_number, b"".join(map(varint, ordered))) if ordered else b""
