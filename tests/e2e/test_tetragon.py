"""Recorded events through the agent's official service, otelbee, and the real Collector's file exporter."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from peers.processes import translated
from peers.records import UID, own_events, uids, without_arrival

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GAP = "otelbee.source.gap"
LOST = (
    "otelbee_source_rejected_records",
    "otelbee_dropped_items",
    "otelbee_exporter_send_failed_log_records",
    "otelbee_exporter_enqueue_failed_log_records",
    "otelbee_receiver_refused_log_records",
)


def _json_uids(requests: list[dict[str, Any]]) -> list[str]:
    return [
        each["value"]["stringValue"]
        for request in requests
        for resource in request["resourceLogs"]
        for scope in resource["scopeLogs"]
        for record in scope["logRecords"]
        for each in record["attributes"]
        if each["key"] == UID
    ]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("volume", ["every scenario", "high volume"])
def test_every_event_arrives_once_as_it_was_translated(volume: str, shared: Path, way: Callable[..., Any]) -> None:
    """As many records, with the same ids and contents, as the recordings have events; nothing lost, nothing twice."""
    recordings = sorted((shared / "data" / "tetragon" / "recordings").glob("*.pb.gz"))
    files = [path for path in recordings if (path.name == "highvol.pb.gz") == (volume == "high volume")]
    expected = translated(*files)
    peer, otelbee, collector = way(*files)

    collector.until(lambda: len(uids(collector.records())) >= len(expected), "it has every event", 120)
    received = [record for record in collector.records() if record.event_name != GAP]
    assert peer.report("end") == {"event": "end", "produced": len(expected), "dropped": 0, **_sent(peer)}
    assert Counter(map(without_arrival, received)) == Counter(map(without_arrival, expected))
    assert Counter(uids(received)) == Counter(uids(expected))
    assert Counter(_json_uids(collector.json_requests())) == Counter(uids(expected))

    metrics = otelbee.metrics()
    assert otelbee.metric("otelbee_receiver_accepted_log_records", receiver="tetragon") == len(expected)
    assert metrics["otelbee_exporter_sent_log_records"] == len(expected) + 1
    assert {name: metrics.get(name, 0) for name in LOST} == dict.fromkeys(LOST, 0)
    (gap,) = own_events(collector.records(), GAP)
    assert (gap["otelbee.gap.from"], gap["otelbee.gap.reason"]) == ("unknown", "otelbee was started")
    assert otelbee.stop() == 0
    assert len(collector.records()) == len(expected) + 1


def _sent(peer: Any) -> dict[str, int]:
    return {"sent": peer.reported("end")[-1]["sent"]}
