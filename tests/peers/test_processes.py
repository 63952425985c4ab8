"""The peers themselves, each against a plain client: what an end-to-end test may rely on."""

from __future__ import annotations

import gzip
import socket
from typing import TYPE_CHECKING

import grpc
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from peers.processes import Collector, TetragonPeer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("peers")


def _export(endpoint: str, request: ExportLogsServiceRequest) -> None:
    with grpc.insecure_channel(endpoint) as channel:
        export = channel.unary_unary("/opentelemetry.proto.collector.logs.v1.LogsService/Export")
        export(request.SerializeToString(), timeout=10)


def _read(address: str, limit: int | None = None) -> tuple[list[bytes], grpc.StatusCode]:
    """Read events until the stream ends, or ``limit`` of them."""
    events: list[bytes] = []
    with grpc.insecure_channel(address) as channel:
        stream = channel.unary_stream("/tetragon.FineGuidanceSensors/GetEvents")(b"", timeout=30)
        try:
            for event in stream:
                events.append(event)
                if len(events) == limit:
                    stream.cancel()
        except grpc.RpcError as error:
            return events, error.code()
    raise AssertionError("an agent never ends its stream without a status")


def test_collector_writes_what_it_acknowledged_and_goes_on_after_a_kill(tmp_path: Path) -> None:
    """Both files hold every acknowledged record at once, over kill -9 and restart."""
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add(event_name="peer.test")
    with Collector(tmp_path) as collector:
        for number in range(3):
            record.time_unix_nano = number
            _export(collector.endpoint, request)
            assert [each.time_unix_nano for each in collector.received(number + 1)] == list(range(number + 1))
            collector.kill()
            collector.start()
        assert len(collector.json_requests()) == 3


def test_agent_streams_a_recording_message_for_message(tmp_path: Path, shared_data: Callable[..., Path]) -> None:
    """The official service carries the recorded messages, in order; their bytes differ in nothing but field order."""
    path = shared_data("tetragon", "recordings", "base_full.pb.gz")
    with gzip.open(path) as recording:
        size = sum(1 for _ in iter(lambda: recording.read(int.from_bytes(recording.read(4), "big")), b""))
    with TetragonPeer(tmp_path, path) as peer:
        events, _ = _read(peer.address, size)
        assert len(events) == size
        assert peer.report("end")["dropped"] == 0
        assert peer.stop() == 0
        assert peer.report("stats")["sent"] == size


def test_agent_drops_silently_what_a_full_queue_cannot_take(tmp_path: Path, shared_data: Callable[..., Path]) -> None:
    """With --drop nothing on the stream tells of the loss, and every event was either sent or counted as dropped."""
    path = shared_data("tetragon", "recordings", "base_full.pb.gz")
    with TetragonPeer(tmp_path, path, flags=["--drop", "--queue=10", "--linger=false"]) as peer:
        events, code = _read(peer.address)
        assert peer.wait() == 0
        stats = peer.report("stats")
    assert code is grpc.StatusCode.UNAVAILABLE
    assert stats["dropped"] > 0
    assert (stats["sent"], stats["sent"] + stats["dropped"]) == (len(events), stats["produced"])


def test_agent_ends_a_stream_as_asked(tmp_path: Path, shared_data: Callable[..., Path]) -> None:
    """--close-after cuts the stream with UNAVAILABLE, and the next stream gets what comes then."""
    path = shared_data("tetragon", "recordings", "base_full.pb.gz")
    with TetragonPeer(tmp_path, path, flags=["--close-after=50", "--rate=500"]) as peer:
        for _ in range(2):
            events, code = _read(peer.address)
            assert (len(events), code) == (50, grpc.StatusCode.UNAVAILABLE)


def test_killed_agent_can_take_its_socket_again(tmp_path: Path, shared_data: Callable[..., Path]) -> None:
    """A socket file that a killed agent left behind does not stop the next one."""
    path = shared_data("tetragon", "recordings", "creds.pb.gz")
    with TetragonPeer(tmp_path, path) as peer:
        peer.kill()
        with socket.socket(socket.AF_UNIX) as probe, pytest.raises(ConnectionRefusedError):
            probe.connect(peer.address.removeprefix("unix://"))
        peer.start()
        assert len(_read(peer.address, 77)[0]) == 77
