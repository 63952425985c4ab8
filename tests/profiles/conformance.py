"""Whether an OTLP profiles request is what the specification asks for.

The rules are those of ``opentelemetry/proto/profiles/v1development/profiles.proto`` (1.10 and 1.11, its comments) and of the
specification's ``profiles/data-format.md`` and ``profiles/mappings.md``. They hold at least what the profiling SIG's
``profcheck`` holds with duplicates, shapes and orphans on; beyond it they ask for uniqueness in every table, for a
name of every function, for whole ids, and that what is referred to by reference-encoded attributes exists.

An entry is an orphan unless a profile reaches it, over however many tables.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import ExportProfilesServiceRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

TABLES: Final = ("mapping", "location", "function", "link", "string", "attribute", "stack")
BUILD_IDS: Final = frozenset(f"process.executable.build_id.{kind}" for kind in ("gnu", "go", "htlhash"))
_TRACE_ID_BYTES: Final = 16
_SPAN_ID_BYTES: Final = 8
_PROFILE_ID_BYTES: Final = 16


def problems(data: bytes) -> list[str]:
    """Say what breaks a rule, with its place; empty for a request that conforms."""
    return list(_Check(data).problems())


def warnings(data: bytes) -> list[str]:
    """Say what falls short of the specification only because the input did: mappings without a build id."""
    check = _Check(data)
    return [
        f"mapping_table[{index}]: no build id"
        for index, mapping in enumerate(check.dictionary.mapping_table)
        if index and not BUILD_IDS & set(check.keys(mapping.attribute_indices))
    ]


class _Check:
    def __init__(self, data: bytes) -> None:
        self.request = ExportProfilesServiceRequest.FromString(data)
        self.dictionary = self.request.dictionary
        self.tables: dict[str, Any] = {name: getattr(self.dictionary, f"{name}_table") for name in TABLES}
        self.seen: dict[str, set[int]] = {name: {0} for name in TABLES}
        self.found: list[str] = []

    def problems(self) -> Iterator[str]:
        yield from self._zero_entries()
        if not self.request.resource_profiles:
            yield "resource_profiles: empty"
        for path, part in self._envelopes():
            yield from self._attributes_inline(path, part)
        for path, profile in self._profiles():
            yield from self._profile(path, profile)
        yield from self._entries()
        yield from self._duplicates()
        for name, table in self.tables.items():
            yield from (
                f"{name}_table[{index}]: nothing refers to it"
                for index in range(len(table))
                if index not in self.seen[name]
            )

    def _envelopes(self) -> Iterator[tuple[str, Any]]:
        for index, resource in enumerate(self.request.resource_profiles):
            yield f"resource_profiles[{index}].resource", resource.resource
            for inner, scope in enumerate(resource.scope_profiles):
                yield f"resource_profiles[{index}].scope_profiles[{inner}].scope", scope.scope

    def _profiles(self) -> Iterator[tuple[str, Any]]:
        for index, resource in enumerate(self.request.resource_profiles):
            path = f"resource_profiles[{index}]"
            if not resource.scope_profiles:
                self.found.append(f"{path}: no scope_profiles")
            for inner, scope in enumerate(resource.scope_profiles):
                place = f"{path}.scope_profiles[{inner}]"
                if not scope.profiles:
                    self.found.append(f"{place}: no profiles")
                yield from ((f"{place}.profiles[{last}]", profile) for last, profile in enumerate(scope.profiles))

    def _zero_entries(self) -> Iterator[str]:
        for name, table in self.tables.items():
            if not table:
                yield f"{name}_table: empty, entry 0 is missing"
            elif name == "string":
                if table[0]:
                    yield "string_table[0]: not empty"
            elif table[0].ByteSize() and not (name == "attribute" and table[0] == type(table[0])(value={})):
                yield f"{name}_table[0]: not the zero value"

    def refer(self, table: str, index: int, path: str) -> Iterator[str]:
        """Note a reference; says where it leads nowhere."""
        if 0 <= index < len(self.tables[table]):
            self.seen[table].add(index)
        else:
            yield f"{path}: {index} is outside of {table}_table, which has {len(self.tables[table])} entries"

    def keys(self, indices: Iterable[int]) -> list[str]:
        """The keys of attributes; those that lead nowhere are left out."""
        attributes, strings = self.tables["attribute"], self.tables["string"]
        found = (attributes[index].key_strindex for index in indices if 0 <= index < len(attributes))
        return [strings[index] for index in found if 0 <= index < len(strings)]

    def _attribute_set(self, indices: Iterable[int], path: str) -> Iterator[str]:
        for index in indices:
            yield from self.refer("attribute", index, f"{path}.attribute_indices")
            if index == 0:
                yield f"{path}.attribute_indices: 0 is no attribute"
        yield from (
            f"{path}.attribute_indices: the key {key!r} comes {count} times"
            for key, count in Counter(self.keys(indices)).items()
            if count > 1
        )

    def _attributes_inline(self, path: str, part: Any) -> Iterator[str]:
        """Check attributes of a resource or scope, whose keys and strings may be references."""
        keys = []
        for index, attribute in enumerate(part.attributes):
            place = f"{path}.attributes[{index}]"
            if attribute.key and attribute.key_strindex:
                yield f"{place}: both key and key_strindex"
            if attribute.key_strindex:
                yield from self.refer("string", attribute.key_strindex, f"{place}.key_strindex")
            key = attribute.key or self._string(attribute.key_strindex)
            keys.append(key)
            if not key:
                yield f"{place}: no key"
            yield from self._value(attribute.value, place)
        yield from (f"{path}: the key {key!r} comes {n} times" for key, n in Counter(keys).items() if n > 1)

    def _string(self, index: int) -> str:
        strings: list[str] = self.tables["string"]
        return strings[index] if 0 <= index < len(strings) else ""

    def _value(self, value: Any, path: str) -> Iterator[str]:
        kind = value.WhichOneof("value")
        if kind == "string_value_strindex":
            yield from self.refer("string", value.string_value_strindex, path)
        elif kind == "array_value":
            for index, one in enumerate(value.array_value.values):
                yield from self._value(one, f"{path}[{index}]")
        elif kind == "kvlist_value":
            for one in value.kvlist_value.values:
                if one.key_strindex:
                    yield from self.refer("string", one.key_strindex, f"{path}.{one.key_strindex}")
                yield from self._value(one.value, f"{path}.{one.key}")

    def _profile(self, path: str, profile: Any) -> Iterator[str]:
        for name in ("sample_type", "period_type"):
            value_type = getattr(profile, name)
            yield from self.refer("string", value_type.type_strindex, f"{path}.{name}.type_strindex")
            yield from self.refer("string", value_type.unit_strindex, f"{path}.{name}.unit_strindex")
        yield from self._attribute_set(profile.attribute_indices, path)
        if profile.profile_id and (len(profile.profile_id) != _PROFILE_ID_BYTES or not any(profile.profile_id)):
            yield f"{path}.profile_id: not {_PROFILE_ID_BYTES} bytes, or all zero"
        if bool(profile.original_payload) != bool(profile.original_payload_format):
            yield f"{path}: original_payload and original_payload_format belong together"
        shapes = set()
        for index, sample in enumerate(profile.samples):
            yield from self._sample(f"{path}.samples[{index}]", sample, profile)
            shapes.add((bool(sample.values), bool(sample.timestamps_unix_nano)))
        if len(shapes) > 1:
            yield f"{path}: samples of different shapes"

    def _sample(self, path: str, sample: Any, profile: Any) -> Iterator[str]:
        yield from self.refer("stack", sample.stack_index, f"{path}.stack_index")
        yield from self.refer("link", sample.link_index, f"{path}.link_index")
        yield from self._attribute_set(sample.attribute_indices, path)
        values, times = len(sample.values), len(sample.timestamps_unix_nano)
        if not values and not times:
            yield f"{path}: neither values nor timestamps"
        if values and times and values != times:
            yield f"{path}: {values} values but {times} timestamps"
        if values > 1 and not times:
            yield f"{path}: {values} values without timestamps"
        start, end = profile.time_unix_nano, profile.time_unix_nano + profile.duration_nano
        yield from (
            f"{path}: the timestamp {time} is outside of [{start}, {end})"
            for time in sample.timestamps_unix_nano
            if not start <= time < end
        )

    def _entries(self) -> Iterator[str]:
        """Check entries and follow their references, in an order in which whoever refers comes first."""
        yield from self.found
        for name, check in (
            ("stack", self._stack),
            ("location", self._location),
            ("mapping", self._mapping),
            ("function", self._function),
            ("link", self._link),
            ("attribute", self._attribute),
        ):
            for index, entry in enumerate(self.tables[name]):
                before = (
                    {table: set(seen) for table, seen in self.seen.items()} if index not in self.seen[name] else None
                )
                yield from check(f"{name}_table[{index}]", entry) if index else ()
                if before is not None:  # what only an orphan refers to is one, too
                    self.seen = before

    def _stack(self, path: str, stack: Any) -> Iterator[str]:
        for index in stack.location_indices:
            yield from self.refer("location", index, f"{path}.location_indices")

    def _location(self, path: str, location: Any) -> Iterator[str]:
        yield from self.refer("mapping", location.mapping_index, f"{path}.mapping_index")
        yield from self._attribute_set(location.attribute_indices, path)
        for index, line in enumerate(location.lines):
            yield from self.refer("function", line.function_index, f"{path}.lines[{index}]")
            if line.line < 0 or line.column < 0:
                yield f"{path}.lines[{index}]: line {line.line}, column {line.column}: negative"

    def _mapping(self, path: str, mapping: Any) -> Iterator[str]:
        yield from self.refer("string", mapping.filename_strindex, f"{path}.filename_strindex")
        yield from self._attribute_set(mapping.attribute_indices, path)
        start, limit = mapping.memory_start, mapping.memory_limit
        if (start or limit) and start >= limit:
            yield f"{path}: memory_start {start:#x} is not below memory_limit {limit:#x}"

    def _function(self, path: str, function: Any) -> Iterator[str]:
        names = (function.name_strindex, function.system_name_strindex, function.filename_strindex)
        for name in names:
            yield from self.refer("string", name, path)
        if not any(names):
            yield f"{path}: no name, system name or file name"
        if function.start_line < 0:
            yield f"{path}: start_line {function.start_line} is negative"

    def _link(self, path: str, link: Any) -> Iterator[str]:
        if len(link.trace_id) != _TRACE_ID_BYTES or len(link.span_id) != _SPAN_ID_BYTES:
            yield f"{path}: ids of {len(link.trace_id)} and {len(link.span_id)} bytes"

    def _attribute(self, path: str, attribute: Any) -> Iterator[str]:
        yield from self.refer("string", attribute.key_strindex, f"{path}.key_strindex")
        yield from self.refer("string", attribute.unit_strindex, f"{path}.unit_strindex")
        if not attribute.key_strindex:
            yield f"{path}: no key"
        yield from self._value(attribute.value, f"{path}.value")

    def _duplicates(self) -> Iterator[str]:
        for name, table in self.tables.items():
            first: dict[Any, int] = {}
            for index, entry in enumerate(table):
                origin = first.setdefault(self._identity(name, entry), index)
                if origin != index:
                    yield f"{name}_table[{index}]: equals entry {origin}"

    @staticmethod
    def _identity(name: str, entry: Any) -> Any:
        """The value of an entry; the order of its attributes is none of it."""
        if name == "string":
            return entry
        if name in {"mapping", "location"}:
            ordered = type(entry).FromString(entry.SerializeToString())
            del ordered.attribute_indices[:]
            ordered.attribute_indices.extend(sorted(entry.attribute_indices))
            entry = ordered
        return entry.SerializeToString(deterministic=True)
