"""Nothing of an Arrow batch is lost: every row can be read back from the OTLP."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import ExportProfilesServiceRequest
from peers import parca_agent as agent
from peers.parca_agent import GPU, HEAP, OFF_CPU, ON_CPU, Frame, Line, Row

from tests.translators.parca_arrow import reverse
from translators.batch import Origin
from translators.parca_arrow import Options, framed, wanted
from translators.parca_arrow.translator import Translator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

NOW_NS = 1_752_500_000_000_000_000

_NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
_LINES = st.builds(
    Line,
    _NAMES,
    st.none() | _NAMES,
    st.integers(0, 2**31),
    st.integers(0, 200),
    st.integers(0, 5),
)
_FRAMES = st.builds(
    Frame,
    st.integers(0, 2**64 - 1),
    st.none() | st.sampled_from(["native", "kernel", "cpython", "abort-marker", "cuda"]),
    st.none() | _NAMES,
    st.none()
    | st.sampled_from(["69389d485a9793dbe873f0ea2c93e02efaa9aa3d", "ab" * 16, "A" * 20 + "/" + "b" * 20, "x"]),
    st.lists(_LINES, max_size=2).map(tuple),
)
_LABELS = st.dictionaries(
    st.sampled_from(
        ["cpu", "thread_id", "thread_name", "node", "comm", "http.route", "pod", "job", "trace_id", "gpu_view"]
    )
    | _NAMES.filter(lambda name: name not in reverse._RESOURCE_LABELS and name not in reverse._LABELS),
    st.sampled_from(["0", "17", "007", "checkout"]) | _NAMES,
    max_size=5,
)


@st.composite
def _rows(draw: st.DrawFn) -> list[Row]:
    """Rows that share frames, stacks and sets of labels, as those of an agent do."""
    frames = draw(st.lists(_FRAMES, min_size=1, max_size=5))
    stacks = [(), *draw(st.lists(st.lists(st.sampled_from(frames), max_size=6).map(tuple), max_size=4))]
    labels = draw(st.lists(_LABELS.map(lambda each: tuple(sorted(each.items()))), min_size=1, max_size=3))
    return draw(
        st.lists(
            st.builds(
                Row,
                st.sampled_from(labels),
                st.sampled_from(stacks),
                st.integers(-(2**63), 2**63 - 1),
                st.integers(0, 2**63 - 1) | st.integers(NOW_NS, NOW_NS + 5_000_000_000),
                st.sampled_from([ON_CPU, OFF_CPU, GPU, HEAP]),
            ),
            max_size=20,
        )
    )


def translated(kind: str, record: bytes) -> bytes:
    """The one request that a record becomes."""
    translation = Translator(Options()).translate(kind, [record], Origin(), NOW_NS)
    assert not translation.rejected
    (batch,) = translation.batches
    return batch.data


def expected(rows: Sequence[Row]) -> Counter[Row]:
    """The rows as they can be told apart: a line that says nothing is none, and so is a function."""
    return Counter(rows)


@settings(max_examples=150, deadline=None)
@given(_rows())
def test_every_row_of_v2_can_be_read_back(rows: list[Row]) -> None:
    """Stack, labels, value, time and what was measured, whatever the agent writes."""
    if not rows:
        assert not Translator(Options()).translate("arrow_v2", [agent.v2(rows)], Origin(), NOW_NS).batches
        return
    data = translated("arrow_v2", agent.v2(rows))
    assert Counter(reverse.rows(data)) == expected(rows)


@settings(max_examples=50, deadline=None)
@given(_rows().filter(bool))
def test_every_row_of_v1_can_be_read_back(rows: list[Row]) -> None:
    """The same through the exchange of two parts."""
    samples, stacks = agent.v1(rows)
    assert wanted(samples).stacks == len(stacks)
    data = translated("arrow_v1", framed(samples, agent.locations(list(stacks.items()))))
    assert Counter(reverse.rows(data)) == expected(rows)


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_compression_changes_nothing(compression: str | None) -> None:
    """LZ4 is the agent's; others are Arrow's own."""
    rows = [Row((("node", "a"),), (Frame(n, "native", "x", "ab" * 20),), n, NOW_NS + n) for n in range(50)]
    assert Counter(reverse.rows(translated("arrow_v2", agent.v2(rows, compression)))) == Counter(rows)


def test_batches_of_arrow_go_are_read(shared_data: Callable[..., Path]) -> None:
    """What arrow-go wrote in the agent's schemas, compressed and not, v1 and v2."""
    folder = shared_data("profiles", "arrow")
    lz4, plain = (
        reverse.rows(translated("arrow_v2", (folder / f"v2_{form}.arrows").read_bytes())) for form in ("lz4", "plain")
    )
    assert lz4 == plain
    assert [row.value for row in lz4] == [1, 1, 1, 1, 1, 123456]
    assert {frame.frame_type for row in lz4 for frame in row.stack} == {"kernel", "native", "cpython", "abort-marker"}
    assert dict(lz4[3].labels)["http_route"] == "/checkout"
    old = framed((folder / "v1_samples.arrows").read_bytes(), (folder / "v1_locations.arrows").read_bytes())
    rows = reverse.rows(translated("arrow_v1", old))
    assert [len(row.stack) for row in rows] == [2, 1, 2]


def test_the_large_batch_has_no_duplicate_and_no_orphan(shared_data: Callable[..., Path]) -> None:
    """Every table begins with its zero value, has no entry twice and none that nothing refers to."""
    data = translated("arrow_v2", shared_data("profiles", "arrow", "v2_big_lz4.arrows").read_bytes())
    request = ExportProfilesServiceRequest.FromString(data)
    assert len(reverse.rows(data)) == 6080
    dictionary = request.dictionary
    for table in ("mapping_table", "location_table", "function_table", "link_table", "attribute_table", "stack_table"):
        entries = [entry.SerializeToString(deterministic=True) for entry in getattr(dictionary, table)]
        assert entries[0] == b""
        assert len(set(entries)) == len(entries)
    used = {index for stack in dictionary.stack_table for index in stack.location_indices}
    assert used == set(range(1, len(dictionary.location_table)))
