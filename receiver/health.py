"""What otelbee says about itself over HTTP: ``/metrics``, ``/live`` and ``/ready``."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aiohttp import web

from receiver.errors import StartError
from receiver.net.listen import listen, show_address
from translators.version import VERSION

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Callable, Collection, Mapping

    from receiver.intake import SourceIntake
    from receiver.storage import Storage
    from receiver.telemetry import Telemetry
    from translators.batch import Signal

_WORST = 10


class Health:
    """What ``/ready`` answers from; the composition root keeps it up to date."""

    def __init__(self, telemetry: Telemetry) -> None:
        """Report on the queues that ``telemetry`` knows of, and on no source yet."""
        self.phase = "starting"
        """``starting``, ``running`` or ``stopping``."""
        self.telemetry = telemetry
        self.sources: Mapping[str, SourceIntake] = {}
        """By instance name."""
        self.storage: Storage | None = None
        """Where the queues are, if not in memory."""
        self.derived: Callable[[], Collection[Signal]] = tuple
        """Signals that no source receives, but that are made of what sources emit: theirs may be dropped."""

    def report(self) -> tuple[bool, dict[str, Any]]:
        """Whether otelbee is ready, and why: a peer that is away is in the body, but no reason to be not ready."""
        queues, derived = self.telemetry.queues(), self.derived()
        full = [
            signal.value
            for signal, level in queues.items()
            if (level.full or level.size_bytes >= level.capacity_bytes) and signal not in derived
        ]
        problems = [f"queue full: {', '.join(full)}"] if full else []
        if self.storage is not None and self.storage.problem:
            problems.append(f"storage: {self.storage.problem}")
        ready = self.phase == "running" and not problems
        return ready, {
            "status": "ready" if ready else "; ".join(problems) or self.phase,
            "version": VERSION,
            "sources": {
                name: {
                    "up": intake.current.up,
                    "paused": intake.current.paused,
                    "reason": intake.current.reason,
                    "address": intake.current.address,
                }
                for name, intake in self.sources.items()
            },
            "exporter": {"held": {signal.value: remedy for signal, remedy in self.telemetry.remedies().items()}},
            "queue": {signal.value: level._asdict() for signal, level in queues.items()},
            "worst_peers": self._worst_peers(),
        }

    def _worst_peers(self) -> list[dict[str, Any]]:
        """The senders that are refused most, over all sources."""
        found = [
            (peer.refused, name, address, peer)
            for name, intake in self.sources.items()
            for address, peer in intake.peers.worst(_WORST)
        ]
        return [
            {
                "source": name,
                "peer": address,
                "refused": refused,
                "reason": peer.reason,
                "last": datetime.fromtimestamp(peer.last_ns / 1e9, UTC).isoformat(timespec="seconds"),
            }
            for refused, name, address, peer in sorted(found, reverse=True)[:_WORST]
        ]


_HEALTH = web.AppKey("health", Health)


@asynccontextmanager
async def serve(health: Health, endpoint: str) -> AsyncIterator[str]:
    """Serve at ``endpoint`` (``host:port``, port 0 for any) while the context is open; gives the address bound.

    Raises:
        StartError: the address cannot be bound.
    """
    application = web.Application()
    application[_HEALTH] = health
    application.add_routes([web.get("/metrics", _metrics), web.get("/live", _live), web.get("/ready", _ready)])
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
    async with AsyncExitStack() as stack:
        listeners = _listen(endpoint)
        for listener in listeners:
            stack.callback(listener.close)
        stack.push_async_callback(runner.cleanup)
        await runner.setup()
        for listener in listeners:
            await web.SockSite(runner, listener).start()
        yield show_address(listeners[0])


def _listen(endpoint: str) -> list[socket.socket]:
    try:
        return listen(endpoint)
    except StartError as error:
        raise StartError(f"telemetry::endpoint: {error}") from error


async def _metrics(request: web.Request) -> web.Response:
    return web.Response(
        body=request.app[_HEALTH].telemetry.exposition(),
        headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
    )


async def _live(_: web.Request) -> web.Response:
    return web.json_response({"status": "live", "version": VERSION})


async def _ready(request: web.Request) -> web.Response:
    ready, report = request.app[_HEALTH].report()
    return web.json_response(report, status=200 if ready else 503)
