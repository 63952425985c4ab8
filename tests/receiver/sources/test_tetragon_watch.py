"""What is watched beside the stream: a scripted agent's policies, and its metrics over real HTTP."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import grpc.aio
import pytest
from aiohttp import web

from receiver.sources.tetragon.watch import REASONS, Unknown, Watch, metrics_address
from tests.receiver.sources.agent import Agent, Collected
from translators.pb import tetragon_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

ALL_WELL = """\
# HELP tetragon_bpf_missed_events_total Number of Tetragon perf events that are failed to be sent from the kernel.
# TYPE tetragon_bpf_missed_events_total counter
tetragon_bpf_missed_events_total{error="EAGAIN",msg_op="5"} 2
tetragon_bpf_missed_events_total{error="unknown",msg_op="23"} 3
tetragon_notify_overflowed_events_total 1e+02
tetragon_notify_overflowed_events_total_of_another 7
tetragon_observer_ringbuf_errors_total 0
tetragon_observer_ringbuf_events_lost_total 0
tetragon_observer_ringbuf_queue_events_lost_total 0
process_cpu_seconds_total 9
"""


class Metrics:
    """The agent's metrics endpoint; ``status`` is what it answers with."""

    def __init__(self) -> None:
        """Start without losses."""
        self.text = ALL_WELL
        self.status = 200

    async def answer(self, _: web.Request) -> web.Response:
        """Answer as told."""
        return web.Response(text=self.text, status=self.status)


class Watched:
    """A watch at work, with a short interval."""

    def __init__(self, agent: Agent, metrics: Metrics) -> None:
        """Keep what is watched."""
        self.agent = agent
        self.metrics = metrics
        self.intake = Collected()

    async def looks(self, count: int = 2) -> None:
        """Wait for so many more looks, so that what is set now was surely seen."""
        seen = len(self.intake.known_losses)
        await self.intake.until(lambda: len(self.intake.known_losses) >= seen + count)

    def events(self, name: str) -> list[dict[str, str | int | float | bool]]:
        """The events of one name, without their times."""
        return [
            {key: value for key, value in attributes.items() if not key.endswith((".from", ".to"))}
            for found, attributes in self.intake.events
            if found == name
        ]


@asynccontextmanager
async def watched(folder: Path, agent: Agent) -> AsyncIterator[Watched]:
    """Watch ``agent`` through a discovery file, as the agent writes it."""
    metrics = Metrics()
    application = web.Application()
    application.router.add_get("/metrics", metrics.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    async with agent:
        endpoint = f"127.0.0.1:{agent.port}"
        file = folder / "tetragon-info.json"
        file.write_text(json.dumps({"server_address": endpoint, "metrics_address": f"127.0.0.1:{port}"}))
        seen = Watched(agent, metrics)
        async with grpc.aio.insecure_channel(endpoint) as connection:
            task = asyncio.create_task(Watch(file, interval_s=0.02).run(seen.intake, connection, endpoint))
            try:
                yield seen
            finally:
                task.cancel()
                await asyncio.wait({task})
                await runner.cleanup()


async def test_an_increase_is_an_event(tmp_path: Path) -> None:
    """What was lost before the first look is none; then each increase is, once, with its time."""
    async with watched(tmp_path, Agent()) as seen:
        await seen.looks()
        assert seen.intake.known_losses[-1] == {
            "kernel_missed": 5,
            "listener_queue_full": 100,
            "ring_buffer_error": 0,
            "ring_buffer_full": 0,
            "observer_queue_full": 0,
        }
        assert seen.events("otelbee.source.loss") == []
        seen.metrics.text = ALL_WELL.replace('msg_op="5"} 2', 'msg_op="5"} 9').replace("1e+02", "101")
        await seen.looks(4)
    assert seen.events("otelbee.source.loss") == [
        {"otelbee.loss.reason": "kernel_missed", "otelbee.loss.records": 7},
        {"otelbee.loss.reason": "listener_queue_full", "otelbee.loss.records": 1},
    ]
    (_, first), _ = seen.intake.events
    assert str(first["otelbee.loss.from"]) < str(first["otelbee.loss.to"])


async def test_counters_of_a_restarted_agent_begin_at_zero(tmp_path: Path) -> None:
    """A count below the last one is all new."""
    async with watched(tmp_path, Agent()) as seen:
        await seen.looks()
        seen.metrics.text = ALL_WELL.replace("1e+02", "4").replace('msg_op="5"} 2', 'msg_op="5"} 0')
        await seen.looks(4)
    assert seen.events("otelbee.source.loss") == [
        {"otelbee.loss.reason": "kernel_missed", "otelbee.loss.records": 3},
        {"otelbee.loss.reason": "listener_queue_full", "otelbee.loss.records": 4},
    ]


async def test_unreachable_is_unknown_and_not_zero(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """While the metrics cannot be read nothing is claimed; what was lost meanwhile is reported afterwards."""
    caplog.set_level("INFO")
    async with watched(tmp_path, Agent()) as seen:
        await seen.looks()
        seen.metrics.status = 503
        await seen.looks()
        assert seen.intake.known_losses[-1] is None
        seen.metrics.text = ALL_WELL.replace("1e+02", "150")
        seen.metrics.status = 200
        await seen.looks()
    assert seen.events("otelbee.source.loss") == [
        {"otelbee.loss.reason": "listener_queue_full", "otelbee.loss.records": 50}
    ]
    said = [record.getMessage() for record in caplog.records if "losses" in record.getMessage()]
    assert [text.partition(":")[0] for text in said] == [
        "the agent's own losses are watched",
        "the agent's own losses are unknown",
        "the agent's own losses are watched",
    ]
    assert seen.intake.known_losses[-1] is None, "nor after the connection has ended"


@pytest.mark.parametrize("text", ["", "<html>", "tetragon_observer_ringbuf_errors_total many"])
async def test_what_is_no_metrics_page_is_unknown(tmp_path: Path, text: str) -> None:
    """Another service on that port, or an agent without these counters, has not lost nothing."""
    async with watched(tmp_path, Agent()) as seen:
        seen.metrics.text = text
        await seen.looks(3)
        assert seen.intake.known_losses[-1] is None


async def test_a_policy_in_error_is_an_event_once_per_change(tmp_path: Path) -> None:
    """Load errors and run-time errors are; a policy that works is not, and one that fails again is again."""
    policy = tetragon_pb2.TracingPolicyStatus
    good = policy(name="good", state=tetragon_pb2.TP_STATE_ENABLED)
    broken = policy(name="files", namespace="shop", state=tetragon_pb2.TP_STATE_LOAD_ERROR, error="no such symbol")
    agent = Agent()
    agent.policies = [good, broken]
    expected = {
        "tetragon.policy.name": "files",
        "tetragon.policy.namespace": "shop",
        "otelbee.policy.state": "load_error",
        "otelbee.policy.error": "no such symbol",
    }
    async with watched(tmp_path, agent) as seen:
        await seen.looks(4)
        assert seen.events("otelbee.source.policy_error") == [expected]
        agent.policies = [good]
        await seen.looks(4)
        agent.policies = [policy(name="net", state=tetragon_pb2.TP_STATE_PARTIALLY_ENABLED), good, broken]
        await seen.looks(4)
    partial = {
        "tetragon.policy.name": "net",
        "otelbee.policy.state": "partially_enabled",
        "otelbee.policy.error": "",
    }
    assert seen.events("otelbee.source.policy_error") == [expected, partial, expected]


async def test_an_agent_that_lists_no_policies_is_asked_once(tmp_path: Path) -> None:
    """Old agents have no such call."""
    async with watched(tmp_path, Agent()) as seen:
        await seen.looks(4)
        assert seen.agent.listed == 1


@pytest.mark.parametrize(
    ("info", "endpoint", "expected"),
    [
        ({"server_address": "unix:///a.sock", "metrics_address": ":2112"}, "unix:///a.sock", "localhost:2112"),
        ({"server_address": "unix:///a.sock", "metrics_address": "[::]:2112"}, "unix:///b.sock", "localhost:2112"),
        ({"server_address": "0.0.0.0:54321", "metrics_address": "n:1"}, "localhost:54321", "n:1"),
        ({"server_address": "localhost:54321", "metrics_address": "n:1"}, "127.0.0.1:54321", "n:1"),
    ],
)
def test_where_the_metrics_are(tmp_path: Path, info: dict[str, str], endpoint: str, expected: str) -> None:
    """The file's address, as it can be reached from this host."""
    file = tmp_path / "info.json"
    file.write_text(json.dumps(info))
    assert metrics_address(file, endpoint) == expected


@pytest.mark.parametrize(
    ("info", "endpoint", "message"),
    [
        (None, "unix:///a.sock", "does not exist"),
        ({"server_address": "unix:///a.sock"}, "unix:///a.sock", "--metrics-server"),
        ({"server_address": "unix:///a.sock", "metrics_address": ""}, "unix:///a.sock", "--metrics-server"),
        ({"server_address": "localhost:54321", "metrics_address": ":1"}, "elsewhere:54321", "is of the agent at"),
    ],
)
def test_why_the_metrics_are_not_known(
    tmp_path: Path, info: dict[str, str] | None, endpoint: str, message: str
) -> None:
    """Without the file, without metrics, or with another agent's file there is nothing to look at, in words."""
    file = tmp_path / "info.json"
    if info is not None:
        file.write_text(json.dumps(info))
    with pytest.raises(Unknown, match=message):
        metrics_address(file, endpoint)


def test_the_counters_are_the_agents() -> None:
    """Every counter that the recorded page has of losses is read."""
    for name in REASONS:
        assert name in ALL_WELL
