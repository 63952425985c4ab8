"""What is no profile, or a broken one, is refused with the reason; what is good beside it is kept."""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING, Any

import pytest
import zstandard
from profiles.conformance import problems
from profiles.reverse import pprofs

from translators.batch import Origin, Translation
from translators.pb.profile_pb2 import Function, Label, Line, Location, Mapping, Profile, Sample, ValueType
from translators.pb.profilestore_pb2 import WriteRawRequest
from translators.pb.push_pb2 import PushRequest
from translators.pprof import Options, Translator
from translators.profiles.labels import START_NS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOW_NS = 1_763_856_000_000_000_000


def small(**changes: Any) -> Profile:
    """The smallest profile that has everything; ``changes`` replace fields."""
    profile = Profile(
        sample_type=[ValueType(type=1, unit=2)],
        sample=[Sample(location_id=[7], value=[5])],
        mapping=[Mapping(id=3, memory_start=4096, memory_limit=8192, filename=4)],
        location=[Location(id=7, mapping_id=3, address=5000, line=[Line(function_id=9, line=12)])],
        function=[Function(id=9, name=3)],
        string_table=["", "cpu", "nanoseconds", "main", "/bin/app"],
        time_nanos=NOW_NS,
    )
    for name, value in changes.items():
        if isinstance(value, list):
            profile.ClearField(name)
            getattr(profile, name).extend(value)
        else:
            setattr(profile, name, value)
    return profile


def translate(record: bytes, kind: str = "pprof", **options: Any) -> Translation:
    """Translate one record."""
    return Translator(Options(**options)).translate(kind, [record], Origin(), NOW_NS)


TWICE = small().SerializeToString() * 2
BAD: dict[str, tuple[bytes, str, str]] = {
    "nothing": (b"", "malformed", "empty"),
    "text": (b"heap profile:    144:  8498 [ 144: 8498] @ heapprofile\n", "unsupported", "legacy heap profile"),
    "JFR": (b"FLR\0\0\x02\0\0", "unsupported", "Java Flight Recorder"),
    "goroutines as text": (b"goroutine profile: total 7\n", "unsupported", "debug=0"),
    "a trace": (b"go 1.22 trace\0\0\0", "unsupported", "trace of Go"),
    "JSON": (b'{"a": 1}', "unsupported", "JSON"),
    "folded stacks": (b"main;work 12\nmain 3\n", "malformed", "accepted is pprof"),
    "no protobuf": (b"\x0a\xff\xff\xff\xff\x0f", "malformed", "no profile.proto"),
    "another protobuf": (b"\x82\x01\x02hi", "malformed", "no sample_type"),
    "gzip cut off": (gzip.compress(small().SerializeToString())[:-9], "malformed", "cut off"),
    "gzip damaged": (b"\x1f\x8b\x08\x00" + b"\xff" * 40, "malformed", "gzip"),
    "zstd cut off": (zstandard.compress(small().SerializeToString())[:-3], "malformed", "zstd"),
    "two in one": (TWICE, "malformed", "one after the other"),
    "two in one without a time": (small(time_nanos=0).SerializeToString() * 2, "malformed", "one after the other"),
    "string 0": (
        small(string_table=["x", "cpu", "nanoseconds", "main", "a"]).SerializeToString(),
        "malformed",
        "string 0",
    ),
    "no strings": (small(string_table=[]).SerializeToString(), "malformed", "string"),
    "a string that is not there": (small(comment=[77]).SerializeToString(), "malformed", "string 77"),
    "a negative string": (small(doc_url=-1).SerializeToString(), "malformed", "string -1"),
    "a location that is not there": (
        small(sample=[Sample(location_id=[8], value=[1])]).SerializeToString(),
        "malformed",
        "location 8",
    ),
    "location 0": (small(sample=[Sample(location_id=[0], value=[1])]).SerializeToString(), "malformed", "location 0"),
    "a location with id 0": (small(location=[Location()]).SerializeToString(), "malformed", "id 0"),
    "a location twice": (small(location=[Location(id=7)] * 2).SerializeToString(), "malformed", "same id"),
    "a function that is not there": (small(function=[]).SerializeToString(), "malformed", "function 9"),
    "a function twice": (small(function=[Function(id=9)] * 2).SerializeToString(), "malformed", "two functions"),
    "a mapping that is not there": (small(mapping=[]).SerializeToString(), "malformed", "mapping 3"),
    "a mapping with id 0": (small(mapping=[Mapping()]).SerializeToString(), "malformed", "id 0"),
    "a value too few": (
        small(sample=[Sample(location_id=[7])]).SerializeToString(),
        "malformed",
        "sample 0 has 0 values",
    ),
    "very many values too many": (
        small(sample=[Sample(location_id=[7], value=[1] * 300)]).SerializeToString(),
        "malformed",
        "sample 0 has 300 values",
    ),
    "very many labels": (
        small(sample=[Sample(location_id=[7], value=[1], label=[Label(key=1)] * 1001)]).SerializeToString(),
        "too_large",
        "1001 labels",
    ),
    "very many lines": (
        small(location=[Location(id=7, line=[Line()] * 10_001)]).SerializeToString(),
        "too_large",
        "10000 lines",
    ),
    "too many types": (small(sample_type=[ValueType(type=1)] * 101, sample=[]).SerializeToString(), "too_large", "101"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_bodies_are_refused_with_the_reason(case: str) -> None:
    """The reason is a counter's label, the message names what is wrong; nothing becomes a batch."""
    record, reason, words = BAD[case]
    translation = translate(record)
    assert translation.batches == ()
    (rejection,) = translation.rejected
    assert rejection.reason == reason
    assert words in rejection.message


@pytest.mark.parametrize("name", ["profile__cppbench.heap", "profile__gobench.cpu"])
def test_legacy_files_are_refused(shared_data: Callable[..., Path], name: str) -> None:
    """What pprof's tools still read and is no profile.proto: the message says what is accepted."""
    (rejection,) = translate(shared_data("profiles", "legacy", name).read_bytes()).rejected
    assert rejection.reason == "unsupported"
    assert "profile.proto" in rejection.message


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
def test_a_bomb_costs_no_more_than_it_may(compress: Callable[[bytes], bytes]) -> None:
    """What decompresses to more than the limit is refused at the limit."""
    (rejection,) = translate(compress(bytes(50 << 20)), max_bytes=1 << 20).rejected
    assert rejection.reason == "too_large"


def test_a_body_of_very_many_tiny_parts_is_refused_before_it_is_parsed() -> None:
    """Each of them costs many times its two bytes once it is a message."""
    record = small().SerializeToString() + b"\x12\x00" * (1 << 20)
    (rejection,) = translate(record).rejected
    assert (rejection.reason, "more than" in rejection.message) == ("too_large", True)


@pytest.mark.parametrize(
    "compress",
    [bytes, gzip.compress, zstandard.compress, lambda raw: gzip.compress(raw[:20]) + gzip.compress(raw[20:])],
    ids=["raw", "gzip", "zstd", "gzip of two members"],
)
def test_every_compression_is_the_same_profile(compress: Callable[[bytes], bytes]) -> None:
    """So is its id, which is derived from the content: what is sent again is known again."""
    raw = small().SerializeToString()
    assert translate(compress(raw)).batches == translate(raw).batches


def push(*bodies: bytes) -> bytes:
    """A WriteRawRequest with a series for each body."""
    request = WriteRawRequest()
    for index, body in enumerate(bodies):
        series = request.series.add()
        series.labels.labels.add(name="job", value=f"job{index}")
        series.samples.add(raw_profile=body)
    return request.SerializeToString()


def test_good_neighbours_of_a_bad_profile_are_kept() -> None:
    """A push is one request with one dictionary; what is refused leaves nothing in it."""
    good = gzip.compress(small().SerializeToString())
    bad = small(function=[], string_table=["", "cpu", "nanoseconds", "orphan", "/bin/bad"]).SerializeToString()
    translation = translate(push(good, bad, zlib.compress(b"x"), good), "write_raw")
    assert [(each.index, each.message.partition(":")[0]) for each in translation.rejected] == [
        (0, "series 1, sample 0"),
        (0, "series 2, sample 0"),
    ]
    (batch,) = translation.batches
    assert problems(batch.data) == []
    assert b"/bin/bad" not in batch.data
    assert batch.items == 2
    assert [list(rebuilt.sample[0].value) for rebuilt in pprofs(batch.data)] == [[5], [5]]


def test_a_label_twice_is_refused() -> None:
    """Which of the two it would be is nothing to guess."""
    request = PushRequest()
    series = request.series.add()
    for value in "ab":
        series.labels.add(name="env", value=value)
    series.samples.add(raw_profile=small().SerializeToString())
    (rejection,) = translate(request.SerializeToString(), "pyroscope_push").rejected
    assert "'env'" in rejection.message


def test_a_request_that_cannot_be_read_is_refused() -> None:
    """As one record."""
    (rejection,) = translate(b"\x12\x05x", "write_raw").rejected
    assert rejection.reason == "malformed"


def test_the_source_says_when_a_profile_started_that_does_not_say_it() -> None:
    """0 and 1970 are no times; what was given stays as an attribute. Without a source's word it is the time of arrival."""
    for given in (0, 5_000):
        raw = small(time_nanos=given).SerializeToString()
        for labels, start_ns in (({START_NS: "1700000000000000000"}, 1_700_000_000_000_000_000), ({}, NOW_NS)):
            (batch,) = Translator(Options()).translate("pprof", [raw], Origin(labels=labels), NOW_NS).batches
            assert batch.parts[0].newest_event_ns == start_ns
            (rebuilt,) = pprofs(batch.data)
            assert rebuilt.time_nanos == given


def test_strings_that_are_no_utf8_stay_readable() -> None:
    """OTLP's strings are UTF-8; what is none is escaped, so that two of them stay two, and counted."""
    raw = small().SerializeToString().replace(b"main", b"m\xff\xfen")
    translation = translate(raw)
    assert rb"m\xff\xfen" in translation.batches[0].data
    assert translation.counts["invalid_strings"] == 1
