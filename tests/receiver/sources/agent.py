"""A scripted Tetragon agent on a real gRPC server, and an intake that collects."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Self

import grpc
import grpc.aio

from receiver.net.backoff import Backoff
from receiver.sources.tetragon.source import Source, Timing
from receiver.types import Outcome
from translators.pb import tetragon_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from receiver.sources.tetragon import Config
    from translators.batch import Origin

    Context = grpc.aio.ServicerContext[bytes, bytes]
    Script = Callable[["Agent", Context], AsyncGenerator[bytes, None]]

DEADLINE_S = 20.0
IMPATIENT = Timing(backoff=Backoff(initial_s=0.02, max_s=0.05), deadline_s=0.5, settle_s=0.3)


def event(number: int, size: int = 0) -> bytes:
    """One ``process_exec`` with a pid of its own."""
    process = tetragon_pb2.Process(arguments="x" * size)
    process.pid.value = number
    return tetragon_pb2.GetEventsResponse(
        process_exec=tetragon_pb2.ProcessExec(process=process), node_name="node"
    ).SerializeToString()


async def stay_open(agent: Agent, context: Context) -> AsyncGenerator[bytes, None]:
    """Send the agent's events, then nothing more until it stops."""
    del context
    for item in agent.events:
        yield item
        agent.sent += 1
    await asyncio.get_running_loop().create_future()


class Agent:
    """``tetragon.FineGuidanceSensors`` with events and behaviour of the test's choice."""

    def __init__(
        self, *events: bytes, script: Script = stay_open, credentials: grpc.ServerCredentials | None = None
    ) -> None:
        """Say what a stream sends; nothing is bound yet."""
        self.events = events
        self.requests: list[tetragon_pb2.GetEventsRequest] = []
        self.sent = 0
        self.port = 0
        self.version = "v1.7.0"
        self.processes: list[tetragon_pb2.Process] | None = None
        """Its process cache; None for an agent that does not tell it."""
        self.policies: list[tetragon_pb2.TracingPolicyStatus] | None = None
        """Its policies; None for an agent that does not list them."""
        self.listed = 0
        self._script = script
        self._credentials = credentials
        self._server: grpc.aio.Server | None = None

    async def start(self, listen: str = "127.0.0.1:0") -> Self:
        """Bind ``listen`` and serve."""
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        handlers = {
            "GetVersion": grpc.unary_unary_rpc_method_handler(self._get_version),
            "GetDebug": grpc.unary_unary_rpc_method_handler(self._get_debug),
            "ListTracingPolicies": grpc.unary_unary_rpc_method_handler(self._list_policies),
            "GetEvents": grpc.unary_stream_rpc_method_handler(self._get_events),
        }
        handler = grpc.method_handlers_generic_handler("tetragon.FineGuidanceSensors", handlers)
        self._server.add_generic_rpc_handlers((handler,))
        if self._credentials:
            self.port = self._server.add_secure_port(listen, self._credentials)
        else:
            self.port = self._server.add_insecure_port(listen)
        await self._server.start()
        return self

    async def stop(self) -> None:
        """Close every connection at once, as a killed agent does."""
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    async def __aenter__(self) -> Self:
        """Serve on a free TCP port unless started before."""
        return self if self._server is not None else await self.start()

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        await self.stop()

    async def _get_version(self, request: bytes, context: Context) -> bytes:
        del request, context
        return tetragon_pb2.GetVersionResponse(version=self.version).SerializeToString()

    async def _get_debug(self, request: bytes, context: Context) -> bytes:
        asked = tetragon_pb2.GetDebugRequest.FromString(request)
        if self.processes is None or asked.flag != tetragon_pb2.CONFIG_FLAG_DUMP_PROCESS_CACHE:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "unknown method GetDebug")
        answer = tetragon_pb2.GetDebugResponse(flag=asked.flag)
        for process in self.processes or ():
            answer.processes.processes.add(process=process, color="inUse")
        return answer.SerializeToString()

    async def _list_policies(self, request: bytes, context: Context) -> bytes:
        del request
        self.listed += 1
        if self.policies is None:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "unknown method ListTracingPolicies")
        return tetragon_pb2.ListTracingPoliciesResponse(policies=self.policies).SerializeToString()

    async def _get_events(self, request: bytes, context: Context) -> AsyncGenerator[bytes, None]:
        self.requests.append(tetragon_pb2.GetEventsRequest.FromString(request))
        async for item in self._script(self, context):
            yield item


class Collected:
    """An intake that keeps what it is given, and can be closed like a full queue."""

    def __init__(self) -> None:
        """Start open and empty."""
        self.has_started = False
        self.states: list[tuple[bool, str]] = []
        self.records: list[bytes] = []
        self.processes: list[bytes] = []
        self.batches: list[int] = []
        self.kinds: set[tuple[str, bool]] = set()
        self.origins: list[Origin] = []
        self.events: list[tuple[str, Mapping[str, str | int | float | bool]]] = []
        self.known_losses: list[Mapping[str, float] | None] = []
        self.room = asyncio.Event()
        self.room.set()
        self.waiting = False
        self.backlog_bytes: Callable[[], int] = lambda: 0
        self.backlog_capacity_bytes = 0
        self._changed = asyncio.Event()

    def started(self, address: str | None) -> None:
        """Keep that the source started."""
        assert address is None
        self.has_started = True

    def state(self, up: bool, reason: str) -> None:  # noqa: FBT001 - the seam's own wording
        """Keep a state."""
        assert self.has_started
        self.states.append((up, reason))
        self._changed.set()

    def backlog(self, waiting_bytes: Callable[[], int], capacity_bytes: int) -> None:
        """Keep how to ask what the source has read ahead."""
        self.backlog_bytes, self.backlog_capacity_bytes = waiting_bytes, capacity_bytes

    def losses(self, known: Mapping[str, float] | None) -> None:
        """Keep what the peer says that it has lost."""
        self.known_losses.append(known)
        self._changed.set()

    async def emit(self, kind: str, records: Sequence[bytes], origin: Origin, *, wait: bool) -> Outcome:
        """Keep records once there is room."""
        self.waiting = not self.room.is_set()
        self._changed.set()
        await self.room.wait()
        self.kinds.add((kind, wait))
        if kind == "processes":
            self.processes += records
            return Outcome(0, (), asyncio.get_running_loop().create_future())
        self.records += records
        self.batches.append(len(records))
        self.origins.append(origin)
        self._changed.set()
        done: Awaitable[None] = asyncio.get_running_loop().create_future()
        return Outcome(len(records), (), done)

    async def event(self, name: str, attributes: Mapping[str, str | int | float | bool]) -> None:
        """Keep an event of otelbee's own."""
        self.events.append((name, attributes))
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something that was kept makes ``condition`` true."""
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def until_up(self, text: str) -> str:
        """Wait for the state "up" with ``text`` in its reason; return the reason."""
        return await self._until_state(text, up=True)

    async def until_down(self, text: str) -> str:
        """Wait for the state "down" with ``text`` in its reason; return the reason."""
        return await self._until_state(text, up=False)

    async def _until_state(self, text: str, *, up: bool) -> str:
        def reasons() -> list[str]:
            return [reason for state, reason in self.states if state == up and text in reason]

        await self.until(lambda: bool(reasons()))
        return reasons()[0]


@contextlib.asynccontextmanager
async def running(config: Config, timing: Timing = IMPATIENT) -> AsyncIterator[Collected]:
    """Run the source; the value is what it hands on. A source that raises fails the test."""
    intake = Collected()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(Source(config, timing).run(intake))
        try:
            yield intake
        finally:
            task.cancel()
