"""Counting, checking, cutting and writing what is already OTLP."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.wrappers_pb2 import BytesValue
from hypothesis import given
from hypothesis import strategies as st

from translators.batch import Batch, Part, Signal
from translators.otlp import REQUESTS, Malformed, count_items, parse, split, to_json, validate

VECTORS = Path(__file__).parent / "otlp"
"""Requests with every field that there is, and what the file exporter of a real Collector (v0.159.0) wrote of them."""

TEXT = st.text(max_size=30)
RESOURCES = st.lists(st.tuples(TEXT, st.lists(st.tuples(TEXT, st.lists(TEXT, max_size=6)), max_size=3)), max_size=4)
"""(name of a resource, [(name of a scope, [items])])"""


def vector(signal: Signal) -> bytes:
    """The request of a vector."""
    return (VECTORS / f"{signal}.pb").read_bytes()


def build(signal: Signal, resources: list[tuple[str, list[tuple[str, list[str]]]]]) -> Batch:
    """A batch whose items carry their text; metrics and profiles put the items of a scope into one metric or profile.

    Each item comes from a source of its own, named by its number.
    """
    message: Any = REQUESTS[signal]()
    count = 0
    for resource_name, scopes in resources:
        resource = getattr(message, f"resource_{plural(signal)}").add(schema_url="r")
        resource.resource.attributes.add(key="name").value.string_value = resource_name
        for scope_name, items in scopes:
            scope = getattr(resource, f"scope_{plural(signal)}").add(schema_url="s")
            scope.scope.name = scope_name
            fill(signal, message, scope, items)
            count += len(items)
    return Batch(
        signal, count, message.SerializeToString(), tuple(Part(str(index), 1, index) for index in range(count))
    )


def plural(signal: Signal) -> str:
    """What the signal's messages are called in field names."""
    return "spans" if signal is Signal.TRACES else signal.value


def fill(signal: Signal, message: Any, scope: Any, items: list[str]) -> None:
    """Put items into a scope."""
    if signal is Signal.LOGS:
        for item in items:
            scope.log_records.add().body.string_value = item
    elif signal is Signal.TRACES:
        for item in items:
            scope.spans.add(name=item)
    elif signal is Signal.METRICS:
        for kind in ("gauge", "sum", "histogram", "exponential_histogram", "summary"):
            scope.metrics.add(name="unset")
            points = getattr(scope.metrics.add(name=kind, unit="1"), kind).data_points
            for item in items[("gauge", "sum", "histogram", "exponential_histogram", "summary").index(kind) :: 5]:
                points.add().attributes.add(key=item)
    else:
        profile = scope.profiles.add(time_unix_nano=7, profile_id=bytes(15) + b"\x01", original_payload=b"pprof")
        for item in items:
            message.dictionary.string_table.append(item)
            profile.samples.add().attribute_indices.append(len(message.dictionary.string_table) - 1)


def contents(batch: Batch) -> Counter[tuple[str, ...]]:
    """Every item with its resource, scope and what else surrounds it, as a multiset."""
    found: Counter[tuple[str, ...]] = Counter()
    message = parse(batch.signal, batch.data)
    for resource in getattr(message, f"resource_{plural(batch.signal)}"):
        name = f"{resource.resource.attributes[0].value.string_value} {resource.schema_url}"
        for scope in getattr(resource, f"scope_{plural(batch.signal)}"):
            where = (name, f"{scope.scope.name} {scope.schema_url}")
            if batch.signal is Signal.LOGS:
                found.update((*where, record.body.string_value) for record in scope.log_records)
            elif batch.signal is Signal.TRACES:
                found.update((*where, span.name) for span in scope.spans)
            elif batch.signal is Signal.METRICS:
                for metric in scope.metrics:
                    points = getattr(metric, metric.WhichOneof("data") or "gauge").data_points
                    found.update((*where, metric.name, metric.unit, point.attributes[0].key) for point in points)
            else:
                strings = message.dictionary.string_table
                for profile, sample in ((p, s) for p in scope.profiles for s in p.samples):
                    found[(*where, str(profile.time_unix_nano), strings[sample.attribute_indices[0]])] += 1
    return found


@pytest.mark.parametrize("signal", Signal)
@given(RESOURCES)
def test_count_is_what_parsing_finds(signal: Signal, resources: Any) -> None:
    """The shallow count equals the number of items, and what is well-formed is valid."""
    batch = build(signal, resources)
    assert count_items(signal, batch.data) == batch.items == contents(batch).total()
    validate(signal, batch.data)


@pytest.mark.parametrize("signal", Signal)
@given(RESOURCES, st.integers(1, 400))
def test_split_keeps_every_item_where_it_is(signal: Signal, resources: Any, max_bytes: int) -> None:
    """The pieces together have every item once, under its own resource and scope; so have their counts and parts."""
    batch = build(signal, resources)
    pieces = split(batch, max_bytes)
    assert sum((contents(piece) for piece in pieces), Counter()) == contents(batch)
    for piece in pieces:
        assert piece.items == count_items(signal, piece.data) == sum(part.items for part in piece.parts)
    assert tuple(part for piece in pieces for part in piece.parts) == batch.parts


@given(RESOURCES, st.integers(200, 600))
def test_pieces_fit(resources: Any, max_bytes: int) -> None:
    """Pieces are within the limit where every item with its surroundings is far within it."""
    batch = build(Signal.LOGS, resources)
    assert all(len(piece.data) <= max_bytes or piece.items <= 1 for piece in split(batch, max_bytes))


def test_batch_that_fits_is_itself() -> None:
    """Nothing is copied when nothing has to be cut."""
    batch = build(Signal.LOGS, [("r", [("s", ["a", "b"])])])
    assert split(batch, len(batch.data)) == [batch]


def test_pieces_are_filled() -> None:
    """Cutting a large batch makes about as few pieces as there have to be."""
    batch = build(Signal.LOGS, [("r", [("s", [f"{index:050}" for index in range(1000)])])])
    assert len(split(batch, 10_000)) == -(-len(batch.data) // 9_900)


def test_single_large_item_stays_alone() -> None:
    """What cannot be cut goes into a piece of its own; its neighbours into others, in order."""
    pieces = split(build(Signal.LOGS, [("r", [("s", ["a", "x" * 500, "b"])])]), 200)
    assert [piece.items for piece in pieces] == [1, 1, 1]
    assert [len(piece.data) > 200 for piece in pieces] == [False, True, False]


def test_large_surroundings_are_not_multiplied() -> None:
    """A resource that leaves hardly room for items is not repeated for each of them."""
    batch = build(Signal.LOGS, [("r" * 950, [("s", [str(index) for index in range(100)])])])
    assert split(batch, 1000) == [batch]


def test_dictionary_of_profiles_is_in_every_piece() -> None:
    """Profiles refer to their dictionary by position, so that each piece has all of it."""
    message: Any = REQUESTS[Signal.PROFILES]()
    message.dictionary.string_table.extend(f"{index:040}" for index in range(20))
    samples = message.resource_profiles.add().scope_profiles.add().profiles.add().samples
    for index in range(500):
        samples.add().attribute_indices.append(index % 20)
    batch = Batch(Signal.PROFILES, 500, message.SerializeToString(), ())
    dictionary = message.dictionary
    pieces = split(batch, len(dictionary.SerializeToString()) + 500)
    assert len(pieces) > 1
    assert all(parse(piece.signal, piece.data).dictionary == dictionary for piece in pieces)


def test_identity_of_a_cut_profile_is_not_repeated() -> None:
    """Only the first piece keeps profile_id and the original payload: equal ids would look like duplicates."""
    batch = build(Signal.PROFILES, [("r", [("s", ["x"] * 300)])])
    profiles = [
        profile
        for piece in split(batch, 2000)
        for resource in parse(piece.signal, piece.data).resource_profiles
        for scope in resource.scope_profiles
        for profile in scope.profiles
    ]
    assert len(profiles) > 1
    assert [bool(profile.profile_id) for profile in profiles] == [True] + [False] * (len(profiles) - 1)
    assert [profile.original_payload for profile in profiles if profile.original_payload] == [b"pprof"]


def test_parts_of_several_items_are_cut() -> None:
    """A source's part that lies across two pieces is shared out, its newest event kept."""
    batch = build(Signal.LOGS, [("r", [("s", ["x" * 50] * 6)])])
    batch = batch._replace(parts=(Part("a", 4, 11), Part("b", 2, 22)))
    pieces = split(batch, 250)
    assert [piece.items for piece in pieces] == [3, 3]
    assert [piece.parts for piece in pieces] == [(Part("a", 3, 11),), (Part("a", 1, 11), Part("b", 2, 22))]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"\x0a\x05\x12", r"field 1 at byte 0 needs 5 bytes, but its message ends 1 bytes after"),
        (b"\x0a", r"varint at byte 1 is cut off"),
        (b"\x0a\x02\x12\x80", r"varint at byte 3 is cut off"),
        (b"\x0a\x02\x12\x07", r"field 2 at byte 2 needs 7 bytes, but its message ends 0 bytes after"),
        (b"\x0a\x00\x08\x01", r"field 1 at byte 2 has wire type 0 where a message belongs"),
        (b"\x0b\x0c", r"byte 0 begins a field of wire type 3"),
        (b"\x02\x00", r"byte 0 begins a field with number 0"),
        (b"\x08" + b"\xff" * 11, r"varint at byte 1 is longer than 10 bytes"),
        (b"\x79\x00\x00", r"field 15 at byte 0 needs 8 bytes"),
    ],
)
def test_malformed_says_what_and_where(data: bytes, problem: str) -> None:
    """An error names what is wrong and the byte offset in the request."""
    with pytest.raises(Malformed, match=problem):
        count_items(Signal.LOGS, data)


def test_validate_looks_into_items() -> None:
    """A broken field inside a record is found by validate and left alone by count_items."""
    data = b"\x0a\x05\x12\x03\x12\x01\x0a"
    assert count_items(Signal.LOGS, data) == 1
    with pytest.raises(Malformed, match="byte 7"):
        validate(Signal.LOGS, data)


@pytest.mark.parametrize("signal", Signal)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_counted_or_malformed(signal: Signal, data: bytes) -> None:
    """Arbitrary bytes never raise anything but Malformed."""
    for use in (count_items, validate, to_json):
        try:
            use(signal, data)
        except Malformed:
            continue


@pytest.mark.parametrize("signal", Signal)
def test_truncated_request_is_malformed_or_smaller(signal: Signal) -> None:
    """Every prefix of a real request is either refused or, cut between fields, has no more items than the whole."""
    data = vector(signal)
    for end in range(len(data)):
        try:
            assert count_items(signal, data[:end]) <= count_items(signal, data)
        except Malformed:
            continue


@pytest.mark.parametrize("signal", Signal)
def test_json_is_the_collectors_to_the_byte(signal: Signal) -> None:
    """A request with every field is written exactly as a real Collector's file exporter wrote it."""
    assert to_json(signal, vector(signal)) + "\n" == (VECTORS / f"{signal}.json").read_text()


@pytest.mark.parametrize("signal", Signal)
def test_vectors_use_every_field(signal: Signal) -> None:
    """The vectors leave out no field of any message of their signal, so that the comparison above is complete."""
    used: dict[str, set[str]] = {}
    declared: dict[str, set[str]] = {}

    def walk(message: Any) -> None:
        name = message.DESCRIPTOR.full_name
        declared[name] = {field.name for field in message.DESCRIPTOR.fields}
        for field, value in message.ListFields():
            used.setdefault(name, set()).add(field.name)
            if field.message_type is not None:
                for one in value if field.is_repeated else (value,):
                    walk(one)

    walk(parse(signal, vector(signal)))
    unused = {f"{name}.{field}" for name in declared for field in declared[name] - used.get(name, set())}
    unused = {name.removeprefix("opentelemetry.proto.") for name in unused}
    if signal is Signal.PROFILES:  # has few attributes left; the vectors of the other signals have values of all kinds
        unused = {name for name in unused if not name.startswith("common.v1.AnyValue.")}
    assert unused <= REFERENCES


REFERENCES = {
    "common.v1.AnyValue.string_value_strindex",
    "common.v1.KeyValue.key_strindex",
    "common.v1.InstrumentationScope.attributes",
    "resource.v1.Resource.attributes",
}
"""Only for profiles, and there the Collector itself turns the inline names of resources and scopes into such."""


@pytest.mark.parametrize("signal", Signal)
def test_json_has_the_meaning_that_protobuf_gives_it(signal: Signal) -> None:
    """But for ids in hexadecimal, another reader of protobuf's JSON finds the same message."""
    plain = json.loads(to_json(signal, vector(signal)))
    message = json_format.ParseDict(ids_as_base64(plain), REQUESTS[signal]())
    expected = parse(signal, vector(signal))
    # What is always written is set after reading; setting it everywhere makes both alike.
    assert json.loads(to_json(signal, message.SerializeToString())) == json.loads(
        to_json(signal, expected.SerializeToString())
    )


def ids_as_base64(value: Any) -> Any:
    """Turn OTLP's hexadecimal ids into what protobuf's own JSON has."""
    if isinstance(value, dict):
        return {
            key: json_format.MessageToDict(parse_id(one))
            if key in {"traceId", "spanId", "parentSpanId", "profileId"}
            else ids_as_base64(one)
            for key, one in value.items()
        }
    return [ids_as_base64(one) for one in value] if isinstance(value, list) else value


def parse_id(text: str) -> Any:
    """Bytes of an id, as a message of protobuf."""
    return BytesValue(value=bytes.fromhex(text))


def test_numbers_in_json_are_gos() -> None:
    """Doubles are written as Go's strconv does: no exponent between 1e-6 and 1e21, no trailing zero."""
    values = [0.0, -0.0, 1.0, 1e-6, 9.9e-7, 1e20, 1e21, 1.5e-7, float("nan"), float("inf"), float("-inf")]
    texts = [
        "0",
        "-0",
        "1",
        "0.000001",
        "9.9e-07",
        "100000000000000000000",
        "1e+21",
        "1.5e-07",
        '"NaN"',
        '"Infinity"',
        '"-Infinity"',
    ]
    message: Any = REQUESTS[Signal.METRICS]()
    points = message.resource_metrics.add().scope_metrics.add().metrics.add().gauge.data_points
    for value in values:
        points.add().as_double = value
    written = to_json(Signal.METRICS, message.SerializeToString())
    assert [each.partition("}")[0] for each in itertools.islice(written.split('"asDouble":'), 1, None)] == texts
