"""Arrow records that are damaged, lie or are not what they should be: refused with the reason, in bounded memory."""

from __future__ import annotations

import struct
import tracemalloc
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from peers import parca_agent as agent
from peers.parca_agent import Frame, Line, Row

from translators.batch import Origin, Rejection
from translators.parca_arrow import Options, framed, wanted
from translators.parca_arrow.ipc import Limits, check
from translators.parca_arrow.malformed import MalformedError, TooLargeError
from translators.parca_arrow.translator import Translator

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOW_NS = 1_752_500_000_000_000_000
ROWS = [
    Row(
        (("cpu", "1"), ("node", "n")),
        (Frame(n, "native", "x", "ab" * 20), Frame(n, "cpython", lines=(Line("f", "/a.py", n),))),
        n,
        NOW_NS + n,
    )
    for n in range(20)
]
GOOD = agent.v2(ROWS)


def rejected(record: bytes, kind: str = "arrow_v2") -> Rejection:
    """How a record is refused; its good neighbour is not."""
    good = GOOD if kind == "arrow_v2" else v1()
    translation = Translator(Options()).translate(kind, [record, good], Origin(), NOW_NS)
    assert [batch.items for batch in translation.batches] == [20]
    (rejection,) = translation.rejected
    assert rejection.index == 0
    return rejection


def v1() -> bytes:
    """The good rows in schema v1."""
    samples, stacks = agent.v1(ROWS)
    return framed(samples, agent.locations(list(stacks.items())))


def columns(record: bytes = GOOD) -> dict[str, pa.Array]:
    """The columns of a batch, to be changed."""
    with pa.ipc.open_stream(record) as reader:
        batch = reader.read_next_batch()
    return dict(zip(batch.schema.names, batch.columns, strict=True))


def changed(**arrays: pa.Array | None) -> bytes:
    """The good batch with other columns; None removes one."""
    whole = {**columns(), **arrays}
    return agent.stream({name: array for name, array in whole.items() if array is not None}, "v2", None)


def test_a_record_that_is_cut_off_is_refused() -> None:
    """Wherever it is cut, but at its last message, which only says that nothing follows."""
    for length in range(0, len(GOOD) - 8, 97):
        assert rejected(GOOD[:length]).reason == "malformed"


@pytest.mark.parametrize("name", ["stacktrace", "value", "sample_type", "timestamp"])
def test_a_row_cannot_do_without_some_columns(name: str) -> None:
    """They are named."""
    rejection = rejected(changed(**{name: None}))
    assert rejection.reason == "malformed"
    assert name in rejection.message


@pytest.mark.parametrize(
    "name",
    ["labels", "stacktrace_id", "producer", "sample_unit", "period_type", "period_unit", "temporality", "period"],
)
def test_a_row_can_do_without_others(name: str) -> None:
    """What they would say stays empty."""
    translation = Translator(Options()).translate("arrow_v2", [changed(**{name: None})], Origin(), NOW_NS)
    assert [batch.items for batch in translation.batches] == [20]


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("value", pa.array(["1"] * 20)),
        ("value", pa.array([1.5] * 20)),
        ("value", pa.array([None, *range(19)], pa.int64())),
        ("timestamp", pa.array(["now"] * 20)),
        ("timestamp", pa.array([-1] * 20)),
        ("timestamp", pa.array([2**62] * 20, pa.timestamp("s"))),
        ("labels", pa.array([1] * 20)),
        ("labels", pa.array([{"cpu": 1}] * 20)),
        ("labels", pa.array([None] * 20, pa.struct([("cpu", pa.utf8())]))),
        ("producer", pa.array([1] * 20)),
        ("sample_type", pa.array([{"a": 1}] * 20)),
        ("period", pa.array(["x"] * 20)),
        ("stacktrace", pa.array([1] * 20)),
        ("stacktrace", pa.array([[1]] * 20)),
        ("stacktrace", pa.array([["main"]] * 20)),
        ("stacktrace", pa.array([[None]] * 20, pa.list_(pa.struct([("address", pa.uint64())])))),
        ("stacktrace", pa.array([[{"address": "x"}]] * 20)),
        ("stacktrace", pa.array([[{"address": 1, "lines": "x"}]] * 20)),
        ("stacktrace", pa.array([[{"address": 1, "lines": [{"line": 1}]}]] * 20)),
        ("stacktrace", pa.array([[{"address": 1, "lines": [{"line": 1, "function": {"start_line": 1}}]}]] * 20)),
    ],
)
def test_a_column_of_another_type_is_refused(name: str, array: pa.Array) -> None:
    """With what it is."""
    assert rejected(changed(**{name: array})).reason == "malformed"


def test_names_that_come_twice_are_refused() -> None:
    """A column cannot be found by its name then."""
    schema = pa.schema([("value", pa.int64()), ("value", pa.int64())])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(pa.record_batch([pa.array([1]), pa.array([1])], schema=schema))
    assert "more than once" in rejected(sink.getvalue().to_pybytes()).message


def test_offsets_and_indices_that_lead_nowhere_are_refused() -> None:
    """Lists beyond their values, words beyond their dictionary."""
    frames = columns()["stacktrace"].values
    beyond = pa.ListViewArray.from_arrays(pa.array([10_000] * 20, pa.int32()), pa.array([3] * 20, pa.int32()), frames)
    negative = pa.ListViewArray.from_arrays(pa.array([-5] * 20, pa.int32()), pa.array([3] * 20, pa.int32()), frames)
    words = pa.DictionaryArray.from_arrays(pa.array([99] * 20, pa.uint32()), pa.array(["a"]), safe=False)
    for name, array in (("stacktrace", beyond), ("stacktrace", negative), ("producer", words)):
        assert rejected(changed(**{name: array})).reason == "malformed"


def test_lists_that_overlap_cannot_multiply() -> None:
    """A thousand rows that each name all of many frames would be millions."""
    frames = pa.DictionaryArray.from_arrays(
        pa.array([0] * 10_000, pa.uint32()), columns()["stacktrace"].values.dictionary
    )
    size = 1_000
    stacks = pa.ListViewArray.from_arrays(
        pa.array(range(size), pa.int32()), pa.array([9_000] * size, pa.int32()), frames
    )
    record = agent.stream(
        {
            "stacktrace": stacks,
            "value": pa.array([1] * size),
            "sample_type": pa.array(["samples"] * size),
            "timestamp": pa.array([1] * size),
        },
        "v2",
        None,
    )
    assert rejected(record).reason == "too_large"


def test_rows_that_are_all_of_different_processes_are_refused() -> None:
    """A resource and a profile for each of very many rows would take minutes; so would a profile for each time."""
    size = (1 << 16) + 1
    words = pa.array([f"{number}" for number in range(size)])
    whole = {
        "stacktrace": pa.array([None] * size, pa.list_(pa.struct([("address", pa.uint64())]))),
        "value": pa.array(range(size)),
        "sample_type": pa.array(["samples"] * size),
        "timestamp": pa.array(range(size)),
    }
    for more in ({"labels.a": words}, {"duration": pa.array([0] * size)}):
        assert rejected(agent.stream({**whole, **more}, "v2", "zstd")).reason == "too_large"


def _claims(record: bytes, length: int) -> bytes:
    """The record with another length before the first buffer that is compressed with LZ4 (frame magic 0x184D2204)."""
    at = record.index(b"\x04\x22\x4d\x18") - 8
    return record[:at] + struct.pack("<q", length) + record[at + 8 :]


@pytest.mark.parametrize(
    ("length", "reason"), [(1 << 40, "too_large"), (1 << 62, "too_large"), (-7, "malformed"), (3, "malformed")]
)
def test_lengths_that_lie_are_refused(length: int, reason: str) -> None:
    """Before anything is allocated for them."""
    assert rejected(_claims(GOOD, length)).reason == reason


def test_what_grows_beyond_bounds_is_refused_before_it_grows() -> None:
    """A column of nothing that decompresses to 160 MiB, and rows without end in a run."""
    blank = pa.array(["\0" * (40 << 20)] * 4)
    bomb = agent.stream({"a": blank}, "v2", "zstd")
    run = pa.RunEndEncodedArray.from_arrays(pa.array([1 << 30], pa.int32()), pa.array([1]))
    endless = agent.stream(dict.fromkeys(("value", "timestamp"), run), "v2", None)
    assert len(bomb) < 1 << 20
    assert len(endless) < 1 << 12
    del blank
    tracemalloc.start()
    before = pa.total_allocated_bytes()
    for record in (bomb, endless):
        assert rejected(record).reason == "too_large"
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    assert pa.total_allocated_bytes() - before < 16 << 20
    tracemalloc.stop()


def test_claims_are_added_up() -> None:
    """Over all columns and messages."""
    check(GOOD)
    for limits in (Limits(max_bytes=100), Limits(max_rows=10), Limits(max_cells=50)):
        with pytest.raises(TooLargeError):
            check(GOOD, limits)


@pytest.mark.parametrize(
    "record", [b"", b"\0" * 64, b"ARROW1\0\0" + GOOD, b"\xff" * 400, b"\xff\xff\xff\xff\x7f\xff\xff\x7f"]
)
def test_what_is_no_stream_is_refused(record: bytes) -> None:
    """Files of Arrow are no streams either."""
    with pytest.raises(MalformedError):
        wanted(record)
    if record:
        assert "Arrow" in rejected(record).message


def test_exchanges_that_do_not_fit_together_are_refused() -> None:
    """Stacks that were not sent, parts that are missing, locations of another kind."""
    samples, stacks = agent.v1(ROWS)
    some = agent.locations(list(stacks.items())[:1])
    for record, says in (
        (framed(samples, some), "has no locations"),
        (framed(samples, GOOD), "locations"),
        (framed(samples, b""), "locations"),
        (samples, "length before it"),
        (framed(samples, some)[:-3], "length before it"),
        (framed(some, some), "value"),
    ):
        rejection = rejected(record, "arrow_v1")
        assert rejection.reason == "malformed"
        assert says in rejection.message


@pytest.mark.parametrize(
    "array",
    [
        pa.array(["parca_agent"] * 20),
        pa.array([b"parca_agent"] * 20),
        pa.array(["parca_agent"] * 20, pa.large_string()),
        pa.array(["parca_agent"] * 20, pa.string_view()),
        pa.array(["parca_agent"] * 20).dictionary_encode(),
        pa.RunEndEncodedArray.from_arrays(pa.array([20], pa.int32()), pa.array([b"parca_agent"])),
        pa.RunEndEncodedArray.from_arrays(
            pa.array([9, 20], pa.int16()), pa.array(["parca_agent"] * 2).dictionary_encode()
        ),
    ],
)
def test_whatever_wraps_a_string_it_is_read(array: pa.Array) -> None:
    """Agents changed the encoding of columns between versions."""
    plain, other = (
        Translator(Options()).translate("arrow_v2", [record], Origin(), NOW_NS).batches[0].items
        for record in (GOOD, changed(producer=array))
    )
    assert plain == other == 20


def test_labels_of_early_v2_are_columns_of_their_own(shared_data: Callable[..., Path]) -> None:
    """``labels.x`` beside or instead of ``labels``."""
    cut = shared_data("profiles", "arrow", "v2_lz4.arrows").read_bytes()
    given: dict[str, Any] = columns(cut)
    labels = given.pop("labels")
    for field in labels.type:
        given[f"labels.{field.name}"] = labels.field(field.name)
    given["timestamp"] = given["timestamp"].cast(pa.int64())
    data = [
        Translator(Options()).translate("arrow_v2", [record], Origin(), NOW_NS).batches[0].items
        for record in (cut, agent.stream(given, "v2", None))
    ]
    assert data == [6, 6]
