"""OTLP profiles back to the rows that they came from, to compare: test only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import ExportProfilesServiceRequest
from peers.parca_agent import Frame, Kind, Line, Row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_LABELS = {"cpu.logical_number": "cpu", "thread.id": "thread_id", "thread.name": "thread_name"}
_RESOURCE_LABELS = {"host.name": "node", "k8s.pod.name": "pod", "service.name": "job"}


def rows(data: bytes) -> list[Row]:
    """Read the samples of a request as the rows of a batch."""
    return list(_Reader(ExportProfilesServiceRequest.FromString(data)).rows())


class _Reader:
    def __init__(self, request: Any) -> None:
        self._request = request
        self._dictionary = request.dictionary
        self._strings = request.dictionary.string_table

    def rows(self) -> Iterator[Row]:
        for resource in self._request.resource_profiles:
            labels = {
                _RESOURCE_LABELS.get(each.key, each.key): each.value.string_value
                for each in resource.resource.attributes
            }
            for scope in resource.scope_profiles:
                for profile in scope.profiles:
                    about = self._attributes(profile.attribute_indices)
                    kind = self._kind(scope.scope.name, profile, about)
                    prefixed = {
                        name.removeprefix("pprof.label."): value
                        for name, value in about.items()
                        if name.startswith("pprof.label.")
                    }
                    for sample in profile.samples:
                        yield self._row(sample, profile, {**labels, **prefixed}, kind)

    def _row(self, sample: Any, profile: Any, labels: dict[str, str], kind: Kind) -> Row:
        own = {
            _LABELS.get(name, name): str(value) for name, value in self._attributes(sample.attribute_indices).items()
        }
        if sample.link_index:
            link = self._dictionary.link_table[sample.link_index]
            own |= {"trace_id": link.trace_id.hex(), "span_id": link.span_id.hex()}
        (value,) = sample.values
        if kind.temporality is None and not kind.duration_ns:
            assert not sample.timestamps_unix_nano
            assert not profile.duration_nano
            time_ns = profile.time_unix_nano
        else:
            (time_ns,) = sample.timestamps_unix_nano
            assert profile.time_unix_nano <= time_ns < profile.time_unix_nano + profile.duration_nano
        stack = tuple(self._frame(index) for index in self._stack(sample.stack_index))
        return Row(tuple(sorted({**labels, **own}.items())), stack, value, time_ns, kind)

    def _kind(self, producer: str, profile: Any, about: dict[str, Any]) -> Kind:
        text = self._strings
        return Kind(
            producer,
            text[profile.sample_type.type_strindex],
            text[profile.sample_type.unit_strindex],
            text[profile.period_type.type_strindex],
            text[profile.period_type.unit_strindex],
            about.get("parca.temporality"),
            profile.period,
            about.get("parca.duration", 0),
        )

    def _stack(self, index: int) -> Iterable[int]:
        indices: Iterable[int] = self._dictionary.stack_table[index].location_indices
        return indices

    def _frame(self, index: int) -> Frame:
        location = self._dictionary.location_table[index]
        mapping = self._dictionary.mapping_table[location.mapping_index]
        ids = self._attributes(mapping.attribute_indices)
        build_id = ids.get("pprof.mapping.build_id") or next(iter(ids.values()), None)
        return Frame(
            location.address,
            self._attributes(location.attribute_indices).get("profile.frame.type"),
            self._strings[mapping.filename_strindex] or None,
            build_id,
            tuple(self._line(line) for line in location.lines),
        )

    def _line(self, line: Any) -> Line:
        function = self._dictionary.function_table[line.function_index]
        text = self._strings
        assert not function.system_name_strindex or function.system_name_strindex == function.name_strindex
        return Line(
            text[function.name_strindex],
            text[function.filename_strindex] or None,
            line.line,
            line.column,
            function.start_line,
        )

    def _attributes(self, indices: Iterable[int]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for index in indices:
            each = self._dictionary.attribute_table[index]
            key = self._strings[each.key_strindex]
            assert key not in found
            found[key] = getattr(each.value, each.value.WhichOneof("value"))
        return found
