"""Our own kernel programs: the records of the bpf process (``bpf/``), read from its unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Literal, NamedTuple

from pydantic import AfterValidator, Field

from receiver import own_events
from receiver.errors import RecordingError, TooLarge
from receiver.fields import Section
from receiver.identity import self_exclude
from receiver.net.backoff import Backoff
from receiver.recording import Recorded
from receiver.sources.process_spans import Binaries, chosen
from translators.batch import Exclude, Origin
from translators.bpf import Options, frames
from translators.bpf.translator import BOOT_ID, HOST_NAME

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from receiver.types import Intake
    from translators.redact import Redactor
    from translators.resource import ResourceOptions

DEFAULT_SOCKET = Path("/run/otelbee/bpf.sock")

_READ_SIZE = 256 * 1024
_TURN_RECORDS = 256


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError(f"must be an absolute path, for example {DEFAULT_SOCKET}")
    return path


class Config(Section):
    """Events of this host's kernel, from programs of our own."""

    programs: Annotated[tuple[Literal["exec", "exit"], ...], Field(min_length=1)] = ("exec", "exit")
    """The programs that ``otelbee run`` as root loads; elsewhere those of the bpf process that is connected to."""
    socket: Annotated[Path, AfterValidator(_absolute)] = DEFAULT_SOCKET
    """The unix socket of the bpf process."""
    exclude_self: bool = True
    """Drop, and count, the events of otelbee itself."""

    process_spans: bool | Binaries = False
    """Also a span for each process that ends, or for each of these."""

    def options(self, resource: ResourceOptions, redactor: Redactor | None) -> Options:
        """Return what the translator needs to know."""
        return Options(resource, redactor, chosen(self.process_spans))


class _Problem(NamedTuple):
    """Why there is no stream. Problems of one ``kind`` are one state, however their texts differ."""

    kind: str
    text: str


class Source:
    """Reads the bpf process's records for as long as it runs.

    The bpf process counts what nobody fetched, so a receiver that was away learns of it as a loss. A bpf process that
    was away counted nothing: each such time is reported as one ``otelbee.source.gap``.
    """

    def __init__(self, config: Config, *, backoff: Backoff | None = None) -> None:
        """Keep the configuration; nothing is opened before :meth:`run`."""
        self._config = config
        self._backoff = backoff or Backoff()
        self._own = self_exclude() if config.exclude_self else Exclude()
        self._lost_at: tuple[str, str] | None = None
        self._said: tuple[bool, str] | None = None

    async def run(self, intake: Intake) -> None:
        """Read until cancelled."""
        intake.started(None)
        loop = asyncio.get_running_loop()
        delays = self._backoff.delays_s()
        while True:
            begun = loop.time()
            problem = await self._session(intake)
            self._say(intake, up=False, kind=problem.kind, reason=problem.text)
            if loop.time() - begun > self._backoff.max_s:
                delays = self._backoff.delays_s()
            await asyncio.sleep(next(delays))

    async def _session(self, intake: Intake) -> _Problem:
        """Connect and read to the end of one stream; return why it ended."""
        path = self._config.socket
        try:
            reader, writer = await asyncio.open_unix_connection(str(path), limit=_READ_SIZE)
        except OSError as error:
            return _connection_problem(error, path)
        problem = _Problem("failed", "the source failed and was restarted")
        connected = False
        try:
            stream = _frames(reader)
            hello = await anext(stream, None)
            if not isinstance(hello, frames.Hello):
                return _Problem("refused", _refusal(path))
            if (reason := frames.mismatch(hello)) is not None:
                return _Problem("version", reason)
            connected = True
            await self._connected(intake, hello)
            await self._read(intake, stream, hello)
            problem = _Problem("ended", f"the bpf process at {path} ended the connection; it may have been restarted")
        except frames.FrameError as error:
            problem = _Problem("damaged", f"what {path} sends is not the bpf process's: {error}")
        except OSError as error:
            problem = _Problem("lost", f"the connection to {path} broke: {error.strerror or error}")
        finally:
            if connected and self._lost_at is None:
                self._lost_at = (own_events.rfc3339(), problem.text)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        return problem

    async def _connected(self, intake: Intake, hello: frames.Hello) -> None:
        missing = sorted(set(self._config.programs) - hello.programs.keys())
        note = f"; it does not run {', '.join(missing)}" if missing else ""
        programs = ", ".join(hello.programs)
        self._say(
            intake,
            up=True,
            kind="connected",
            reason=f"connected to {self._config.socket}, otelbee {hello.version} with {programs}{note}",
        )
        if self._lost_at is not None:
            since, why = self._lost_at
            await intake.event(own_events.GAP, own_events.gap(since, own_events.rfc3339(), why))
            self._lost_at = None

    async def _read(self, intake: Intake, stream: AsyncIterator[frames.Frame], hello: frames.Hello) -> None:
        """Hand on what comes until the peer ends the connection."""
        exclude = self._own
        if self._config.exclude_self:
            exclude = exclude._replace(pids=exclude.pids | hello.pids)
        origin = Origin(
            labels={BOOT_ID: hello.boot_id, HOST_NAME: hello.host_name}, peer_version=hello.version, exclude=exclude
        )
        async for frame in stream:
            if isinstance(frame, frames.Records):
                if not origin.clock_offset_ns:
                    raise frames.FrameError("records came before the clock")
                for kind, records in frame.by_kind.items():
                    for first in range(0, len(records), _TURN_RECORDS):
                        await _emit(intake, kind, records[first : first + _TURN_RECORDS], origin)
            elif isinstance(frame, frames.Clock):
                origin = origin._replace(clock_offset_ns=frame.offset_ns)
            elif isinstance(frame, frames.Lost):
                await _report_loss(intake, frame)
            else:
                raise frames.FrameError("a second hello came")

    def _say(self, intake: Intake, *, up: bool, kind: str, reason: str) -> None:
        """Report a state, once per change."""
        if self._said != (up, kind):
            self._said = (up, kind)
            intake.state(up, reason)


async def _frames(reader: asyncio.StreamReader) -> AsyncIterator[frames.Frame]:
    cutter = frames.Reader()
    while data := await reader.read(_READ_SIZE):
        for frame in cutter.feed(data):
            yield frame


async def _emit(intake: Intake, kind: str, records: Sequence[bytes], origin: Origin) -> None:
    """Hand records on. While the pipeline has no room this waits; the bpf process then drops and counts."""
    try:
        await intake.emit(kind, records, origin, wait=True)
    except TooLarge:
        # The queue may well hold half of them. One record alone is the intake's loss to count.
        if len(records) > 1:
            half = len(records) // 2
            await _emit(intake, kind, records[:half], origin)
            await _emit(intake, kind, records[half:], origin)


async def _report_loss(intake: Intake, frame: frames.Lost) -> None:
    for (program, reason), count in frame.counts.items():
        attributes: dict[str, str | int | float | bool] = {
            "otelbee.loss.program": program,
            own_events.LOSS_REASON: reason,
            own_events.LOSS_RECORDS: count,
        }
        await intake.event(own_events.LOSS, attributes)


def read_recorded(stream: BinaryIO) -> Iterator[Recorded]:
    """Read the records of a recording: the bytes of the socket, as they came.

    Raises:
        RecordingError: the bytes are no frames of a bpf process, or end inside one.
    """
    reader, number = frames.Reader(), 0
    try:
        while data := stream.read(_READ_SIZE):
            for frame in reader.feed(data):
                if isinstance(frame, frames.Records):
                    for kind, records in frame.by_kind.items():
                        for record in records:
                            number += 1
                            yield Recorded(kind, number, record)
        reader.end()
    except frames.FrameError as error:
        raise RecordingError(f"after record {number}: {error}") from error


def _refusal(path: Path) -> str:
    return (
        f"the bpf process at {path} closed the connection at once: another receiver is connected to it, or uid "
        f"{os.geteuid()} is not among its --allow-uid (its own log says which)"
    )


def _connection_problem(error: OSError, path: Path) -> _Problem:
    if error.errno in {errno.ENOENT, errno.ENOTDIR}:
        return _Problem(
            "socket_missing",
            f"{path} does not exist: no bpf process runs there; 'otelbee run' as root starts one, or start "
            f"'python3 -I bpf/ --program exec --program exit --socket {path}' as root",
        )
    if error.errno == errno.ECONNREFUSED:
        return _Problem(
            "socket_stale", f"nobody listens at {path} any more: the bpf process has stopped, or is starting"
        )
    if error.errno in {errno.EACCES, errno.EPERM}:
        return _Problem("socket_denied", _denied(path))
    return _Problem("socket", f"{path} cannot be connected to: {error.strerror or error}")


def _denied(path: Path) -> str:
    try:
        status = path.stat()
        owner = f"it belongs to uid {status.st_uid}, gid {status.st_gid}, mode {stat.S_IMODE(status.st_mode):04o}"
    except OSError:
        owner = "a folder above it is closed"
    return (
        f"{path} may not be opened by uid {os.geteuid()} ({owner}): start the bpf process with --socket-gid of a group "
        "that this user is in, or run otelbee as another user"
    )
