"""What /metrics and /ready say while the built command works: ages, times, peers, and no more series than that."""

from __future__ import annotations

import http.client
import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from peers.processes import Collector, Otelbee, free_port
from peers.records import own_events

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TOKEN = "not-very-secret"


@pytest.fixture
def collector(tmp_path: Path, peers: None) -> Iterator[Collector]:  # noqa: ARG001 - the fixture that builds it
    """The real Collector."""
    with Collector(tmp_path) as running:
        yield running


class Pushed:
    """otelbee with an HTTP listener that wants a token."""

    def __init__(self, folder: Path, endpoint: str) -> None:
        """Export to ``endpoint``."""
        self.port = free_port()
        tokens = folder / "tokens"
        tokens.write_text(f"friend:{TOKEN}\n")
        tokens.chmod(0o600)
        protocol = {"endpoint": f"127.0.0.1:{self.port}", "auth": {"bearertokenauth": {"filename": str(tokens)}}}
        retry = {"initial_interval": "200ms", "max_interval": "200ms"}
        self.otelbee = Otelbee(
            folder,
            {
                "sources": {"otlp": {"protocols": {"http": protocol}}},
                "exporter": {"otlp_grpc": {"endpoint": endpoint, "tls": {"insecure": True}, "retry_on_failure": retry}},
            },
        )

    def post(self, token: str, *, source_address: str = "127.0.0.1", age_s: float = 0) -> int:
        """Push one record of an age from one of this machine's addresses; the status."""
        request = ExportLogsServiceRequest()
        record = request.resource_logs.add().scope_logs.add().log_records.add()
        record.time_unix_nano = time.time_ns() - round(age_s * 1e9)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10, source_address=(source_address, 0))
        headers = {"Content-Type": "application/x-protobuf", "Authorization": f"Bearer {token}"}
        connection.request("POST", "/v1/logs", request.SerializeToString(), headers)
        status = connection.getresponse().status
        connection.close()
        return status


def test_a_thousand_peers_are_no_series(tmp_path: Path) -> None:
    """Senders are not in /metrics; the ten that are refused most are in the body of /ready."""
    pushed = Pushed(tmp_path, "127.0.0.1:1")
    with pushed.otelbee as otelbee:
        assert pushed.post(TOKEN) == 200
        before = otelbee.series()
        for number in range(1000):
            assert pushed.post("wrong", source_address=f"127.1.{number // 250}.{1 + number % 250}") == 401
        for _ in range(3):
            pushed.post("wrong", source_address="127.1.2.3")
        after = otelbee.series()
        worst: list[dict[str, Any]] = otelbee.report()["worst_peers"]
        assert otelbee.ready(), "what a peer does wrong makes nothing not ready"
    assert not [line for line in after if "127.1." in line]
    assert len(set(after) - set(before)) <= 2
    assert len(after) < 500
    assert len(worst) == 10
    assert (worst[0]["peer"], worst[0]["refused"], worst[0]["source"]) == ("127.1.2.3", 4, "otlp")
    assert worst[0]["reason"] == "unauthenticated"


@pytest.mark.timeout(150)
def test_what_the_agent_lost_is_in_the_data(
    tmp_path: Path, shared_data: Callable[..., Path], way: Callable[..., Any]
) -> None:
    """Its counters are read where its file says; an increase is a record in the Collector's output, and a metric."""
    counter = "tetragon_observer_ringbuf_events_lost_total"
    with serving_text(f"{counter} 5\n") as page:
        info = tmp_path / "tetragon-info.json"
        info.write_text(
            json.dumps({"server_address": f"unix://{tmp_path}/tetragon.sock", "metrics_address": page.address})
        )
        source = {"discovery_file": str(info)}
        _, otelbee, collector = way(shared_data("tetragon", "recordings", "base_full.pb.gz"), source=source)
        labels = {"receiver": "tetragon", "reason": "ring_buffer_full"}
        otelbee.until(lambda: otelbee.metric("otelbee_source_peer_lost_records", **labels) == 5, "it knows the count")
        page.text = f"{counter} 12\n"
        collector.until(
            lambda: own_events(collector.records(), "otelbee.source.loss"), "it is told of the loss", deadline_s=60
        )
        assert otelbee.metric("otelbee_source_lost_records", **labels) == 7
    (loss,) = own_events(collector.records(), "otelbee.source.loss")
    assert loss["otelbee.loss.reason"] == "ring_buffer_full"
    assert loss["otelbee.source.name"] == "tetragon"


class Page(ThreadingHTTPServer):
    """A page of text that can change."""

    text = ""

    @property
    def address(self) -> str:
        """Where it is."""
        return f"127.0.0.1:{self.server_port}"


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Page)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.server.text.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the standard library's signature
        del format, args


@contextmanager
def serving_text(text: str) -> Iterator[Page]:
    """Serve a page at ``/metrics`` and everywhere else."""
    page = Page(("127.0.0.1", 0), _Answer)
    page.text = text
    thread = threading.Thread(target=page.serve_forever)
    thread.start()
    try:
        yield page
    finally:
        page.shutdown()
        thread.join()
        page.server_close()


def test_age_and_times_of_what_is_queued_and_delivered(tmp_path: Path, collector: Collector) -> None:
    """The oldest item's age grows while the Collector is away, and is 0 again; delivery tells how old events were."""
    pushed = Pushed(tmp_path, collector.endpoint)
    with pushed.otelbee as otelbee:
        collector.kill()
        assert otelbee.metric("otelbee_exporter_queue_age_seconds", data_type="logs") == 0
        assert pushed.post(TOKEN, age_s=100) == 200
        otelbee.until(
            lambda: otelbee.metric("otelbee_exporter_queue_age_seconds", data_type="logs") > 2, "the item is 2 s old"
        )
        assert otelbee.metric("otelbee_source_delivery_delay_seconds_count", receiver="otlp") == 0
        collector.start()
        collector.received(1)
        otelbee.until(lambda: otelbee.metric("otelbee_exporter_sent_log_records") == 1, "it knows of the delivery")
        assert otelbee.metric("otelbee_exporter_queue_age_seconds", data_type="logs") == 0
        assert otelbee.metric("otelbee_exporter_request_duration_seconds_count", data_type="logs") >= 2
        assert otelbee.metric("otelbee_source_up", receiver="otlp") == 1
