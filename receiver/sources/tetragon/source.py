"""The stream itself: connect, read, hand on, and come back after every loss."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, NamedTuple

import grpc.aio
from google.protobuf.message import DecodeError

from receiver import own_events
from receiver.errors import PermanentSourceError, StartError, TooLarge
from receiver.identity import boot_ns
from receiver.net.backoff import Backoff
from receiver.net.grpc import channel, is_loopback, parse_endpoint, unary
from receiver.net.status import StreamError
from receiver.net.stream import open_stream
from receiver.sources.tetragon.ancestry import Ancestry
from receiver.sources.tetragon.diagnosis import connection_problem, refusal, stream_problem
from receiver.sources.tetragon.discovery import DiscoveryError, Problem, discovered_address
from receiver.sources.tetragon.watch import Watch
from translators.batch import Exclude, Origin
from translators.pb import tetragon_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from receiver.net.stream import Stream
    from receiver.sources.tetragon.config import Config
    from receiver.types import Intake

GET_EVENTS = "/tetragon.FineGuidanceSensors/GetEvents"
GET_VERSION = "/tetragon.FineGuidanceSensors/GetVersion"

_REFUSAL_S = 10.0
"""The agent compiles filters before anything else, so a refusal of the request comes within this time."""


_UNARY_OPTIONS = (
    # Without a pool of its own a new channel would inherit the old one's backoff, of up to two minutes.
    ("grpc.use_local_subchannel_pool", 1),
    # The stream goes through no proxy either.
    ("grpc.enable_http_proxy", 0),
)


class Timing(NamedTuple):
    """What is waited for, in seconds; tests are less patient."""

    backoff: Backoff = Backoff()
    deadline_s: float = 5.0
    """For GetVersion and GetDebug, which the agent answers from memory."""
    settle_s: float = 1.0
    """A stream without events counts as open after this long: the agent sends no headers before its first event."""
    watch_s: float = 30.0
    """Between two looks at what the agent says of itself."""


class _Loss(NamedTuple):
    """When a stream that was open was lost, and why."""

    at: str
    reason: str


class Source:
    """Reads ``GetEvents`` of one agent, for as long as it runs.

    The agent keeps nothing for a client that is away (no replay, no sequence numbers), so each time between two
    streams is reported as one ``otelbee.source.gap``.
    """

    def __init__(self, config: Config, timing: Timing = Timing()) -> None:  # noqa: B008 - immutable
        """Keep the configuration; nothing is opened before :meth:`run`."""
        self._config = config
        self._timing = timing
        self._request = config.filters.request()
        self._exclude = Exclude()
        self._ancestry = Ancestry()
        self._watch = Watch(config.discovery_file, interval_s=timing.watch_s)
        self._open = False
        self._stream: Stream | None = None
        self._loss: _Loss | None = None
        self._said: tuple[bool, str] | None = None

    async def run(self, intake: Intake) -> None:
        """Read until cancelled.

        Raises:
            StartError: A file of ``tls`` cannot be used; before the start is reported.
            PermanentSourceError: The agent refused the filters.
        """
        self._config.tls.credentials()
        self._exclude = self._config.excluded()
        intake.started(None)
        intake.backlog(lambda: self._stream.waiting_bytes if self._stream else 0, int(self._config.read_ahead))
        loop = asyncio.get_running_loop()
        delays = self._timing.backoff.delays_s()
        while True:
            begun = loop.time()
            problem = await self._session(intake)
            self._say(intake, up=False, kind=problem.kind, reason=problem.text)
            if loop.time() - begun > self._timing.backoff.max_s:
                delays = self._timing.backoff.delays_s()
            await asyncio.sleep(next(delays))

    async def _session(self, intake: Intake) -> Problem:
        """Connect and read to the end of one stream; return why it ended."""
        config = self._config
        try:
            endpoint = config.endpoint or discovered_address(config.discovery_file)
        except DiscoveryError as error:
            return error.problem
        try:
            connection = channel(
                endpoint,
                config.tls,
                authority=config.authority,
                max_recv_msg_size=int(config.max_recv_msg_size),
                options=_UNARY_OPTIONS,
            )
        except StartError as error:
            return Problem("tls_files", str(error))
        async with connection:
            try:
                answer = await unary(connection, GET_VERSION, b"", timeout_s=self._timing.deadline_s)
                version = tetragon_pb2.GetVersionResponse.FromString(answer).version
            except grpc.aio.AioRpcError as error:
                found_in = None if config.endpoint else config.discovery_file
                return connection_problem(error, endpoint, discovery_file=found_in, timeout_s=self._timing.deadline_s)
            except DecodeError:
                return Problem("not_tetragon", f"{endpoint} answers GetVersion with no version: correct endpoint")
            async with contextlib.AsyncExitStack() as stack:
                try:
                    stream = await stack.enter_async_context(self._get_events(endpoint))
                except (StreamError, OSError) as error:
                    return stream_problem(error, endpoint, 0)
                except StartError as error:
                    return Problem("tls_files", str(error))
                origin = Origin(peer_version=version, exclude=self._exclude, boot_ns=_boot_ns(endpoint))
                if config.process_spans:
                    # The stream is open: what starts from now on will be in it.
                    await self._ancestry.hand_on(connection, intake, origin, self._timing.deadline_s)
                await stack.enter_async_context(self._watched(intake, connection, endpoint))
                return await self._read(intake, stream, endpoint, origin)

    @contextlib.asynccontextmanager
    async def _watched(self, intake: Intake, connection: grpc.aio.Channel, endpoint: str) -> AsyncIterator[None]:
        task = asyncio.create_task(self._watch.run(intake, connection, endpoint), name="tetragon watch")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})

    def _get_events(self, endpoint: str) -> AbstractAsyncContextManager[Stream]:
        config, target = self._config, parse_endpoint(endpoint)
        return open_stream(
            target,
            GET_EVENTS,
            self._request.SerializeToString(),
            authority=config.authority,
            max_message_bytes=int(config.max_recv_msg_size),
            window_bytes=int(config.read_ahead),
            tls=config.tls.under(target.secure).context(),
            server_hostname=config.tls.server_name_override,
        )

    async def _read(self, intake: Intake, stream: Stream, endpoint: str, origin: Origin) -> Problem:
        """Read one stream to its end; return why it ended."""
        version = origin.peer_version
        connected = f"connected to {endpoint}" + (f", Tetragon {version}" if version else "")
        asked_s, events = asyncio.get_running_loop().time(), 0
        self._open, self._stream = False, stream
        problem = Problem("failed", "the source failed and was restarted")
        try:
            batch = await self._first(intake, stream, connected)
            while batch:
                events += len(batch)
                # A full queue makes this wait, and once ``read_ahead`` is full the agent's end of the stream with it.
                # What it can never hold the intake has counted.
                with contextlib.suppress(TooLarge):
                    await intake.emit("protobuf", batch, origin, wait=True)
                batch = await anext(stream, [])
            problem = stream_problem(None, endpoint, 0)
        except StreamError as error:
            problem = stream_problem(error, endpoint, int(self._config.max_recv_msg_size))
            early = events == 0 and asyncio.get_running_loop().time() - asked_s < _REFUSAL_S
            if early and self._request.ByteSize() and (text := refusal(error)):
                problem = Problem(
                    "filters_refused", f"the agent at {endpoint} refuses filters: {text}; correct filters"
                )
                self._say(intake, up=False, kind=problem.kind, reason=problem.text)
                raise PermanentSourceError(problem.text) from None
        finally:
            self._stream = None
            if self._open and self._loss is None:
                self._loss = _Loss(_at(stream.ended_s), problem.text)
        return problem

    async def _first(self, intake: Intake, stream: Stream, connected: str) -> list[bytes]:
        """Wait for the first batch; report the stream as open with it, or before it when it has not failed at once."""
        asked_at = own_events.rfc3339()
        first = asyncio.ensure_future(anext(stream, []))
        try:
            await asyncio.wait({first}, timeout=self._timing.settle_s)
            if not first.done() or (first.exception() is None and first.result()):
                self._open = True
                self._say(intake, up=True, kind="connected", reason=connected)
                await self._report_gap(intake, asked_at)
            return await first
        finally:
            if not first.done():
                first.cancel()
                with contextlib.suppress(asyncio.CancelledError, StreamError):
                    await first

    async def _report_gap(self, intake: Intake, until: str) -> None:
        if self._loss is not None:
            await intake.event(own_events.GAP, own_events.gap(self._loss.at, until, self._loss.reason))
            self._loss = None

    def _say(self, intake: Intake, *, up: bool, kind: str, reason: str) -> None:
        """Report a state, once per change."""
        if self._said != (up, kind):
            self._said = (up, kind)
            intake.state(up, reason)


def _at(loop_s: float | None) -> str:
    """Return when the loop's clock showed ``loop_s``; None is now."""
    ago_s = 0.0 if loop_s is None else asyncio.get_running_loop().time() - loop_s
    return own_events.rfc3339(time.time_ns() - int(ago_s * 1e9))


def _boot_ns(endpoint: str) -> int:
    """When the agent's machine started; 0 where that is another one."""
    target = parse_endpoint(endpoint)
    return boot_ns() if target.socket_path or is_loopback(target.host) else 0
