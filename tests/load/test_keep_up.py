"""Bursts of 100,000 events a second from an agent that drops what is not read in time, as Tetragon's does.

At that rate agent, otelbee and Collector need two fast cores whole: where anything else runs, or a core is slower, the
agent drops whoever reads. So that is measured by ``make load``; a fifth of it every machine has to keep up with.
"""

from __future__ import annotations

import json
import signal
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, NamedTuple

import pytest
from peers.processes import Collector, Otelbee, TetragonPeer, free_port
from peers.records import own_events

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

EVENTS = 200_000
RATE = 100_000
STEADY_EVENTS = 60_000
STEADY_RATE = 20_000
LIMIT_MIB = 512
"""``memory_limiter: limit_mib`` of otelbee."""
READ_AHEAD = "128MiB"
"""84 MB come in two seconds, of which 48 to 62 waited at the end of them, on two cores that agent, otelbee and Collector
share. The default of 64 MiB was enough as well, with little to spare."""

_LOOPS = 5  # of the recording, which has 44,052 events
_DELAY = "200ms"  # so that the stream is open, and not the connection is measured


class Burst(NamedTuple):
    """One burst and who is in its way."""

    peer: TetragonPeer
    otelbee: Otelbee
    collector: Collector
    events: int

    def over(self) -> int:
        """Wait for the end of the burst; how many events the agent dropped."""
        end = self.peer.report("end")
        assert end["produced"] == self.events
        dropped: int = end["dropped"]
        return dropped

    def arrives(self, *, dropped: int = 0) -> None:
        """Wait until the Collector has every event that was not dropped, and the gap that the start is."""
        events = self.events - dropped
        self.otelbee.until(lambda: self.sent() == events + 1, f"{events} events are delivered")
        assert self.collector.count() == events + 1

    @contextmanager
    def collector_stands_still(self) -> Iterator[None]:
        """Stop the Collector's process when the burst begins, and let it go on afterwards."""
        self.peer.report("begin")  # otelbee is not asked: each answer would cost it a hundred events
        self.collector.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.collector.signal(signal.SIGCONT)

    def sent(self) -> float:
        """How many records the Collector has acknowledged."""
        return self.otelbee.metric("otelbee_exporter_sent_log_records")


@pytest.fixture
def burst(tmp_path: Path, shared: Path, peers: None) -> Iterator[Callable[..., Burst]]:  # noqa: ARG001 - the fixture that builds them
    """A function that starts the programs; the burst, made before, begins shortly after otelbee has asked for events."""
    recording = shared / "data" / "tetragon" / "recordings" / "highvol.pb.gz"
    with ExitStack() as stack:

        def start(read_ahead: str = READ_AHEAD, rate: int = RATE, events: int = EVENTS, **queue: str) -> Burst:
            collector = stack.enter_context(Collector(tmp_path, formats=["proto"]))
            metrics = f"127.0.0.1:{free_port()}"
            flags = [f"--rate={rate}", f"--loop={_LOOPS}", f"--count={events}", "--drop", f"--delay={_DELAY}"]
            peer = stack.enter_context(TetragonPeer(tmp_path, recording, flags=[*flags, f"--metrics={metrics}"]))
            agent = tmp_path / "tetragon-info.json"
            agent.write_text(json.dumps({"server_address": peer.address, "metrics_address": metrics}))
            tetragon = {
                "endpoint": peer.address,
                "discovery_file": str(agent),
                "exclude_self": False,
                "read_ahead": read_ahead,
            }
            otlp = {
                "endpoint": collector.endpoint,
                "tls": {"insecure": True},
                "sending_queue": queue,
                "timeout": "60s",  # nothing is sent twice, however long the Collector stands still
            }
            config = {
                "sources": {"tetragon": tetragon},
                "exporter": {"otlp_grpc": otlp},
                "memory_limiter": {"limit_mib": LIMIT_MIB},
            }
            return Burst(peer, stack.enter_context(Otelbee(tmp_path, config)), collector, events)

        yield start


@pytest.mark.alone
def test_nothing_is_lost_of_a_steady_stream(burst: Callable[..., Burst]) -> None:
    """60,000 events in three seconds, by the defaults."""
    running = burst(read_ahead="64MiB", rate=STEADY_RATE, events=STEADY_EVENTS)
    assert running.over() == 0
    running.arrives()


@pytest.mark.load
@pytest.mark.parametrize("run", range(5))
def test_nothing_is_lost_in_a_burst(run: int, burst: Callable[..., Burst]) -> None:  # noqa: ARG001 - five runs of the same
    """200,000 events in two seconds: the agent drops none, and the Collector has all of them."""
    running = burst()
    assert running.over() == 0
    running.arrives()


@pytest.mark.load
def test_nothing_is_lost_while_the_collector_stands_still(burst: Callable[..., Burst]) -> None:
    """For two seconds of the burst nothing is taken from otelbee: the queue holds it."""
    running = burst(queue_size="512MiB")
    with running.collector_stands_still():
        assert running.over() == 0
        running.otelbee.until(
            lambda: running.otelbee.metric("otelbee_exporter_queue_age_seconds") > 2, "nothing was taken for 2 s"
        )
    running.arrives()


@pytest.mark.alone
def test_what_a_small_queue_loses_is_counted(burst: Callable[..., Burst]) -> None:
    """With the queue full the agent drops: its count becomes ours, all else arrives, and memory stays in its limit."""
    running = burst(read_ahead="64MiB", queue_size="16MiB")
    otelbee, collector = running.otelbee, running.collector
    with running.collector_stands_still():
        dropped = running.over()
    assert dropped > 0
    running.arrives(dropped=dropped)
    assert otelbee.peak_bytes < LIMIT_MIB << 20
    assert otelbee.metric("otelbee_dropped_items") == 0
    running.peer.signal(signal.SIGHUP)  # what the agent counts is looked at with every new stream, and every 30 s
    lost = {"receiver": "tetragon", "reason": "listener_queue_full"}
    otelbee.until(lambda: otelbee.metric("otelbee_source_lost_records", **lost), "the loss is counted")
    assert otelbee.metric("otelbee_source_lost_records", **lost) == dropped
    collector.until(lambda: own_events(collector.records(), "otelbee.source.loss"), "the loss is told")
