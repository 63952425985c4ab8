"""Own metrics: the Collector's names, and what a reader of /metrics sees."""

from __future__ import annotations

import re

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from receiver.telemetry import QueueLevel, Telemetry
from translators.batch import Signal


@pytest.fixture(name="telemetry")
def _telemetry() -> Telemetry:
    return Telemetry(CollectorRegistry())


def lines(telemetry: Telemetry) -> dict[str, float]:
    """Sample line without its value -> value."""
    text = telemetry.exposition().decode()
    return {
        name: float(value)
        for name, value in (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    }


def test_names_are_the_collectors(telemetry: Telemetry) -> None:
    """Every metric of a path from source to Collector carries the Collector's name under otelbee_."""
    telemetry.accepted("tetragon/a", Signal.LOGS, 3)
    telemetry.accepted("tetragon/a", Signal.LOGS, 4)
    telemetry.refused("otlp", Signal.TRACES, 1, "queue_full")
    telemetry.sent(Signal.METRICS, 5)
    telemetry.send_failed(Signal.PROFILES, 6)
    telemetry.enqueue_failed(Signal.LOGS, 7)
    telemetry.queue(Signal.LOGS, 10, 100)
    found = lines(telemetry)
    assert found['otelbee_receiver_accepted_log_records{receiver="tetragon/a"}'] == 7
    assert found['otelbee_receiver_refused_spans{reason="queue_full",receiver="otlp"}'] == 1
    assert found["otelbee_exporter_sent_metric_points"] == 5
    assert found["otelbee_exporter_send_failed_profile_samples"] == 6
    assert found["otelbee_exporter_enqueue_failed_log_records"] == 7
    assert found['otelbee_exporter_queue_size{data_type="logs"}'] == 10
    assert found['otelbee_exporter_queue_capacity{data_type="logs"}'] == 100
    assert telemetry.queues() == {Signal.LOGS: QueueLevel(10, 100)}


def test_sources_have_their_own(telemetry: Telemetry) -> None:
    """Gaps, restarts, rejected and counted records, drops and retries each have a counter with a reason."""
    telemetry.gap("tetragon")
    telemetry.restarted("tetragon")
    telemetry.rejected("tetragon", "malformed", 2)
    telemetry.counted("tetragon", "excluded_self", 9)
    telemetry.dropped(Signal.LOGS, 8, "rejected")
    telemetry.retried(Signal.LOGS)
    telemetry.source_up("tetragon", up=True)
    telemetry.backlog("tetragon", lambda: 12, 64)
    found = lines(telemetry)
    assert found['otelbee_source_gaps{receiver="tetragon"}'] == 1
    assert found['otelbee_source_backlog_size{receiver="tetragon"}'] == 12
    assert found['otelbee_source_backlog_capacity{receiver="tetragon"}'] == 64
    assert found['otelbee_source_restarts{receiver="tetragon"}'] == 1
    assert found['otelbee_source_rejected_records{reason="malformed",receiver="tetragon"}'] == 2
    assert found['otelbee_source_counted_records{name="excluded_self",receiver="tetragon"}'] == 9
    assert found['otelbee_dropped_items{data_type="logs",reason="rejected"}'] == 8
    assert found['otelbee_exporter_retries{data_type="logs"}'] == 1
    assert found['otelbee_source_up{receiver="tetragon"}'] == 1


def test_no_total_suffix_and_still_valid(telemetry: Telemetry) -> None:
    """Names have no _total, as the Collector's have none, and a Prometheus parser reads the page."""
    telemetry.gap("tetragon")
    text = telemetry.exposition().decode()
    assert "_total" not in text
    assert "_created" not in text
    kinds = {family.name: family.type for family in text_string_to_metric_families(text)}
    assert re.search(r"^# TYPE otelbee_source_gaps counter$", text, re.MULTILINE)
    assert kinds["otelbee_exporter_queue_size"] == "gauge"


def test_the_process_is_described(telemetry: Telemetry) -> None:
    """Memory is this process's, in bytes; CPU time and uptime are seconds."""
    found = lines(telemetry)
    assert found["otelbee_process_memory_rss"] > 1_000_000
    assert found["otelbee_process_cpu_seconds"] > 0
    assert found["otelbee_process_uptime"] >= 0


def test_services_do_not_share_numbers() -> None:
    """Two services in one process count apart: nothing is registered globally."""
    first, second = Telemetry(CollectorRegistry()), Telemetry(CollectorRegistry())
    first.gap("tetragon")
    assert "otelbee_source_gaps{" not in second.exposition().decode()
