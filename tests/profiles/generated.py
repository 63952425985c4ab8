"""Profiles in pprof's format as no writer's habits would have them, and the encodings that any writer may choose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from translators.pb.profile_pb2 import Function, Label, Line, Location, Mapping, Profile, Sample, ValueType
from translators.wire import field, varint

if TYPE_CHECKING:
    from collections.abc import Callable

_INT64 = st.integers(-(2**63), 2**63 - 1)
_UINT64 = st.integers(0, 2**64 - 1)
_LINE = st.integers(0, 2**40)
_IDS = st.integers(1, 2**64 - 1)
_NAMES = ("bytes", "thread", "trace_id", "span_id", "span id", "cpu", "local root span id", "request", "")


@st.composite
def profiles(draw: Callable[[st.SearchStrategy[Any]], Any]) -> Profile:
    """Valid profiles: unique ids, every reference leads somewhere, as many values as types. All else is arbitrary."""
    strings = ["", *draw(st.lists(st.one_of(st.text(max_size=8), st.sampled_from(_NAMES)), max_size=12))]
    if draw(st.integers(0, 20)) == 0:
        strings.append("huge" * 50_000)
    string = st.integers(0, len(strings) - 1)
    mappings = [draw(_mapping(key, string)) for key in draw(_unique_ids)]
    functions = [
        Function(id=key, name=draw(string), system_name=draw(string), filename=draw(string), start_line=draw(_LINE))
        for key in draw(_unique_ids)
    ]
    locations = [
        Location(
            id=key,
            mapping_id=draw(_one_of_ids(mappings)),
            address=draw(_UINT64),
            line=draw(st.lists(_line(_one_of_ids(functions)), max_size=3)),
            is_folded=draw(st.booleans()),
        )
        for key in draw(_unique_ids)
    ]
    types = [ValueType(type=draw(string), unit=draw(string)) for _ in range(draw(st.integers(1, 4)))]
    samples = st.builds(
        Sample,
        location_id=st.lists(st.sampled_from([each.id for each in locations]), max_size=6)
        if locations
        else st.just([]),
        value=st.lists(_INT64, min_size=len(types), max_size=len(types)),
        label=st.lists(_label(string, len(strings)), max_size=4),
    )
    return Profile(
        sample_type=types,
        sample=draw(st.lists(samples, max_size=8)),
        mapping=mappings,
        location=locations,
        function=functions,
        string_table=strings,
        drop_frames=draw(string),
        keep_frames=draw(string),
        time_nanos=draw(st.integers(10**18, 2**62)),
        duration_nanos=draw(st.integers(0, 2**40)),
        period_type=ValueType(type=draw(string), unit=draw(string)),
        period=draw(_INT64),
        comment=draw(st.lists(st.integers(1, len(strings) - 1), max_size=3)) if len(strings) > 1 else [],
        default_sample_type=draw(st.sampled_from([each.type for each in types])),
        doc_url=draw(string),
    )


_unique_ids = st.lists(_IDS, max_size=5, unique=True)


def _one_of_ids(entries: list[Any]) -> st.SearchStrategy[int]:
    return st.sampled_from([0, *(each.id for each in entries)])


def _line(function_id: st.SearchStrategy[int]) -> st.SearchStrategy[Line]:
    return st.builds(Line, function_id=function_id, line=_LINE, column=_LINE)


@st.composite
def _mapping(draw: Callable[[st.SearchStrategy[Any]], Any], key: int, string: st.SearchStrategy[int]) -> Mapping:
    start = draw(st.integers(0, 2**63))
    flags = ("has_functions", "has_filenames", "has_line_numbers", "has_inline_frames")
    return Mapping(
        id=key,
        memory_start=start,
        memory_limit=start + draw(st.integers(1, 2**32)) if start else 0,
        file_offset=draw(_UINT64),
        filename=draw(string),
        build_id=draw(string),
        **{flag: draw(st.booleans()) for flag in flags},
    )


@st.composite
def _label(draw: Callable[[st.SearchStrategy[Any]], Any], string: st.SearchStrategy[int], strings: int) -> Label:
    key = draw(st.integers(min(1, strings - 1), strings - 1))
    if draw(st.booleans()):
        return Label(key=key, str=draw(string))
    return Label(key=key, num=draw(_INT64), num_unit=draw(string))


def unpacked(profile: Profile) -> bytes:
    """Encode a profile as writers do that do not pack repeated integers, the fields in another order, nothing left out."""
    samples = [
        b"".join(field(3, label.SerializeToString()) for label in sample.label)
        + b"".join(_number(1, location) + b"" for location in sample.location_id)
        + b"".join(_number(2, value) for value in sample.value)
        for sample in profile.sample
    ]
    rest = Profile.FromString(profile.SerializeToString())
    del rest.sample[:]
    del rest.comment[:]
    return (
        b"".join(field(2, sample) for sample in samples)
        + b"".join(_number(13, comment) for comment in profile.comment)
        + rest.SerializeToString()
    )


def _number(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value & (1 << 64) - 1)
