"""Processes as spans through otelbee into the real Collector, beside the log records that they join with."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any

import pytest
from peers.processes import Collector, Otelbee, TetragonPeer
from peers.records import frames

from translators.batch import Origin
from translators.tetragon import Options, Translator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SCENARIOS = ("base_default", "enforce", "usdt")
EXEC_ID = "tetragon.process.exec_id"


def expected(files: list[Path]) -> tuple[int, int]:
    """How many log records and spans the recordings make."""
    translator = Translator(Options(process_spans=True))
    logs = spans = 0
    for path in files:
        with gzip.open(path) as file:
            made = translator.translate("protobuf", list(frames(file.read())), Origin(), 1_800_000_000_000_000_000)
        logs += sum(batch.items for batch in made.batches)
        spans += sum(batch.items for batch in made.derived)
    return logs, spans


def items(collector: Collector, signal: str, scope: str, item: str) -> list[dict[str, Any]]:
    """Log records or spans that the Collector wrote, in its own JSON; ids there are hexadecimal."""
    return [
        each
        for request in collector.json_requests()
        for resource in request.get(signal, ())
        for group in resource[scope]
        for each in group[item]
    ]


def records(collector: Collector) -> list[dict[str, Any]]:
    """Tetragon's log records; otelbee's own events have no exec_id."""
    return [each for each in items(collector, "resourceLogs", "scopeLogs", "logRecords") if exec_id(each)]


def spans(collector: Collector) -> list[dict[str, Any]]:
    """All spans."""
    return items(collector, "resourceSpans", "scopeSpans", "spans")


def exec_id(item: dict[str, Any]) -> str:
    """The process that a record or span is about, "" for none."""
    found = [each["value"]["stringValue"] for each in item["attributes"] if each["key"] == EXEC_ID]
    return found[0] if found else ""


@pytest.fixture
def files(shared_data: Callable[..., Path]) -> list[Path]:
    """Some recordings."""
    return [shared_data("tetragon", "recordings", f"{name}.pb.gz") for name in SCENARIOS]


@pytest.fixture
def peer(tmp_path: Path, peers: None, files: list[Path]) -> Iterator[TetragonPeer]:  # noqa: ARG001 - builds them
    """The agent's official service, which does not tell its process cache."""
    with TetragonPeer(tmp_path, *files) as running:
        yield running


def otelbee(tmp_path: Path, peer: TetragonPeer, collector: Collector) -> Otelbee:
    """Otelbee with spans."""
    return Otelbee(
        tmp_path,
        {
            "sources": {"tetragon": {"endpoint": peer.address, "exclude_self": False, "process_spans": True}},
            "exporter": {"otlp_grpc": {"endpoint": collector.endpoint, "tls": {"insecure": True}}},
        },
    )


@pytest.mark.timeout(120)
def test_logs_and_spans_join_in_the_collector(tmp_path: Path, peer: TetragonPeer, files: list[Path]) -> None:
    """It accepts every span; those of a process and its log records have the same ids, and parents are there."""
    logs_made, spans_made = expected(files)
    with Collector(tmp_path, signals=("logs", "traces")) as collector, otelbee(tmp_path, peer, collector) as running:
        collector.until(lambda: len(records(collector)) >= logs_made, "it has every record")
        collector.until(lambda: len(spans(collector)) >= spans_made, "it has every span")
        received = spans(collector)
        assert len(received) == spans_made
        assert running.metric("otelbee_dropped_items") == 0
        assert "process cache (UNIMPLEMENTED" in running.errors()
    by_process = {exec_id(span): span for span in received}
    assert len(by_process) == spans_made
    joined = 0
    for record in records(collector):
        span = by_process.get(exec_id(record))
        if span is not None:
            assert (record["traceId"], record["spanId"]) == (span["traceId"], span["spanId"])
            joined += 1
    assert joined > spans_made
    traces = {span["spanId"]: span["traceId"] for span in received}
    below = [span for span in received if span.get("parentSpanId") in traces]
    assert len(below) > spans_made / 2
    assert all(traces[span["parentSpanId"]] == span["traceId"] for span in below)


@pytest.mark.timeout(120)
def test_a_collector_without_traces_gets_its_logs(tmp_path: Path, peer: TetragonPeer, files: list[Path]) -> None:
    """Spans wait for a Collector that takes them; logs do not wait for spans."""
    logs_made, _ = expected(files)
    with Collector(tmp_path) as collector, otelbee(tmp_path, peer, collector):
        collector.until(lambda: len(records(collector)) >= logs_made, "it has every record")
        assert len(records(collector)) == logs_made
        assert spans(collector) == []
