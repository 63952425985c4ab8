"""The Collector is away, comes back, does not answer, or is cut off."""

from __future__ import annotations

import random
import socket
from typing import TYPE_CHECKING

import pytest
from peers.processes import free_port, until

if TYPE_CHECKING:
    from tests.faults.parts import Fault


@pytest.mark.timeout(180)
def test_collector_is_down_for_long(fault: Fault) -> None:
    """A minute without a Collector: all of it arrives afterwards."""
    collector = fault.collector()
    retry = {"initial_interval": "1.7s", "max_interval": "10s", "max_elapsed_time": "100s"}
    fault.run(collector.endpoint, retry=retry)
    sender = fault.sender(rate=500)
    fault.arrives(500)
    collector.kill()
    sender.acknowledged(60 * 500, deadline_s=100)
    collector.start()
    fault.arrives(1000)
    fault.survived("Collector down for 60 s")


def test_queue_is_full(fault: Fault) -> None:
    """An outage longer than the queue lasts: its senders keep the rest, over gRPC and HTTP, and all of it arrives."""
    collector = fault.collector()
    collector.kill()
    queue = {"queue_size": "1MiB", "batch": {"flush_timeout": "50ms", "max_size": "512KiB"}}
    otelbee = fault.run(collector.endpoint, queue=queue)
    senders = [fault.sender(name, protocol=name, rate=2000, body_bytes=500) for name in ("grpc", "http")]
    otelbee.until(lambda: otelbee.metric("otelbee_receiver_refused_requests", reason="busy") > 20, "it refuses")
    assert not fault.delivered()
    collector.start()
    for sender in senders:
        sender.acknowledged(2000)
    fault.survived("queue full (1 MiB), senders wait")


def test_without_storage_max_elapsed_time_drops_and_counts(fault: Fault) -> None:
    """What the next test shows to be safe is given up without storage, where the configuration says so."""
    otelbee = fault.run(f"127.0.0.1:{free_port()}", retry={"max_elapsed_time": "1s"})
    fault.sender(rate=500).acknowledged(500)
    otelbee.until(lambda: otelbee.metric("otelbee_dropped_items", reason="retries_exhausted"), "something is given up")


def test_storage_outlasts_max_elapsed_time(fault: Fault) -> None:
    """With storage nothing is dropped for its age: the outage is longer than what drops everything without."""
    collector = fault.collector()
    storage = fault.folder / "storage"
    otelbee = fault.run(collector.endpoint, storage=storage)
    sender = fault.sender(rate=500)
    fault.arrives(500)
    collector.kill()
    sender.acknowledged(3 * 500)
    until(lambda: otelbee.metric("otelbee_exporter_retries") >= 3, "it has tried several times")
    collector.start()
    fault.arrives(500)
    assert not otelbee.metric("otelbee_dropped_items")
    fault.survived("longer than max_elapsed_time would allow (1 s; storage)")


@pytest.mark.timeout(120)
def test_collector_is_killed_and_restarted_ten_times(fault: Fault) -> None:
    """However often it is killed, with requests half done, and however soon it is back."""
    chance = random.Random(10)
    collector = fault.collector()
    fault.run(collector.endpoint)
    sender = fault.sender(rate=2000)
    for _ in range(10):
        fault.arrives(chance.randrange(50, 1500))
        collector.kill()
        sender.acknowledged(chance.randrange(50, 1500))
        collector.start()
    fault.arrives(1000)
    fault.survived("Collector killed and restarted ten times")


def test_receiver_accepts_and_never_answers(fault: Fault) -> None:
    """Calls that are never answered end at the timeout and are tried again."""
    scripted = fault.scripted(silent=True)
    fault.run(scripted.endpoint, exporter={"timeout": "500ms"})
    fault.sender().acknowledged(500)
    until(lambda: len(scripted.answered("silence")) >= 5, "several calls were not answered")
    assert not fault.delivered()
    scripted.answer()
    fault.arrives(500)
    fault.survived("a receiver that takes calls and never answers")


def test_receiver_accepts_connections_and_says_nothing(fault: Fault) -> None:
    """A connection that is made and stays dumb is given up, and the Collector that takes its place is found."""
    collector = fault.collector()
    collector.kill()
    with socket.socket() as dumb:
        dumb.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        dumb.bind(("127.0.0.1", collector.port))
        dumb.listen()
        otelbee = fault.run(collector.endpoint, exporter={"timeout": "500ms"})
        sender = fault.sender()
        sender.acknowledged(1000)
        until(lambda: otelbee.metric("otelbee_exporter_retries") >= 3, "it has tried several times")
    collector.start()
    fault.arrives(1000)
    fault.survived("a receiver that takes connections and says nothing")


def test_connections_are_reset_in_the_middle_of_requests(fault: Fault) -> None:
    """On the way in and on the way out."""
    collector = fault.collector()
    outward = fault.proxy(collector.port, cuts=10, seed=5)
    fault.run(f"127.0.0.1:{outward.port}")
    inward = fault.proxy(fault.grpc_port, cuts=10, seed=6)
    fault.sender(endpoint=f"127.0.0.1:{inward.port}", rate=2000, body_bytes=1000)
    until(lambda: inward.cuts == outward.cuts == 10, "all connections that were to be reset were")
    fault.arrives(2000)
    fault.survived("connection reset in mid-request (10 in, 10 out)")
