"""What is in a pprof profile, and what is wrong with it."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from receiver.errors import RecordingError
from receiver.inspection.summary import Mapping, Series, Stack, Summary
from receiver.inspection.text import amount, moment
from translators.pb import profile_lazy_pb2, profile_pb2
from translators.profiles import build_id

if TYPE_CHECKING:
    from collections.abc import Sequence

_YEAR_NS: Final = 365 * 86_400 * 10**9


def is_one(data: bytes) -> bool:
    """Whether bytes are a pprof profile: of what is read here only that has a string table in field 6."""
    try:
        return bool(profile_lazy_pb2.Header.FromString(data).string_table)
    except DecodeError:
        return False


def summarise(data: bytes) -> Summary:
    """Summarise a profile that :func:`is_one`.

    Raises:
        RecordingError: Its samples or locations are damaged.
    """
    try:
        bulk = profile_lazy_pb2.Bulk.FromString(data)
    except DecodeError as error:
        raise RecordingError(f"the pprof profile is damaged: {error}") from None
    return _Profile(profile_lazy_pb2.Header.FromString(data), bulk).summary


class _Profile:
    def __init__(self, header: profile_lazy_pb2.Header, bulk: profile_lazy_pb2.Bulk) -> None:
        self.summary = Summary("pprof")
        self._header = header
        self._bulk = bulk
        self._strings = [text.decode(errors="replace") for text in self._header.string_table]
        self._outside = 0
        self._nameless = 0
        self._unknown_locations = 0
        self._functions = {each.id: each for each in self._header.function}
        self._mappings = {each.id: self._mapping(each) for each in self._header.mapping}
        self._ranges = {each.id: each for each in self._header.mapping}
        self._locations = {each.id: self._frames(each) for each in self._bulk.location}
        self.summary.mappings = list(self._mappings.values())
        self._add_facts()
        self._add_samples()
        self._add_problems()

    def _text(self, index: int) -> str:
        if 0 <= index < len(self._strings):
            return self._strings[index] if index else ""  # 0 means none, even where the first string is wrong
        self._outside += 1
        return ""

    def _mapping(self, mapping: profile_pb2.Mapping) -> Mapping:
        given = self._text(mapping.build_id)
        kinds = build_id.classify(given)
        key = next((key for key in (build_id.GNU, build_id.GO) if key in kinds), "")
        return Mapping(self._text(mapping.filename), f"{key.rpartition('.')[2]} {kinds[key]}" if key else given)

    def _frames(self, location: profile_pb2.Location) -> Stack:
        if (mapping := self._mappings.get(location.mapping_id)) is not None:
            mapping.locations += 1
        names: list[str] = []
        for line in location.line:
            function = self._functions.get(line.function_id)
            name = (self._text(function.name) or self._text(function.system_name)) if function is not None else ""
            names.append(name or self._placeholder(location))
            self._nameless += not name
        if not names:
            self._nameless += 1
            names = [self._placeholder(location)]
        return tuple(names)

    def _placeholder(self, location: profile_pb2.Location) -> str:
        mapping = self._ranges.get(location.mapping_id)
        if mapping is None:
            return f"0x{location.address:x}"
        offset = location.address - mapping.memory_start + mapping.file_offset
        base = posixpath.basename(self._text(mapping.filename))
        return f"{base}+0x{offset:x}" if base and offset >= 0 else f"0x{location.address:x}"

    def _add_facts(self) -> None:
        header, facts = self._header, self.summary.facts
        started = header.time_nanos[-1] if header.time_nanos else 0
        duration = header.duration_nanos[-1] if header.duration_nanos else 0
        facts.append(("taken", moment(started) or "the profile does not say when"))
        facts.append(("duration", amount(duration, "nanoseconds") if duration else "none: a snapshot, or not said"))
        if header.period:
            period_type = header.period_type[-1] if header.period_type else profile_pb2.ValueType()
            kind, unit = self._text(period_type.type), self._text(period_type.unit)
            facts.append(("period", f"{amount(header.period[-1], unit)} of {kind or 'what is not said'}"))
        counts = f"{len(self._bulk.location):,} locations, {len(header.function):,} functions"
        facts.append(("samples", f"{len(self._bulk.sample):,}, {counts}, {len(header.mapping):,} mappings"))
        named = (("drop frames", header.drop_frames), ("keep frames", header.keep_frames), ("more", header.doc_url))
        facts += [(name, self._text(index)) for name, index in named if index]
        facts += [("comment", self._text(index)) for index in header.comment]

    def _add_samples(self) -> None:
        default = self._text(self._header.default_sample_type) if self._header.default_sample_type else ""
        series = [Series(self._text(each.type), self._text(each.unit)) for each in self._header.sample_type]
        for each in series:
            each.is_default = bool(default) and each.type == default
        self.summary.series = series
        wrong = 0
        for sample in self._bulk.sample:
            stack = self._stack(sample.location_id)
            wrong += len(sample.value) != len(series)
            for each, value in zip(series, sample.value, strict=False):
                each.values.append((stack, value))
            for label in sample.label:
                unit = f" {self._text(label.num_unit)}" if label.num_unit else ""
                self.summary.labelled(
                    self._text(label.key), self._text(label.str) if label.str else f"{label.num}{unit}"
                )
        self.summary.problem(wrong, "samples with another number of values than there are sample types")

    def _stack(self, ids: Sequence[int]) -> Stack:
        names: list[str] = []
        for each in ids:
            frames = self._locations.get(each)
            if frames is None:
                self._unknown_locations += 1
                frames = ("(unknown location)",)
            names += frames
        return tuple(names)

    def _add_problems(self) -> None:
        header, problem = self._header, self.summary.problem
        if len(header.time_nanos) > 1 or len(header.period) > 1:
            self.summary.problems.append("several profiles stand one behind the other: push each alone")
        if not header.sample_type:
            self.summary.problems.append("there is no sample type")
        started = header.time_nanos[-1] if header.time_nanos else 0
        if started < _YEAR_NS:
            self.summary.problems.append("the time is missing; the time of arrival stands for it, or from= of a push")
        if header.string_table[0]:
            self.summary.problems.append("the first string is not empty")
        problem(self._outside, "references to strings that lead nowhere")
        problem(self._unknown_locations, "references to locations that lead nowhere")
        locations, functions = self._bulk.location, self._functions
        lost = sum(line.function_id not in functions for each in locations for line in each.line if line.function_id)
        problem(lost, "references to functions that lead nowhere")
        lost = sum(each.mapping_id not in self._mappings for each in locations if each.mapping_id)
        problem(lost, "references to mappings that lead nowhere")
        problem(len(locations) - len(self._locations), "locations with the id of another one")
        problem(len(header.function) - len(functions), "functions with the id of another one")
        problem(len(header.mapping) - len(self._mappings), "mappings with the id of another one")
        problem(sum(not each.mapping_id for each in locations), "locations without a mapping")
        problem(sum(map(_is_bad, header.string_table)), "strings that are not UTF-8")
        self.summary.add_common_problems(self._nameless)


def _is_bad(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return True
    return False
