"""pprof's tables to entries of the OTLP dictionary, each entered where it is first referred to: so none is an orphan.

pprof refers by ids, which are any numbers but 0, OTLP by position. The tables here are keyed by an id as it is encoded,
tag included, so that a reference is looked up, and replaced, without being decoded.
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from translators.pb.profile_pb2 import Line
from translators.pprof.refused import RefusedError
from translators.profiles import build_id, frame_type
from translators.profiles.dictionary import indices, number
from translators.wire import any_bool, any_int, varint

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from translators.pb import profile_pb2
    from translators.pprof.read import Pprof
    from translators.profiles.dictionary import Dictionary

_Entry = TypeVar("_Entry", "profile_pb2.Function", "profile_pb2.Mapping")

IS_FOLDED: Final = "pprof.location.is_folded"
MEMORY_START, MEMORY_LIMIT = "pprof.mapping.memory_start", "pprof.mapping.memory_limit"
"""Of a mapping whose limit is not above its start, which OTLP has no mapping for."""
_FLAGS: Final = ("has_functions", "has_filenames", "has_line_numbers", "has_inline_frames")

_FUNCTION_ID: Final = re.compile(rb"(?:\x08[\x80-\xff]*[\x00-\x7f])?")
_LOCATION: Final = re.compile(
    rb"(\x08[\x80-\xff]*[\x00-\x7f])?(\x10[\x80-\xff]*[\x00-\x7f])?(?:\x18([\x80-\xff]*[\x00-\x7f]))?"
)
_LINE_TAG: Final = 0x22  # pprof's Location.line = 4
_FOLDED: Final = b"\x28\x01"  # pprof's Location.is_folded = 5
_MORE: Final = 0x80
_TRUE: Final = any_bool(True)  # noqa: FBT003 - it is the value
_MAX_LINES: Final = 10_000
"""Of a location, which has one for each function that is inlined there."""
_NEGATIVE_BYTES: Final = 11
"""A tag and a negative number, which takes all ten bytes of a varint."""


class Strings(dict[int, int]):
    """The index of a string in the dictionary, by its index in pprof's table."""

    def __init__(self, table: Sequence[bytes], dictionary: Dictionary) -> None:
        """Enter nothing yet; ``invalid`` is whether some were no UTF-8, which OTLP's strings must be."""
        super().__init__()
        try:
            b"\0".join(table).decode()
            self.invalid = 0
        except UnicodeDecodeError:
            given = table
            table = [each.decode("utf-8", "backslashreplace").encode() for each in given]
            self.invalid = sum(ours != theirs for ours, theirs in zip(table, given, strict=True))
        self._table = table
        self._dictionary = dictionary

    def __missing__(self, index: int) -> int:
        """Enter a string."""
        found = self[index] = self._dictionary.strings.add(self.encoded(index))
        return found

    def encoded(self, index: int) -> bytes:
        """Return a string as UTF-8."""
        if not 0 <= index < len(self._table):
            raise RefusedError(f"string {index} is referred to, and there are {len(self._table)}")
        return self._table[index]

    def text(self, index: int) -> str:
        """Return a string."""
        return self.encoded(index).decode()


class _Function(NamedTuple):
    reference: bytes
    """The field ``Line.function_index``."""
    has_name: bool
    frame_type: str


class Functions(dict[bytes, _Function]):
    """Functions by the field ``Line.function_id``; none is a function too."""

    def __init__(self, functions: Iterable[profile_pb2.Function], strings: Strings, dictionary: Dictionary) -> None:
        """Enter nothing yet."""
        super().__init__({b"": _Function(b"", has_name=False, frame_type="")})
        self._functions = _by_id("function", b"\x08", functions)
        self._strings = strings
        self._dictionary = dictionary
        self._kinds: dict[int, str] = {}
        """What runs a function, by the index of its file's name."""
        self._is_go = any(
            function.filename and strings.encoded(function.filename).endswith(b".go") for function in functions
        )

    def __missing__(self, reference: bytes) -> _Function:
        """Enter a function."""
        given = self._functions.get(reference)
        if given is None:
            raise RefusedError(f"function {_id_in(reference)} is referred to and not there")
        strings = self._strings
        index = self._dictionary.function(
            strings[given.name], strings[given.system_name], strings[given.filename], max(given.start_line, 0)
        )
        has_name = bool(strings[given.name] or strings[given.system_name])
        kind = self._kinds.get(given.filename)
        if kind is None:
            kind = frame_type.of_source_file(strings.text(given.filename), in_go=self._is_go)
            self._kinds[given.filename] = kind
        found = self[reference] = _Function(number(1, index), has_name, kind)
        return found


class _Mapping(NamedTuple):
    reference: bytes
    """The field ``Location.mapping_index``."""
    start: int
    limit: int
    offset: int
    name: str
    """Base name of the file."""
    frame_type: str
    """Of its machine code."""


class Mappings(dict[bytes, _Mapping]):
    """Mappings by the field ``Location.mapping_id``; none is a mapping too."""

    def __init__(
        self,
        mappings: Sequence[profile_pb2.Mapping],
        more: Sequence[Mapping[str, int]],
        strings: Strings,
        dictionary: Dictionary,
    ) -> None:
        """Enter nothing yet; ``more`` are further attributes of the first mappings, in pprof's order."""
        super().__init__({b"": _Mapping(b"", 0, 0, 0, "", "")})
        self._mappings = _by_id("mapping", b"\x10", mappings)
        self._more = dict(zip(self._mappings, more, strict=False))
        self._strings = strings
        self._dictionary = dictionary

    def __missing__(self, reference: bytes) -> _Mapping:
        """Enter a mapping."""
        given = self._mappings.get(reference)
        if given is None:
            raise RefusedError(f"mapping {_id_in(reference)} is referred to and not there")
        strings, dictionary = self._strings, self._dictionary
        ids = build_id.classify(strings.text(given.build_id))
        attributes = [dictionary.text_attribute(*pair) for pair in ids.items()]
        attributes += [dictionary.attribute(f"pprof.mapping.{flag}", _TRUE) for flag in _FLAGS if getattr(given, flag)]
        attributes += [
            dictionary.attribute(key, any_int(value)) for key, value in self._more.get(reference, {}).items()
        ]
        start, limit = given.memory_start, given.memory_limit
        if start >= limit and (start or limit):
            attributes += [
                dictionary.attribute(MEMORY_START, any_int(start)),
                dictionary.attribute(MEMORY_LIMIT, any_int(limit)),
            ]
            start = limit = 0
        index = dictionary.mapping(start, limit, given.file_offset, strings[given.filename], attributes)
        filename = strings.text(given.filename)
        kind = frame_type.of_mapping(filename, is_go=build_id.GO in ids)
        name = posixpath.basename(filename)
        found = self[reference] = _Mapping(number(1, index), start, limit, given.file_offset, name, kind)
        return found


class Locations:
    """Locations; ``frames`` and ``unnamed`` count those that were entered, and those that came without a name."""

    def __init__(
        self, pprof: Pprof, functions: Functions, mappings: Mappings, dictionary: Dictionary, *, name_natives: bool
    ) -> None:
        """Enter nothing yet; ``name_natives`` gives frames without a name their file and address as one."""
        self._rows = pprof.locations
        self._functions = functions
        self._mappings = mappings
        self._dictionary = dictionary
        self._name_natives = name_natives
        self._tails: dict[tuple[str, bool], bytes] = {}
        self.frames = 0
        self.unnamed = 0

    def enter(self, used: set[int]) -> dict[int, int]:
        """Enter the locations with these ids; returns the index of each.

        Raises:
            RefusedError: One is not there, or there twice, or refers to what is not there.
        """
        entered: dict[int, int] = {}
        seen: set[bytes] = set()
        add = self._dictionary.locations.add
        for row in self._rows:
            found = _LOCATION.match(row)
            assert found is not None  # every part is optional
            reference, mapping, address = found.groups(b"")
            if not reference:
                raise RefusedError("a location has the id 0")
            seen.add(reference)
            identity = _id_in(reference)
            if identity in used:
                entered[identity] = add(self._encoded(row, found.end(), mapping, address))
        if len(seen) < len(self._rows):
            raise RefusedError("two locations have the same id; were profiles written one after the other?")
        if len(entered) < len(used):
            raise RefusedError(f"location {min(used - entered.keys())} is referred to and not there")
        self.frames += len(entered)
        return entered

    def _encoded(self, row: bytes, position: int, mapping_id: bytes, address: bytes) -> bytes:
        """One OTLP ``Location`` of a pprof one, whose lines begin at ``position``."""
        mapping = self._mappings[mapping_id]
        pieces = [mapping.reference, b"\x10" + address if address else b""]
        kind, named, size = "", False, len(row)
        while position < size and row[position] == _LINE_TAG:
            line_size = row[position + 1]
            if line_size < _MORE:
                position += 2
            else:
                line_size, position = _varint(row, position + 1)
            line = row[position : position + line_size]
            position += line_size
            function_id = _FUNCTION_ID.match(line)
            assert function_id is not None  # it matches nothing too
            function = self._functions[function_id[0]]
            rest = line[function_id.end() :]
            if len(rest) >= _NEGATIVE_BYTES:
                rest = _without_negatives(rest)
            kind = kind or function.frame_type
            named = named or function.has_name
            line_size = len(function.reference) + len(rest)
            pieces += (b"\x1a", varint(line_size), function.reference, rest)
            if len(pieces) > 4 * _MAX_LINES:
                raise RefusedError(f"a location has more than {_MAX_LINES} lines", "too_large")
        if not named:
            self.unnamed += 1
            if self._name_natives and len(pieces) == 2:  # noqa: PLR2004 - there are no lines
                name = self._dictionary.function(self._dictionary.string(_placeholder(mapping, address)), 0, 0, 0)
                pieces.append(b"\x1a" + varint(len(number(1, name))) + number(1, name))
        if mapping.frame_type == "kernel":
            kind = "kernel"
        pieces.append(self._tail(kind or mapping.frame_type, row.endswith(_FOLDED) and position < size))
        return b"".join(pieces)

    def _tail(self, kind: str, is_folded: bool) -> bytes:  # noqa: FBT001 - it is a part of the key
        """The field ``attribute_indices``."""
        tail = self._tails.get((kind, is_folded))
        if tail is None:
            attributes = [self._dictionary.text_attribute(frame_type.FRAME_TYPE, kind)] if kind else []
            if is_folded:
                attributes.append(self._dictionary.attribute(IS_FOLDED, _TRUE))
            tail = self._tails[kind, is_folded] = indices(4, attributes)
        return tail


def _placeholder(mapping: _Mapping, encoded_address: bytes) -> str:
    address = _varint(encoded_address, 0)[0] if encoded_address else 0
    if mapping.start <= address < mapping.limit:
        address = address - mapping.start + mapping.offset
    return f"{mapping.name}+{address:#x}" if mapping.name else f"{address:#x}"


def _without_negatives(rest: bytes) -> bytes:
    """Line and column of a ``Line``; a negative one, by which writers say that there is none, becomes 0."""
    line = Line.FromString(rest)
    return Line(line=max(line.line, 0), column=max(line.column, 0)).SerializeToString()


def _by_id(what: str, tag: bytes, entries: Iterable[_Entry]) -> dict[bytes, _Entry]:
    found: dict[bytes, _Entry] = {}
    for entry in entries:
        if not entry.id:
            raise RefusedError(f"a {what} has the id 0")
        reference = tag + varint(entry.id)
        if reference in found:
            raise RefusedError(f"two {what}s have the id {entry.id}; were profiles written one after the other?")
        found[reference] = entry
    return found


def _id_in(reference: bytes) -> int:
    """The id in a field: a tag of one byte and a varint."""
    return reference[1] if reference[1] < _MORE else _varint(reference, 1)[0]


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Decode the varint at an offset; returns it and the offset behind it."""
    value = shift = 0
    while (byte := data[position]) >= _MORE:
        value |= (byte & 0x7F) << shift
        shift += 7
        position += 1
    return value | byte << shift, position + 1
