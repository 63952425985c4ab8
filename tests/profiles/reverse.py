"""From OTLP profiles back to pprof: what shows that nothing was lost.

One ``ScopeProfiles`` is one pprof. Its Profiles are its sample types, in the order that the scope's attribute
``pprof.scope.sample_type_order`` gives, and sample ``i`` of each of them is sample ``i`` of the pprof. That is more than
OTLP promises about order, and no more than otelbee writes.
"""

from __future__ import annotations

from typing import Any

from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import ExportProfilesServiceRequest

from translators.pb.profile_pb2 import Function, Label, Line, Location, Mapping, Profile, Sample, ValueType

_FLAGS = ("has_functions", "has_filenames", "has_line_numbers", "has_inline_frames")
_OURS = frozenset({"profile.frame.type"})
"""Attributes that the translator adds to what the pprof says."""
_LABELS = {"thread.id": "thread_id", "thread.name": "thread_name", "cpu.logical_number": "cpu"}
"""Attribute to the label that the translator renamed."""


def pprofs(data: bytes) -> list[Profile]:
    """Rebuild every pprof of a request, in order."""
    request = ExportProfilesServiceRequest.FromString(data)
    return [
        _Rebuilt(request.dictionary, scope).profile
        for resource in request.resource_profiles
        for scope in resource.scope_profiles
    ]


class _Rebuilt:
    def __init__(self, dictionary: Any, scope: Any) -> None:
        self.dictionary = dictionary
        self.strings: dict[str | None, int] = {"": 0, None: 1}  # label.str 0 is no string, so "" stands there once more
        self.profile = Profile()
        self.nameless = len(dictionary.function_table)
        """pprof has functions without a name and asks every line for a function; in OTLP those lines have none."""
        about = {each.key: _plain(each.value) for each in scope.scope.attributes}
        order = about.get("pprof.scope.sample_type_order") or list(range(len(scope.profiles)))
        by_type = [profile for _, profile in sorted(zip(order, scope.profiles, strict=True), key=lambda pair: pair[0])]
        self._header(by_type[0], about)
        self.profile.sample_type.extend(self._type(profile.sample_type) for profile in by_type)
        for samples in zip(*(profile.samples for profile in by_type), strict=True):
            assert len({(each.stack_index, tuple(each.attribute_indices), each.link_index) for each in samples}) == 1
            assert all(len(each.values) == 1 for each in samples)
            self.profile.sample.append(
                Sample(
                    location_id=dictionary.stack_table[samples[0].stack_index].location_indices,
                    value=[each.values[0] for each in samples],
                    label=self._labels(samples[0].attribute_indices) + self._link(samples[0].link_index),
                )
            )
        self.profile.mapping.extend(
            self._mapping(key, each) for key, each in enumerate(dictionary.mapping_table) if key
        )
        self.profile.function.extend(
            Function(
                id=key,
                name=self._copy(each.name_strindex),
                system_name=self._copy(each.system_name_strindex),
                filename=self._copy(each.filename_strindex),
                start_line=each.start_line,
            )
            for key, each in enumerate(dictionary.function_table)
            if key
        )
        self.profile.function.add(id=self.nameless)
        self.profile.location.extend(
            self._location(key, each) for key, each in enumerate(dictionary.location_table) if key
        )
        self.profile.string_table.extend(text or "" for text in self.strings)

    def _header(self, first: Any, about: dict[str, Any]) -> None:
        attributes = self._attributes(first.attribute_indices)
        profile = self.profile
        profile.time_nanos = attributes.get("pprof.profile.time_nanos", first.time_unix_nano)
        profile.duration_nanos = attributes.get("pprof.profile.duration_nanos", first.duration_nano)
        profile.period = first.period
        profile.period_type.CopyFrom(self._type(first.period_type))
        profile.drop_frames = self._string(attributes.get("pprof.profile.drop_frames", ""))
        profile.keep_frames = self._string(attributes.get("pprof.profile.keep_frames", ""))
        profile.doc_url = self._string(attributes.get("pprof.profile.doc_url", ""))
        profile.comment.extend(self._string(each) for each in attributes.get("pprof.profile.comment", ()))
        profile.default_sample_type = self._string(about.get("pprof.scope.default_sample_type", ""))

    def _type(self, value_type: Any) -> ValueType:
        return ValueType(type=self._copy(value_type.type_strindex), unit=self._copy(value_type.unit_strindex))

    def _labels(self, indices: Any) -> list[Label]:
        labels = []
        for index in indices:
            attribute = self.dictionary.attribute_table[index]
            name, unit = self.dictionary.string_table[attribute.key_strindex], self._copy(attribute.unit_strindex)
            value = _plain(attribute.value)
            if name in _LABELS and not isinstance(value, list):
                name, value = _LABELS[name], str(value)
            key = 0 if name == "pprof.label." else self._string(name)
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, str):
                    labels.append(Label(key=key, str=self._string(one or None)))
                elif isinstance(one, dict):
                    labels.append(Label(key=key, num=one["value"], num_unit=self._string(one["unit"])))
                else:
                    labels.append(Label(key=key, num=one, num_unit=unit))
        return labels

    def _link(self, index: int) -> list[Label]:
        if not index:
            return []
        link = self.dictionary.link_table[index]
        ids = {"trace_id": link.trace_id.hex(), "span_id": link.span_id.hex()}
        return [Label(key=self._string(name), str=self._string(text)) for name, text in ids.items()]

    def _mapping(self, key: int, mapping: Any) -> Mapping:
        attributes = self._attributes(mapping.attribute_indices)
        build_id = next(
            (
                attributes[name]
                for name in (
                    "pprof.mapping.build_id",
                    "process.executable.build_id.gnu",
                    "process.executable.build_id.go",
                    "process.executable.build_id.htlhash",
                )
                if name in attributes
            ),
            "",
        )
        return Mapping(
            id=key,
            memory_start=int(attributes.get("pprof.mapping.memory_start", mapping.memory_start)),
            memory_limit=int(attributes.get("pprof.mapping.memory_limit", mapping.memory_limit)),
            file_offset=mapping.file_offset,
            filename=self._copy(mapping.filename_strindex),
            build_id=self._string(build_id),
            **{flag: attributes.get(f"pprof.mapping.{flag}", False) for flag in _FLAGS},
        )

    def _location(self, key: int, location: Any) -> Location:
        attributes = self._attributes(location.attribute_indices)
        assert attributes.keys() <= _OURS | {"pprof.location.is_folded"}
        return Location(
            id=key,
            mapping_id=location.mapping_index,
            address=location.address,
            line=[
                Line(function_id=each.function_index or self.nameless, line=each.line, column=each.column)
                for each in location.lines
            ],
            is_folded=attributes.get("pprof.location.is_folded", False),
        )

    def _attributes(self, indices: Any) -> dict[str, Any]:
        table, strings = self.dictionary.attribute_table, self.dictionary.string_table
        return {strings[table[index].key_strindex]: _plain(table[index].value) for index in indices}

    def _copy(self, strindex: int) -> int:
        return self._string(self.dictionary.string_table[strindex])

    def _string(self, text: str | None) -> int:
        return self.strings.setdefault(text, len(self.strings))


def _plain(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_plain(each) for each in value.array_value.values]
    if kind == "kvlist_value":
        return {each.key: _plain(each.value) for each in value.kvlist_value.values}
    return getattr(value, kind) if kind else None
