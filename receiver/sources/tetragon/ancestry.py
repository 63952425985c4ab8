"""Processes that run already when the stream begins: the agent's process cache, for traces whose roots are older."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import grpc.aio
from google.protobuf.message import DecodeError

from receiver.net.grpc import unary
from translators.pb import tetragon_pb2

if TYPE_CHECKING:
    from receiver.types import Intake
    from translators.batch import Origin

GET_DEBUG = "/tetragon.FineGuidanceSensors/GetDebug"

_REQUEST = tetragon_pb2.GetDebugRequest(
    flag=tetragon_pb2.CONFIG_FLAG_DUMP_PROCESS_CACHE, dump=tetragon_pb2.DumpProcessCacheReqArgs()
).SerializeToString()

_log = logging.getLogger(__name__)


class Ancestry:
    """Asks one agent for its processes; an agent that cannot tell (before 1.3) costs nothing but partial traces."""

    def __init__(self) -> None:
        """Nothing was said yet."""
        self._has_said = False

    async def hand_on(self, over: grpc.aio.Channel, intake: Intake, origin: Origin, timeout_s: float) -> None:
        """Hand the processes that the agent knows to the translator, which makes no record of them."""
        try:
            answer = await unary(over, GET_DEBUG, _REQUEST, timeout_s=timeout_s)
            processes = tetragon_pb2.GetDebugResponse.FromString(answer).processes.processes
        except grpc.aio.AioRpcError as error:
            self._say(f"{error.code().name}: {' '.join((error.details() or '').split())}")
        except DecodeError:
            self._say("the answer is none")
        else:
            known = [each.process.SerializeToString() for each in processes]
            await intake.emit("processes", known, origin, wait=True)

    def _say(self, reason: str) -> None:
        if not self._has_said:
            self._has_said = True
            _log.info("the agent does not tell its process cache (%s): traces of what runs already are partial", reason)
