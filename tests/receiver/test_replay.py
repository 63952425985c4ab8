"""The replay is the real gRPC service: the source reads it as it reads an agent."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from google.protobuf import json_format

from receiver.errors import StartError
from receiver.net.grpc import channel, unary
from receiver.net.tls import ClientTLS
from receiver.replay import read_events, serve
from receiver.sources.tetragon import Config
from tests.receiver.sources.agent import event, running
from translators.pb import tetragon_pb2
from translators.version import VERSION

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

EVENTS = [event(number) for number in range(300)]


def recording(folder: Path) -> Path:
    """A recording of :data:`EVENTS`."""
    path = folder / "events.pb.gz"
    path.write_bytes(gzip.compress(b"".join(len(item).to_bytes(4, "big") + item for item in EVENTS)))
    return path


@contextlib.asynccontextmanager
async def replaying(
    path: Path, listen: str, *, rate: float | None = None, loop: bool = False, now: bool = False
) -> AsyncIterator[str]:
    """Serve a recording; the value is its address."""
    shutdown = asyncio.Event()
    address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as group:
        group.create_task(
            serve(path, listen, shutdown=shutdown.wait(), rate=rate, loop=loop, now=now, started=address.set_result)
        )
        async with asyncio.timeout(20):
            yield await address
            shutdown.set()


@pytest.mark.parametrize("where", ["tcp", "unix"])
async def test_the_whole_recording_arrives(tmp_path: Path, where: str) -> None:
    """Every event, in order, over both kinds of address; then the stream stays open, as an agent's does."""
    listen = "127.0.0.1:0" if where == "tcp" else f"unix://{tmp_path}/t.sock"
    async with replaying(recording(tmp_path), listen) as address, running(Config(endpoint=address)) as intake:
        await intake.until(lambda: len(intake.records) == len(EVENTS))
        assert intake.states == [(True, f"connected to {address}, Tetragon replay by otelbee {VERSION}")]
    assert intake.records == EVENTS


async def test_json_lines_are_served_as_messages(tmp_path: Path) -> None:
    """Tetragon's own export can be replayed; the messages are what the agent would have sent."""
    path = tmp_path / "export.json"
    lines = [
        json_format.MessageToJson(tetragon_pb2.GetEventsResponse.FromString(item), indent=None).encode()
        for item in EVENTS
    ]
    path.write_bytes(b"\n".join(lines))
    assert read_events(path) == EVENTS


async def test_a_loop_begins_anew(tmp_path: Path) -> None:
    """The recording repeats without end."""
    async with (
        replaying(recording(tmp_path), "127.0.0.1:0", loop=True) as address,
        running(Config(endpoint=address)) as intake,
    ):
        await intake.until(lambda: len(intake.records) > 2 * len(EVENTS))
    assert intake.records[: 2 * len(EVENTS)] == [*EVENTS, *EVENTS]


async def test_events_may_happen_now(tmp_path: Path) -> None:
    """An old recording can be played as if it happened now: an event keeps how long its process had run, and its labels."""
    event_ = tetragon_pb2.GetEventsResponse(process_exit=tetragon_pb2.ProcessExit(), node_labels={"rack": "7"})
    event_.time.FromSeconds(1_000_000_000)
    event_.process_exit.process.start_time.FromSeconds(1_000_000_000 - 60)
    path = tmp_path / "events"
    path.write_bytes(event_.ByteSize().to_bytes(4, "big") + event_.SerializeToString())
    began_ns = time.time_ns()
    async with replaying(path, "127.0.0.1:0", now=True) as address, running(Config(endpoint=address)) as intake:
        await intake.until(lambda: len(intake.records) == 1)
    played = tetragon_pb2.GetEventsResponse.FromString(intake.records[0])
    assert began_ns <= played.time.ToNanoseconds() <= time.time_ns()
    assert played.time.ToNanoseconds() - played.process_exit.process.start_time.ToNanoseconds() == 60 * 10**9
    assert played.node_labels == {"rack": "7"}


async def test_a_rate_is_kept(tmp_path: Path) -> None:
    """Events come no faster than asked for."""
    clock = asyncio.get_running_loop()
    async with replaying(recording(tmp_path), "127.0.0.1:0", rate=500) as address:
        began_s = clock.time()
        async with running(Config(endpoint=address)) as intake:
            await intake.until(lambda: len(intake.records) == len(EVENTS))
    assert clock.time() - began_s >= (len(EVENTS) - 1) / 500


async def test_health_is_the_agents_answer(tmp_path: Path) -> None:
    """One entry, running."""
    async with (
        replaying(recording(tmp_path), "127.0.0.1:0") as address,
        channel(address, ClientTLS(insecure=True)) as over,
    ):
        answer = await unary(over, "/tetragon.FineGuidanceSensors/GetHealth", b"", timeout_s=10)
    (status,) = tetragon_pb2.GetHealthStatusResponse.FromString(answer).health_status
    assert (status.status, status.details) == (tetragon_pb2.HEALTH_STATUS_RUNNING, "running")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no event; record some with: tetra getevents"),
        (b'{"node_name": 1}\n', "line 1 is no event of Tetragon"),
        (b'{"node_name": "n"}\nnothing\n', "line 2 is no event of Tetragon"),
        (b"\0\0\0\xff cut", "message 1 at offset 0 is cut off"),
        (b"\x1f\x8b damaged", "gzip data is damaged"),
    ],
)
def test_a_recording_of_no_use_says_where(tmp_path: Path, content: bytes, message: str) -> None:
    """The error names the file and the line or message."""
    path = tmp_path / "events"
    path.write_bytes(content)
    with pytest.raises(StartError, match=f"{path}.*{message}"):
        read_events(path)


def test_a_missing_recording_is_named(tmp_path: Path) -> None:
    """As is one that cannot be read."""
    with pytest.raises(StartError, match="none cannot be read: No such file"):
        read_events(tmp_path / "none")


@pytest.mark.parametrize("listen", ["here", "unix://relative", "127.0.0.1:70000"])
async def test_an_address_that_is_none_is_a_start_error(tmp_path: Path, listen: str) -> None:
    """The message begins with the option."""
    with pytest.raises(StartError, match=f"--listen: {listen} is not"):
        await serve(recording(tmp_path), listen, shutdown=asyncio.get_running_loop().create_future())


async def test_a_socket_needs_its_folder(tmp_path: Path) -> None:
    """The message names the folder, which gRPC's own would not."""
    missing = tmp_path / "missing"
    with pytest.raises(StartError, match=f"there is no folder {missing}"):
        await serve(
            recording(tmp_path), f"unix://{missing}/x.sock", shutdown=asyncio.get_running_loop().create_future()
        )


async def test_an_address_in_use_is_a_start_error(tmp_path: Path) -> None:
    """Two replays cannot share a port."""
    async with replaying(recording(tmp_path), "127.0.0.1:0") as address:
        with pytest.raises(StartError, match="cannot be bound: it is in use"):
            await serve(recording(tmp_path), address, shutdown=asyncio.get_running_loop().create_future())


def test_the_bundled_recording_is_varied() -> None:
    """What ``make run`` shows has every common kind."""
    path = Path(__file__).resolve().parents[2] / "examples/tetragon-demo.pb.gz"
    kinds = {tetragon_pb2.GetEventsResponse.FromString(item).WhichOneof("event") for item in read_events(path)}
    assert {"process_exec", "process_exit", "process_kprobe"} <= kinds
    assert path.stat().st_size <= 60_000
