"""Killing and restarting the agent or the Collector in the middle of a stream: recovery, and what is said of losses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from peers.processes import translated
from peers.records import own_events, uids

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOTHING_LOST = ("otelbee_dropped_items", "otelbee_exporter_send_failed_log_records", "otelbee_source_rejected_records")


def test_killed_agent_leaves_a_gap_that_is_reported(shared_data: Callable[..., Path], way: Callable[..., Any]) -> None:
    """What arrived before stays, what the next agent sends arrives, and one record and a counter tell of the gap."""
    path = shared_data("tetragon", "recordings", "base_full.pb.gz")
    expected = uids(translated(path))
    peer, otelbee, collector = way(path, flags=["--rate=500"])
    before = collector.received(1)
    peer.kill()
    otelbee.until(lambda: not otelbee.metric("otelbee_source_up", receiver="tetragon"), "it notices the loss")
    assert otelbee.ready(), "a peer that is away is no reason to be not ready"
    assert 0 < len(set(uids(before))) < len(expected)

    peer.start()
    peer.report("end")
    sent = peer.reported("end")[-1]["produced"]
    otelbee.until(lambda: otelbee.metric("otelbee_source_up", receiver="tetragon"), "it has the agent again")
    collector.until(lambda: set(uids(collector.records())) >= set(expected), "it has every event of the second agent")

    assert sent == len(expected)
    start, gap = own_events(collector.records(), "otelbee.source.gap")
    assert start["otelbee.gap.reason"] == "otelbee was started"
    assert gap["otelbee.gap.from"] < gap["otelbee.gap.to"]
    assert gap["otelbee.source.name"] == "tetragon"
    assert otelbee.metric("otelbee_source_gaps", receiver="tetragon") == 2
    assert otelbee.stop() == 0
    log = otelbee.errors()
    assert log.count("source tetragon is down") == 1
    assert log.count("source tetragon is up") == 2


def test_killed_collector_costs_nothing(shared_data: Callable[..., Path], way: Callable[..., Any]) -> None:
    """Whatever the agent sent meanwhile waits in the queue and arrives when the Collector is back."""
    path = shared_data("tetragon", "recordings", "base_full.pb.gz")
    expected = uids(translated(path))
    peer, otelbee, collector = way(path, flags=["--rate=300"])
    collector.received(1)
    collector.kill()
    assert peer.report("end")["dropped"] == 0
    accepted = "otelbee_receiver_accepted_log_records"
    otelbee.until(lambda: otelbee.metric(accepted, receiver="tetragon") == len(expected), "it has all")
    assert len(set(uids(collector.records()))) < len(expected)
    assert otelbee.ready(), "the queue has room: that the Collector is away is no reason to be not ready"
    otelbee.until(lambda: "Exporting failed; retrying: logs" in otelbee.errors(), "it says that exporting fails")

    collector.start()
    collector.until(lambda: set(uids(collector.records())) == set(expected), "it has every event")
    metrics = otelbee.metrics()
    assert {name: metrics.get(name, 0) for name in NOTHING_LOST} == dict.fromkeys(NOTHING_LOST, 0)
    assert metrics["otelbee_exporter_retries"] >= 1
    otelbee.until(lambda: "Exporting recovered: logs" in otelbee.errors(), "it says that exporting works again")
    assert otelbee.errors().count("Exporting recovered: logs") == 1
    assert len(own_events(collector.records(), "otelbee.source.gap")) == 1, "of the start, and no other"
    assert otelbee.stop() == 0


def test_full_queue_stops_the_reading_and_only_the_agent_drops(
    shared_data: Callable[..., Path], way: Callable[..., Any]
) -> None:
    """While the Collector is away longer than the queue lasts, otelbee reads no further: nothing it took is lost."""
    path = shared_data("tetragon", "recordings", "highvol.pb.gz")
    peer, otelbee, collector = way(
        path,
        flags=["--rate=8000", "--drop", "--queue=1000"],
        source={"read_ahead": "1MiB"},
        exporter={"sending_queue": {"queue_size": "4MiB", "batch": {"max_size": "512KiB"}}},
    )
    collector.received(1)
    collector.kill()
    stats = peer.report("end")
    assert stats["dropped"] > 0
    otelbee.until(lambda: otelbee.source("tetragon")["paused"], "it says that it is paused")

    collector.start()
    collector.until(lambda: _received(collector) + stats["dropped"] >= stats["produced"], "the rest is there")
    assert _received(collector) + stats["dropped"] == stats["produced"]
    otelbee.until(lambda: not otelbee.source("tetragon")["paused"], "it says that it reads again")
    assert otelbee.errors().count("source tetragon is paused") == 1
    metrics = otelbee.metrics()
    assert {name: metrics.get(name, 0) for name in NOTHING_LOST} == dict.fromkeys(NOTHING_LOST, 0)
    assert otelbee.stop() == 0


def _received(collector: Any) -> int:
    return len(set(uids(collector.records())))


def test_stop_without_a_collector_ends_in_time_and_counts_what_is_lost(
    shared_data: Callable[..., Path], way: Callable[..., Any]
) -> None:
    """SIGTERM with a full hand and nobody to give it to: the deadline holds, and the log says how much is gone."""
    path = shared_data("tetragon", "recordings", "creds.pb.gz")
    _, otelbee, collector = way(path, shutdown_timeout="2s", flags=["--rate=40"])
    sent, accepted = "otelbee_exporter_sent_log_records", "otelbee_receiver_accepted_log_records"
    otelbee.until(lambda: otelbee.metrics().get(sent), "the first records are delivered")
    collector.kill()
    otelbee.until(lambda: otelbee.metrics()[accepted] == 78, "it has all events, and the gap of its start")
    # What the Collector wrote but was killed before it acknowledged counts as not delivered.
    lost = 78 - int(otelbee.metrics()[sent])
    assert lost > 0
    assert otelbee.stop(deadline_s=8) == 0
    assert f"dropped {lost} items of logs" in otelbee.errors().split("Starting shutdown")[1]
