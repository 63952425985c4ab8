"""The whole service with a source of a few lines, and the real exporters: start order, stop order, restarts."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import aiohttp
import grpc
import pytest

from receiver.app import run
from receiver.config import Config, OwnTelemetry
from receiver.errors import PermanentSourceError, StartError
from receiver.exporters import debug, file, otlp_grpc
from receiver.fields import Section
from receiver.recording import read_numbered
from receiver.registry import Entry
from receiver.storage import Config as StorageConfig
from receiver.storage import Storage
from tests.receiver.exporters.otlp_server import Answer, Server, serve
from tests.receiver.tiny import LineTranslator, until
from translators.batch import Origin

if TYPE_CHECKING:
    from pathlib import Path

    from receiver.types import Intake

Behaviour = Callable[["Intake"], Awaitable[None]]


class Tiny:
    """A source that does what the test says."""

    def __init__(self, behaviour: Behaviour) -> None:
        """Run ``behaviour``, then be silent until cancelled."""
        self._behaviour = behaviour

    async def run(self, intake: Intake) -> None:
        """Be a source."""
        await self._behaviour(intake)
        await asyncio.Event().wait()


class Service:
    """One running service."""

    def __init__(
        self,
        behaviours: dict[str, Behaviour],
        exporter: Path | otlp_grpc.Config,
        address: str,
        timeout_s: float = 5,
        storage: Path | None = None,
    ) -> None:
        """Run a source for each of ``behaviours``, which are streams, and export to a file or a Collector."""
        self.shown = io.StringIO()
        self.address = address
        self.shutdown: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        config = Config(
            sources={f"tiny/{name}": Section() for name in behaviours},
            exporter=exporter if isinstance(exporter, otlp_grpc.Config) else file.Config(path=exporter),
            debug=debug.Config(),
            telemetry=OwnTelemetry(endpoint=address),
            shutdown_timeout=timedelta(seconds=timeout_s),
            storage=storage and StorageConfig(directory=storage),
        )
        left = list(behaviours.values())
        entry = Entry(
            Section,
            lambda *_: Tiny(left.pop(0) if len(left) > 1 else left[0]),
            lambda *_: LineTranslator(),
            read_numbered,
            "test",
            stream=storage is not None,
        )
        self.task = asyncio.create_task(run(config, self.shutdown, self.shown, registry={"tiny": entry}))

    async def ready(self) -> tuple[int, dict[str, Any]]:
        """What /ready says now; 0 while nobody listens."""
        try:
            async with aiohttp.ClientSession() as session, session.get(f"http://{self.address}/ready") as response:
                return response.status, await response.json()
        except aiohttp.ClientConnectorError:
            return 0, {}

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for a condition; the service must not end before."""
        await until(lambda: condition() or self.task.done())
        if self.task.done():
            self.task.result()

    async def until_ready_says(self, *expected: int) -> dict[str, Any]:
        """Wait for a status of /ready; gives the body."""
        async with asyncio.timeout(10):
            while (found := await self.ready())[0] not in expected:  # noqa: ASYNC110 - what is waited for is HTTP
                await asyncio.sleep(0.01)
        return found[1]

    async def stop(self) -> None:
        """Stop gracefully."""
        if not self.shutdown.done():
            self.shutdown.set_result(None)
        async with asyncio.timeout(10):
            await self.task


@asynccontextmanager
async def service(output: Path, port: int, **behaviours: Behaviour) -> AsyncIterator[Service]:
    """A service that is stopped at the end, whatever happened."""
    running = Service(behaviours, output, f"127.0.0.1:{port}")
    try:
        yield running
        await running.stop()
    finally:
        running.task.cancel()
        await asyncio.wait([running.task])


def bodies(output: Path) -> list[str]:
    """The bodies of all log records in a file of the file exporter."""
    return re.findall(r'"body":\{"stringValue":"([^"]*)"', output.read_text()) if output.exists() else []


async def test_records_flow_and_a_stop_drains(
    tmp_path: Path, free_port: Callable[[], int], caplog: pytest.LogCaptureFixture
) -> None:
    """What a source emitted right before the stop is in the file; the tap showed it; /ready was 200."""
    caplog.set_level(logging.INFO, "receiver")
    output = tmp_path / "out.jsonl"
    emitted = asyncio.Event()

    async def behave(intake: Intake) -> None:
        intake.started(None)
        intake.state(up=True, reason="")
        await intake.emit("line", [b"one", b"bad", b"two"], Origin(), wait=True)
        emitted.set()

    async with service(output, free_port(), a=behave) as running:
        await running.until(emitted.is_set)
        report = await running.until_ready_says(200)
        assert report["status"] == "ready"
        assert report["sources"] == {"tiny/a": {"up": True, "paused": False, "reason": "", "address": None}}
    assert bodies(output) == ["one", "two"]
    assert all(json.loads(line) for line in output.read_text().splitlines())
    assert "logs" in running.shown.getvalue().lower()
    texts = [record.getMessage() for record in caplog.records if record.name == "receiver.app"]
    assert texts == [
        f"Health and metrics are served at http://{running.address}",
        "Everything is ready. Begin running and processing data.",
        "Starting shutdown...",
        "Shutdown complete.",
    ]
    assert (await running.ready())[0] == 0


def to(server: Server) -> otlp_grpc.Config:
    """Export to a scripted Collector, and retry soon."""
    soon = {"initial_interval": "100ms", "max_interval": "100ms"}
    settings = {"endpoint": server.endpoint, "tls": {"insecure": True}, "retry_on_failure": soon}
    return otlp_grpc.Config.model_validate(settings)


async def emit_one(intake: Intake) -> None:
    """Start, and emit one record."""
    intake.started(None)
    await intake.emit("line", [b"one"], Origin(), wait=True)


async def test_a_stop_waits_for_the_collector(free_port: Callable[[], int]) -> None:
    """What is queued is delivered in the time there is, retries included."""
    async with serve(Server(script=deque([Answer(grpc.StatusCode.UNAVAILABLE)] * 3))) as server:
        running = Service({"a": emit_one}, to(server), f"127.0.0.1:{free_port()}")
        await running.until_ready_says(200)
        await running.stop()
        assert len(server.requests) == 4


async def test_a_stop_does_not_wait_for_ever(free_port: Callable[[], int], caplog: pytest.LogCaptureFixture) -> None:
    """A Collector that never answers costs the time of shutdown_timeout; what is lost is said."""
    async with serve(Server(script=deque([Answer(silent=True)]))) as server:
        running = Service({"a": emit_one}, to(server), f"127.0.0.1:{free_port()}", timeout_s=0.3)
        await running.until(lambda: server.requests)
        began = asyncio.get_running_loop().time()
        await running.stop()
        assert asyncio.get_running_loop().time() - began < 3
    assert "dropped 1 items of logs" in caplog.text


async def test_a_stop_does_not_wait_for_a_source_that_ignores_it(
    tmp_path: Path, free_port: Callable[[], int], caplog: pytest.LogCaptureFixture
) -> None:
    """Such a source costs half of shutdown_timeout and is named; what it emitted before is delivered all the same."""
    release, ended = asyncio.Event(), asyncio.Event()

    async def ignore(intake: Intake) -> None:
        await emit_one(intake)
        while not release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await release.wait()
        ended.set()
        raise asyncio.CancelledError

    running = Service({"a": ignore}, tmp_path / "out", f"127.0.0.1:{free_port()}", timeout_s=2)
    await running.until_ready_says(200)
    began = asyncio.get_running_loop().time()
    await running.stop()
    assert asyncio.get_running_loop().time() - began < 2
    assert "source tiny/a did not stop within 1.0 s and is left behind" in caplog.text
    assert bodies(tmp_path / "out") == ["one"]
    release.set()
    await ended.wait()


async def test_a_source_that_cannot_start_is_a_start_error(tmp_path: Path, free_port: Callable[[], int]) -> None:
    """An exception before started() ends the service with the source's name; the others are stopped."""
    stopped = asyncio.Event()

    async def fail(_: Intake) -> None:
        await asyncio.sleep(0)
        raise StartError("the socket may not be opened")

    async def wait(intake: Intake) -> None:
        intake.started(None)
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    running = Service({"a": wait, "b": fail}, tmp_path / "out", f"127.0.0.1:{free_port()}")
    with pytest.raises(StartError, match=r"^sources::tiny/b: the socket may not be opened$"):
        await running.task
    assert stopped.is_set()


async def test_a_source_that_raises_is_restarted(
    tmp_path: Path, free_port: Callable[[], int], caplog: pytest.LogCaptureFixture
) -> None:
    """After started() an exception is shown, counted and followed by a new attempt."""
    attempts = 0

    async def behave(intake: Intake) -> None:
        nonlocal attempts
        attempts += 1
        intake.started(None)
        if attempts == 1:
            raise ZeroDivisionError("a bug")
        intake.state(up=True, reason="")
        await intake.emit("line", [b"later"], Origin(), wait=True)

    output = tmp_path / "out"
    async with service(output, free_port(), a=behave) as running:
        await running.until(lambda: attempts == 1)
        await running.until(lambda: any("restarted in" in record.getMessage() for record in caplog.records))
        status, report = await running.ready()
        assert (status, "a bug; restarted in" in str(report)) == (200, True)
        await running.until(lambda: attempts == 2)
        async with aiohttp.ClientSession() as session, session.get(f"http://{running.address}/metrics") as response:
            assert 'otelbee_source_restarts{receiver="tiny/a"} 1.0' in await response.text()
    assert bodies(output) == ["later"]


@pytest.mark.parametrize("before", [True, False], ids=["before started", "after started"])
async def test_a_refused_source_is_left_down(tmp_path: Path, free_port: Callable[[], int], *, before: bool) -> None:
    """A permanent error is shown with its reason, not retried, and the service runs on."""
    attempts = 0

    async def refused(intake: Intake) -> None:
        nonlocal attempts
        attempts += 1
        if not before:
            intake.started(None)
        raise PermanentSourceError("the filter is malformed")

    async def behave(intake: Intake) -> None:
        intake.started(None)
        await intake.emit("line", [b"goes on"], Origin(), wait=True)

    output = tmp_path / "out"
    async with service(output, free_port(), a=refused, b=behave) as running:
        await running.until(lambda: attempts == 1)
        assert "the filter is malformed" in str(await running.until_ready_says(200))
    assert attempts == 1
    assert bodies(output) == ["goes on"]


async def test_stopping_does_not_wait_for_a_start(tmp_path: Path, free_port: Callable[[], int]) -> None:
    """A source that is still starting is cancelled like any other; it is not ready until then."""

    async def never(_: Intake) -> None:
        await asyncio.Event().wait()

    async with service(tmp_path / "out", free_port(), a=never) as running:
        assert (await running.until_ready_says(503))["status"] == "starting"


async def test_cancelling_stops_at_once(tmp_path: Path, free_port: Callable[[], int]) -> None:
    """What a second signal does: nothing is drained, nothing is left running."""

    async def behave(intake: Intake) -> None:
        intake.started(None)

    running = Service({"a": behave}, tmp_path / "out", f"127.0.0.1:{free_port()}")
    await asyncio.sleep(0)
    running.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running.task


async def test_a_taken_port_is_a_start_error(tmp_path: Path) -> None:
    """Two services on one host: the second says which key to change."""
    listener = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    address = f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    async with listener:
        running = Service({"a": lambda _: asyncio.sleep(0)}, tmp_path / "out", address)
        with pytest.raises(StartError, match=f"telemetry::endpoint: cannot listen on {address}: another process"):
            await running.task


async def test_storage_carries_over_a_restart(tmp_path: Path, free_port: Callable[[], int]) -> None:
    """What one run could not deliver the next one does, and its gap begins at the last event that was stored."""
    output, storage = tmp_path / "out", tmp_path / "storage"
    async with serve(Server(script=deque([Answer(grpc.StatusCode.UNAVAILABLE)] * 100))) as server:
        running = Service({"a": emit_one}, to(server), f"127.0.0.1:{free_port()}", timeout_s=0.5, storage=storage)
        await running.until(lambda: server.requests)
        await running.stop()
    stored_by_ns = time.time_ns()
    running = Service({"a": emit_one}, output, f"127.0.0.1:{free_port()}", storage=storage)
    await running.until(lambda: bodies(output).count("one") == 2)
    await running.stop()
    gaps = list(re.findall(r"otelbee.gap.from=(\S+)", output.read_text()))
    assert gaps[0] == "unknown"
    since = datetime.fromisoformat(gaps[1]).timestamp()
    assert stored_by_ns / 1e9 - 10 < since < stored_by_ns / 1e9
    async with Storage(StorageConfig(directory=storage)) as opened:
        assert not opened.backlog
