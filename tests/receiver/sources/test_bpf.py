"""The socket of a bpf process, played by the frames that the real one writes: connect, read, lose, come back."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import struct
from collections import Counter
from typing import TYPE_CHECKING, Self

import pytest
from pydantic import ValidationError

from bpf import frames as writer
from receiver.errors import RecordingError, TooLarge
from receiver.net.backoff import Backoff
from receiver.sources.bpf import Config, Source, read_recorded
from receiver.types import Outcome
from translators.bpf.records import RECORDS_HASH
from translators.version import VERSION

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from pathlib import Path

    from translators.batch import Origin

IMPATIENT = Backoff(0.01, 0.05)
DEADLINE_S = 10.0


def hello(**changes: object) -> bytes:
    """The first frame, as of this version."""
    fields = {
        "version": VERSION,
        "boot_id": "b00t",
        "host_name": "node-1",
        "programs": {"exec": RECORDS_HASH, "exit": RECORDS_HASH},
        "pids": (4_000_001, 4_000_002),
    }
    return writer.hello(**{**fields, **changes})


CLOCK = writer.clock(1_000, 5_000)


def record(program: int, number: int) -> bytes:
    """A record that nothing but its header's size and program is read of."""
    return struct.pack("=IHHQ", 16, program, 0, number)


class Process:
    """Listens where a bpf process would, and answers each connection with the next script."""

    def __init__(self, path: Path, *scripts: Sequence[bytes]) -> None:
        """Answer with these; a connection after the last one is held open without a word."""
        self.path = path
        self._scripts = list(scripts)
        self._writers: list[asyncio.StreamWriter] = []
        self._connections = 0
        self._connected = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._answer, self.path)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop listening and end every connection."""
        self._server.close()
        await self.hang_up()
        await self._server.wait_closed()
        self.path.unlink(missing_ok=True)

    async def until(self, connections: int) -> None:
        """Wait until there were that many connections."""
        async with asyncio.timeout(DEADLINE_S):
            while self._connections < connections:
                self._connected.clear()
                await self._connected.wait()

    async def send(self, frame: bytes) -> None:
        """Send on the newest connection."""
        self._writers[-1].write(frame)
        await self._writers[-1].drain()

    async def hang_up(self) -> None:
        """End every connection."""
        for connection in self._writers:
            connection.close()
            with contextlib.suppress(OSError):
                await connection.wait_closed()
        self._writers.clear()

    async def _answer(self, _: asyncio.StreamReader, connection: asyncio.StreamWriter) -> None:
        self._writers.append(connection)
        self._connections += 1
        self._connected.set()
        script = self._scripts.pop(0) if self._scripts else ()
        for frame in script:
            if frame is HANG_UP:
                connection.close()
                return
            connection.write(frame)
        with contextlib.suppress(OSError):
            await connection.drain()


HANG_UP = b"hang up"


class Collected:
    """An intake that keeps what it is given."""

    def __init__(self) -> None:
        """Start with nothing."""
        self.records: list[tuple[str, bytes]] = []
        self.sizes: list[int] = []
        self.origins: list[Origin] = []
        self.states: list[tuple[bool, str]] = []
        self.events: list[tuple[str, dict[str, object]]] = []
        self.most = 1 << 30
        self.refused = 0
        self.open = asyncio.Event()
        self.open.set()
        self._changed = asyncio.Event()

    def started(self, address: str | None) -> None:
        """A source that connects has no address."""
        assert address is None

    def state(self, up: bool, reason: str) -> None:  # noqa: FBT001 - the seam's own wording
        """Keep a state."""
        self.states.append((up, reason))
        self._changed.set()

    async def emit(self, kind: str, records: Sequence[bytes], origin: Origin, *, wait: bool) -> Outcome:
        """Keep records; refuse more at once than ``most``."""
        assert wait
        await self.open.wait()
        if len(records) > self.most:
            self.refused += len(records) == 1
            self._changed.set()
            raise TooLarge
        self.records += ((kind, each) for each in records)
        self.sizes.append(len(records))
        self.origins.append(origin)
        self._changed.set()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return Outcome(len(records), (), done)

    async def event(self, name: str, attributes: Mapping[str, str | int | float | bool]) -> None:
        """Keep an event."""
        self.events.append((name, dict(attributes)))
        self._changed.set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until the condition holds."""
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


@contextlib.asynccontextmanager
async def running(config: Config) -> AsyncIterator[Collected]:
    """Run the source; cancel it at the end."""
    intake = Collected()
    task = asyncio.create_task(Source(config, backoff=IMPATIENT).run(intake))
    try:
        yield intake
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the bpf process listens."""
    return tmp_path / "bpf.sock"


async def test_records_arrive_by_kind(path: Path) -> None:
    """In order, up to 256 at a time, with what the bpf process said of itself and of its clock."""
    first = [record(1, number) for number in range(600)]
    second = [record(2, number) for number in range(3)]
    mixed = [second[0], *first, *second[1:]]
    async with Process(path, [hello(), CLOCK, writer.records(mixed)]), running(Config(socket=path)) as intake:
        await intake.until(lambda: len(intake.records) == 603)
    assert [each for kind, each in intake.records if kind == "exec"] == first
    assert [each for kind, each in intake.records if kind == "exit"] == second
    assert Counter(intake.sizes) == {256: 2, 88: 1, 3: 1}
    origin = intake.origins[0]
    assert origin.labels == {"boot_id": "b00t", "host_name": "node-1"}
    assert (origin.peer_version, origin.clock_offset_ns) == (VERSION, 4_000)
    assert {4_000_001, 4_000_002} <= origin.exclude.pids
    assert intake.states == [(True, f"connected to {path}, otelbee {VERSION} with exec, exit")]


async def test_clock_is_followed(path: Path) -> None:
    """Each clock frame holds for the records after it."""
    script = [
        hello(),
        CLOCK,
        writer.records([record(1, 0)]),
        writer.clock(1_000, 9_000),
        writer.records([record(1, 1)]),
    ]
    async with Process(path, script), running(Config(socket=path)) as intake:
        await intake.until(lambda: len(intake.records) == 2)
    assert [origin.clock_offset_ns for origin in intake.origins] == [4_000, 8_000]


async def test_own_processes_are_kept_when_asked_for(path: Path) -> None:
    """exclude_self: false excludes nobody."""
    script = [hello(), CLOCK, writer.records([record(1, 0)])]
    async with Process(path, script), running(Config(socket=path, exclude_self=False)) as intake:
        await intake.until(lambda: intake.records)
    assert intake.origins[0].exclude.pids == frozenset()


async def test_losses_are_reported(path: Path) -> None:
    """Each program and reason is an event with its count."""
    lost = writer.lost([(1, writer.BUFFER_FULL, 5), (2, writer.PEER_SLOW_OR_AWAY, 7)])
    async with Process(path, [hello(), CLOCK, lost]), running(Config(socket=path)) as intake:
        await intake.until(lambda: len(intake.events) == 2)
    assert intake.events == [
        (
            "otelbee.source.loss",
            {"otelbee.loss.program": "exec", "otelbee.loss.reason": "buffer_full", "otelbee.loss.records": 5},
        ),
        (
            "otelbee.source.loss",
            {"otelbee.loss.program": "exit", "otelbee.loss.reason": "receiver_slow_or_away", "otelbee.loss.records": 7},
        ),
    ]


async def test_gap_is_reported_once_after_coming_back(path: Path) -> None:
    """A bpf process that went away counted nothing: the time without it is one event."""
    script = [hello(), CLOCK]
    async with running(Config(socket=path)) as intake:
        async with Process(path, script):
            await intake.until(lambda: intake.states and intake.states[-1][0])
        await intake.until(lambda: not intake.states[-1][0])
        assert intake.events == []
        async with Process(path, script):
            await intake.until(lambda: intake.events)
    ((name, attributes),) = intake.events
    assert name == "otelbee.source.gap"
    assert attributes.keys() == {"otelbee.gap.from", "otelbee.gap.to", "otelbee.gap.reason"}
    assert attributes["otelbee.gap.from"] < attributes["otelbee.gap.to"]
    assert "ended the connection" in str(attributes["otelbee.gap.reason"])


async def test_first_connection_is_no_gap(path: Path) -> None:
    """A source that starts before the bpf process waits for it, and missed nothing that it ever had."""
    async with running(Config(socket=path)) as intake:
        await intake.until(lambda: intake.states)
        assert "does not exist: no bpf process runs there" in intake.states[0][1]
        async with Process(path, [hello(), CLOCK]):
            await intake.until(lambda: intake.states[-1][0])
    assert intake.events == []
    assert [up for up, _ in intake.states] == [False, True]


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ([HANG_UP], "another receiver is connected to it, or uid"),
        ([CLOCK], "another receiver is connected"),
        ([hello(version="9.9.9", programs={"exec": "0" * 64})], f"otelbee 9.9.9, this receiver {VERSION}"),
        ([b"HTTP/1.1 200 OK\r\n\r\n"], "is not the bpf process's: a frame claims"),
        ([hello(), CLOCK, b"\xff" * 5], "is not the bpf process's: a frame claims"),
        ([hello(), CLOCK, hello()], "a second hello came"),
        ([hello(), writer.records([record(1, 0)])], "records came before the clock"),
    ],
)
async def test_refusals_name_the_cause(path: Path, script: list[bytes], message: str) -> None:
    """What cannot be read is a state with its cause, and is tried again."""
    async with Process(path, script) as process, running(Config(socket=path)) as intake:
        await intake.until(lambda: any(message in reason for up, reason in intake.states if not up))
        await process.until(2)
    assert intake.records == []


async def test_socket_that_nobody_listens_at(path: Path) -> None:
    """A file that a killed process left behind is told from a missing one."""
    async with Process(path):
        os.link(path, path.with_name("stale"))
    async with running(Config(socket=path.with_name("stale"))) as intake:
        await intake.until(lambda: intake.states)
    assert "nobody listens" in intake.states[0][1]


async def test_programs_that_are_missing_are_named(path: Path) -> None:
    """Elsewhere the bpf process decides what runs; the state says what does not."""
    async with Process(path, [hello(programs={"exec": RECORDS_HASH})]), running(Config(socket=path)) as intake:
        await intake.until(lambda: intake.states)
    assert intake.states[0][1].endswith("with exec; it does not run exit")


async def test_batch_that_the_queue_can_never_hold_is_halved(path: Path) -> None:
    """Half of it may fit; a single record that does not is the intake's loss, and what follows still arrives."""
    records = [record(1, number) for number in range(256)]
    async with Process(path) as process, running(Config(socket=path)) as intake:
        intake.most = 100
        await process.until(1)
        await process.send(hello() + CLOCK + writer.records(records))
        await intake.until(lambda: len(intake.records) == 256)
        intake.most = 0
        await process.send(writer.records(records[:3]))
        await intake.until(lambda: intake.refused == 3)
        intake.most = 100
        await process.send(writer.records(records[:1]))
        await intake.until(lambda: len(intake.records) == 257)
    assert [each for _, each in intake.records] == [*records, records[0]]


async def test_full_queue_stops_the_reading(path: Path) -> None:
    """While the pipeline has no room nothing more is read: the socket fills, and the bpf process counts."""
    frame = writer.records([record(1, number) for number in range(4000)])
    async with Process(path) as process, running(Config(socket=path)) as intake:
        await process.until(1)
        intake.open.clear()
        await process.send(hello() + CLOCK)
        sent = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                while True:
                    await process.send(frame)
                    sent += 4000
        assert intake.records == []
        intake.open.set()
        await intake.until(lambda: len(intake.records) >= sent)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"programs": []}, "at least 1 item"),
        ({"programs": ["open"]}, "'exec' or 'exit'"),
        ({"socket": "bpf.sock"}, "must be an absolute path"),
        ({"endpoint": "x"}, "Extra inputs"),
    ],
)
def test_config_is_closed(section: dict[str, object], message: str) -> None:
    """What cannot be meant is refused."""
    with pytest.raises(ValidationError, match=message):
        Config.model_validate(section)


def test_recording() -> None:
    """A recording is the socket's bytes; its records are numbered, and one that is cut off says after which."""
    records = [record(1, 0), record(2, 1), record(1, 2)]
    data = hello() + CLOCK + writer.records(records[:2]) + writer.records(records[2:])
    found = list(read_recorded(io.BytesIO(data)))
    assert found == [("exec", 1, records[0]), ("exit", 2, records[1]), ("exec", 3, records[2])]
    with pytest.raises(RecordingError, match="after record 2: the last frame is cut off after 20 bytes"):
        list(read_recorded(io.BytesIO(data[:-1])))
    with pytest.raises(RecordingError, match="after record 0: a frame claims"):
        list(read_recorded(io.BytesIO(b"{}" * 10)))
