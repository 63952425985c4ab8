"""What is in an OTLP profiles request, and what is wrong with it.

Rules: ``opentelemetry/proto/profiles/v1development/profiles.proto`` (1.10), comments of ``ProfilesDictionary`` and below.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import ExportProfilesServiceRequest

from receiver.inspection.summary import Mapping, Series, Stack, Summary
from receiver.inspection.text import amount, moment

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_LENGTH_BYTES: Final = 4
_BUILD_ID: Final = "process.executable.build_id."
_TABLES: Final = (
    "mapping_table",
    "location_table",
    "function_table",
    "link_table",
    "string_table",
    "attribute_table",
    "stack_table",
)


def requests(data: bytes) -> list[ExportProfilesServiceRequest] | None:
    """Parse a request, or several of them behind their lengths as the Collector's file exporter writes; None: neither."""
    alone = _parsed(data)
    if alone is not None:
        return [alone]
    found: list[ExportProfilesServiceRequest] = []
    position = 0
    while position < len(data):
        begin = position + _LENGTH_BYTES
        position = begin + int.from_bytes(data[position:begin], "big")
        request = _parsed(data[begin:position]) if position <= len(data) else None
        if request is None:
            return None
        found.append(request)
    return found or None


def _parsed(data: bytes) -> ExportProfilesServiceRequest | None:
    try:
        request = ExportProfilesServiceRequest.FromString(data)
    except DecodeError:
        return None
    return request if request.resource_profiles else None


def summarise(found: Sequence[ExportProfilesServiceRequest]) -> Summary:
    """Summarise requests of one file together."""
    summary = Summary("OTLP profiles")
    old = dangling = nameless = valueless = 0
    mappings: dict[tuple[str, str], Mapping] = {}
    series: dict[tuple[str, str], Series] = {}
    resources: Counter[str] = Counter()
    times: list[int] = []
    profiles = 0
    missing: Counter[str] = Counter()
    for request in found:
        one = _Request(request, summary, series, mappings)
        for outer in request.resource_profiles:
            count = sum(len(scope.profiles) for scope in outer.scope_profiles)
            resources[one.attributes_text(outer.resource.attributes) or "(no attributes)"] += count
            profiles += count
        one.read(times)
        old, dangling = old + one.old, dangling + one.dangling
        nameless, valueless = nameless + one.nameless, valueless + one.valueless
        missing.update(one.missing_zeros())
    summary.series = list(series.values())
    if summary.series:
        summary.series[0].is_default = True  # a viewer SHOULD begin with the first profile
    if times:
        summary.facts.append(
            ("taken", moment(min(times)) + (f" to {moment(max(times))}" if max(times) > min(times) else ""))
        )
    summary.facts.append(("requests", f"{len(found):,}, {profiles:,} profiles"))
    summary.facts += [("resource", f"{text} ({count:,} profiles)") for text, count in sorted(resources.items())]
    summary.mappings = list(mappings.values())
    remedy = "they would be read wrongly: update the sender"
    summary.problem(old, "samples in the layout of OTLP 1.9 or before", remedy)
    summary.problem(dangling, "indices that lead nowhere")
    for table in _TABLES:
        summary.problem(missing[table], f"{table}s whose first entry is not the zero value")
    summary.problem(valueless, "samples with neither values nor timestamps")
    summary.add_common_problems(nameless)
    return summary


class _Request:
    def __init__(
        self,
        request: ExportProfilesServiceRequest,
        summary: Summary,
        series: dict[tuple[str, str], Series],
        mappings: dict[tuple[str, str], Mapping],
    ) -> None:
        self._request = request
        self._tables = request.dictionary
        self._summary = summary
        self._series = series
        self.old = self.dangling = self.nameless = self.valueless = 0
        self._mappings = [self._mapping(each, mappings) for each in self._tables.mapping_table]
        self._frames = [self._location(each) for each in self._tables.location_table]
        self._stacks = [self._stack(each) for each in self._tables.stack_table]

    def missing_zeros(self) -> list[str]:
        """Name the tables whose first entry is not the zero value."""
        names = []
        for name in _TABLES:
            table = getattr(self._tables, name)
            zero = not table[0] if len(table) and name == "string_table" else len(table) and not table[0].ByteSize()
            if not zero:
                names.append(name)
        return names

    def read(self, times: list[int]) -> None:
        """Add the profiles to the summary, and when they were taken."""
        for outer in self._request.resource_profiles:
            for scope in outer.scope_profiles:
                for profile in scope.profiles:
                    times += [profile.time_unix_nano] if profile.time_unix_nano else []
                    self._profile(profile)

    def _profile(self, profile: Any) -> None:
        kind, unit = (self._text(getattr(profile.sample_type, f"{each}_strindex")) for each in ("type", "unit"))
        series = self._series.setdefault((kind, unit), Series(kind, unit))
        if profile.period and not any(name == "period" for name, _ in self._summary.facts):
            period = profile.period_type
            text = f"{amount(profile.period, self._text(period.unit_strindex))} of {self._text(period.type_strindex)}"
            self._summary.facts.append(("period", text))
        for sample in profile.samples:
            # Until 1.9 field 3 was a list and field 4 a number; for what they are now those are unknown fields.
            if len(UnknownFieldSet(sample)):
                self.old += 1
                continue
            self.valueless += not sample.values and not sample.timestamps_unix_nano
            value = sum(sample.values) if sample.values else len(sample.timestamps_unix_nano)
            series.values.append((self._at(self._stacks, sample.stack_index, ()), value))
            for index in sample.attribute_indices:
                attribute = self._at(self._tables.attribute_table, index, None)
                if attribute is not None:
                    text = self._value(attribute.value)
                    self._summary.labelled(self._text(attribute.key_strindex), text + self._unit(attribute))

    def _unit(self, attribute: Any) -> str:
        return f" {self._text(attribute.unit_strindex)}" if attribute.unit_strindex else ""

    def attributes_text(self, attributes: Iterable[Any]) -> str:
        """Attributes that stand in place, or refer to the string table."""
        pairs = [(each.key or self._text(each.key_strindex), self._value(each.value)) for each in attributes]
        return ", ".join(f"{key}={value}" for key, value in pairs)

    def _value(self, value: Any) -> str:
        kind = value.WhichOneof("value")
        if kind is None:
            return ""
        if kind == "string_value_strindex":
            return self._text(value.string_value_strindex)
        if kind == "array_value":
            return f"[{', '.join(self._value(each) for each in value.array_value.values)}]"
        return str(getattr(value, kind)).strip()

    def _text(self, index: int) -> str:
        return str(self._at(self._tables.string_table, index, ""))

    def _at(self, table: Any, index: int, otherwise: Any) -> Any:
        if 0 <= index < len(table):
            return table[index]
        self.dangling += 1
        return otherwise

    def _mapping(self, mapping: Any, mappings: dict[tuple[str, str], Mapping]) -> Mapping | None:
        if not mapping.ByteSize():
            return None
        found = ""
        for index in mapping.attribute_indices:
            attribute = self._at(self._tables.attribute_table, index, None)
            key = self._text(attribute.key_strindex) if attribute is not None else ""
            if key.startswith(_BUILD_ID) and not found:
                found = f"{key.removeprefix(_BUILD_ID)} {self._value(attribute.value)}"
        file = self._text(mapping.filename_strindex)
        return mappings.setdefault((file, found), Mapping(file, found))

    def _location(self, location: Any) -> Stack:
        mapping = self._at(self._mappings, location.mapping_index, None) if self._mappings else None
        if mapping is not None:
            mapping.locations += 1
        names = []
        for line in location.lines:
            function = self._at(self._tables.function_table, line.function_index, None)
            indices = (function.name_strindex, function.system_name_strindex) if function is not None else ()
            names.append(next((self._text(index) for index in indices if index), ""))
        missing = sum(not name for name in names) or (not names and bool(location.ByteSize()))
        self.nameless += missing
        where = f"{posixpath.basename(mapping.file)} 0x{location.address:x}" if mapping is not None else "(no name)"
        return tuple(name or where for name in names) or (where,)

    def _stack(self, stack: Any) -> Stack:
        return tuple(name for index in stack.location_indices for name in self._at(self._frames, index, ()))
