"""Health and metrics over real HTTP."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from receiver.errors import StartError
from receiver.health import Health, serve
from receiver.intake import SourceIntake
from receiver.peers import Peers
from receiver.registry import Shared
from receiver.telemetry import Telemetry
from tests.receiver.tiny import LineTranslator, TinyQueue
from translators.batch import Signal
from translators.resource import ResourceOptions
from translators.version import VERSION

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Served:
    """A health endpoint on a free port, and what it reports on."""

    def __init__(self) -> None:
        """Report on one source."""
        self.telemetry = Telemetry(CollectorRegistry())
        self.intake = SourceIntake(
            "tetragon", LineTranslator(), TinyQueue(), self.telemetry, Shared(ResourceOptions(), None)
        )
        self.health = Health(self.telemetry)
        self.health.sources = {"tetragon": self.intake}
        self.address = ""

    async def get(self, path: str) -> tuple[int, str, Any]:
        """Status, content type and body."""
        async with aiohttp.ClientSession() as session, session.get(f"http://{self.address}{path}") as response:
            body = await (response.json() if response.content_type == "application/json" else response.text())
            return response.status, response.headers["Content-Type"], body


@pytest_asyncio.fixture(name="served")
async def _served() -> AsyncIterator[Served]:
    served = Served()
    async with serve(served.health, "127.0.0.1:0") as served.address:
        yield served
    served.intake.close()


async def test_live_from_the_first_moment(served: Served) -> None:
    """/live answers while the service still starts."""
    assert await served.get("/live") == (
        200,
        "application/json; charset=utf-8",
        {"status": "live", "version": VERSION},
    )


async def test_ready_follows_the_phase(served: Served) -> None:
    """503 while starting and stopping, 200 between."""
    found = {}
    for phase in ("starting", "running", "stopping"):
        served.health.phase = phase
        status, _, body = await served.get("/ready")
        found[phase] = (status, body["status"])
    assert found == {"starting": (503, "starting"), "running": (200, "ready"), "stopping": (503, "stopping")}


async def test_a_peer_that_is_away_is_no_reason_to_be_not_ready(served: Served) -> None:
    """The state of each source is in the body only."""
    served.health.phase = "running"
    served.intake.started("localhost:1")
    served.intake.state(up=False, reason="connection refused")
    status, _, body = await served.get("/ready")
    assert status == 200
    assert body["sources"] == {
        "tetragon": {"up": False, "paused": False, "reason": "connection refused", "address": "localhost:1"}
    }


async def test_what_is_held_says_what_to_do(served: Served) -> None:
    """By signal, in the body only, while it lasts."""
    served.health.phase = "running"
    served.telemetry.held(Signal.TRACES, "add a traces pipeline")
    status, _, body = await served.get("/ready")
    assert (status, body["exporter"]["held"]) == (200, {"traces": "add a traces pipeline"})
    served.telemetry.held(Signal.TRACES, "")
    assert (await served.get("/ready"))[2]["exporter"]["held"] == {}


async def test_a_full_queue_is(served: Served) -> None:
    """Not ready while the queue of a signal accepts nothing; the body names it and shows all levels, in bytes."""
    served.health.phase = "running"
    served.telemetry.queue(Signal.LOGS, 100, 100)
    served.telemetry.queue(Signal.TRACES, 0, 100)
    status, _, body = await served.get("/ready")
    assert (status, body["status"]) == (503, "queue full: logs")
    assert body["queue"] == {
        "logs": {"size_bytes": 100, "capacity_bytes": 100, "full": False},
        "traces": {"size_bytes": 0, "capacity_bytes": 100, "full": False},
    }
    served.telemetry.queue(Signal.LOGS, 99, 100)
    assert (await served.get("/ready"))[0] == 200
    served.telemetry.queue(Signal.LOGS, 99, 100, full=True)
    assert (await served.get("/ready"))[0] == 503, "whoever came last found no room"


async def test_a_full_queue_of_what_is_derived_is_not(served: Served) -> None:
    """Spans that are made of logs may be dropped: their full queue refuses nobody."""
    served.health.phase = "running"
    served.health.derived = lambda: {Signal.TRACES}
    served.telemetry.queue(Signal.TRACES, 100, 100)
    status, _, body = await served.get("/ready")
    assert (status, body["status"]) == (200, "ready")
    served.health.derived = set
    assert (await served.get("/ready"))[0] == 503


async def test_what_is_held_and_who_is_refused_is_said(served: Served) -> None:
    """The body has what a person has to do, and the ten senders that are refused most, the worst first."""
    served.telemetry.held(Signal.LOGS, "correct the token")
    for number in range(20):
        for _ in range(number):
            served.intake.refused("unauthenticated", f"192.0.2.{number}")
    _, _, body = await served.get("/ready")
    assert body["exporter"] == {"held": {"logs": "correct the token"}}
    assert [(each["peer"], each["refused"]) for each in body["worst_peers"]] == [
        (f"192.0.2.{number}", number) for number in range(19, 9, -1)
    ]
    assert body["worst_peers"][0]["reason"] == "unauthenticated"


def test_peers_are_forgotten() -> None:
    """What is remembered of senders is bounded, however many addresses there are."""
    peers = Peers()
    for number in range(5000):
        peers.refused(str(number), "malformed", number)
    assert len(peers.worst(10_000)) == 1024
    assert peers.worst(1)[0][0] == "4999"


async def test_metrics_are_prometheus_text(served: Served) -> None:
    """/metrics has the content type and the names that Prometheus reads."""
    served.telemetry.accepted("tetragon", Signal.LOGS, 3)
    status, kind, body = await served.get("/metrics")
    assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert 'otelbee_receiver_accepted_log_records{receiver="tetragon"} 3.0' in body


async def test_nothing_else_is_there(served: Served) -> None:
    """Other paths and methods are refused."""
    assert (await served.get("/"))[0] == 404
    async with aiohttp.ClientSession() as session, session.post(f"http://{served.address}/ready") as response:
        assert response.status == 405


async def test_localhost_is_every_address_of_this_name() -> None:
    """``localhost`` is bound where this machine has it: IPv4, IPv6 or both."""
    served = Served()
    async with serve(served.health, "localhost:0") as served.address:
        assert (await served.get("/live"))[0] == 200
    served.intake.close()


async def test_an_address_that_cannot_be_bound_names_its_key() -> None:
    """A taken port and a foreign address are start errors."""
    health = Served().health
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(StartError, match=f"telemetry::endpoint: cannot listen on {endpoint}: another process"):
            async with serve(health, endpoint):
                pass
    with pytest.raises(StartError, match=r"telemetry::endpoint: cannot listen on 192.0.2.1:80: Cannot assign"):
        async with serve(health, "192.0.2.1:80"):
            pass
    with pytest.raises(StartError, match=r"telemetry::endpoint: cannot listen on no-such-host.invalid:80"):
        async with serve(health, "no-such-host.invalid:80"):
            pass
