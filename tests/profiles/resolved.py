"""What an OTLP profiles request says, without the positions that say it: two requests with equal content say the same.

Attributes of resources and scopes may be written inline or as references; here they are the same.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import ExportProfilesServiceRequest


def samples(data: bytes) -> Counter[Any]:
    """How often each sample comes, with its stack, attributes, resource, scope and the fields of its Profile."""
    request = ExportProfilesServiceRequest.FromString(data)
    resolved = _Resolved(request.dictionary)
    found: Counter[Any] = Counter()
    for resource in request.resource_profiles:
        about_resource = (resolved.inline(resource.resource.attributes), resource.schema_url)
        for scope in resource.scope_profiles:
            about_scope = (
                scope.scope.name,
                scope.scope.version,
                resolved.inline(scope.scope.attributes),
                scope.schema_url,
            )
            for profile in scope.profiles:
                where = (*about_resource, *about_scope, *resolved.profile(profile))
                found.update((where, *resolved.sample(sample)) for sample in profile.samples)
    return found


def profile_ids(data: bytes) -> list[bytes]:
    """The ids of all Profiles, and of those without one b""."""
    request = ExportProfilesServiceRequest.FromString(data)
    return [
        profile.profile_id
        for resource in request.resource_profiles
        for scope in resource.scope_profiles
        for profile in scope.profiles
    ]


class _Resolved:
    def __init__(self, dictionary: Any) -> None:
        self._dictionary = dictionary
        self._strings = dictionary.string_table
        self._locations = list(map(self._location, dictionary.location_table))

    def inline(self, attributes: Any) -> Any:
        return frozenset((each.key or self._strings[each.key_strindex], self._value(each.value)) for each in attributes)

    def profile(self, profile: Any) -> Any:
        return (
            self._type(profile.sample_type),
            self._type(profile.period_type),
            profile.period,
            profile.time_unix_nano,
            profile.duration_nano,
            self._attributes(profile.attribute_indices),
        )

    def sample(self, sample: Any) -> Any:
        link = self._dictionary.link_table[sample.link_index]
        return (
            tuple(
                self._locations[index] for index in self._dictionary.stack_table[sample.stack_index].location_indices
            ),
            self._attributes(sample.attribute_indices),
            (link.trace_id, link.span_id),
            tuple(sample.values),
            tuple(sample.timestamps_unix_nano),
        )

    def _type(self, value_type: Any) -> Any:
        return self._strings[value_type.type_strindex], self._strings[value_type.unit_strindex]

    def _attributes(self, indices: Any) -> Any:
        found = (self._dictionary.attribute_table[index] for index in indices)
        return frozenset(
            (self._strings[each.key_strindex], self._value(each.value), self._strings[each.unit_strindex])
            for each in found
        )

    def _value(self, value: Any) -> Any:
        kind = value.WhichOneof("value")
        if kind == "array_value":
            return tuple(map(self._value, value.array_value.values))
        if kind == "kvlist_value":
            return self.inline(value.kvlist_value.values)
        if kind == "string_value_strindex":
            return self._strings[value.string_value_strindex]
        return getattr(value, kind) if kind else None

    def _location(self, location: Any) -> Any:
        mapping = self._dictionary.mapping_table[location.mapping_index]
        return (
            location.address,
            mapping.memory_start,
            mapping.memory_limit,
            mapping.file_offset,
            self._strings[mapping.filename_strindex],
            self._attributes(mapping.attribute_indices),
            self._attributes(location.attribute_indices),
            tuple((self._function(line.function_index), line.line, line.column) for line in location.lines),
        )

    def _function(self, index: int) -> Any:
        function = self._dictionary.function_table[index]
        names = (function.name_strindex, function.system_name_strindex, function.filename_strindex)
        return (*(self._strings[name] for name in names), function.start_line)
