"""``TelemetryService``: an agent's supervisor tells that the agent crashed, which becomes a log record."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from receiver.errors import Malformed, TryLater
from receiver.own_events import PEER_PANIC
from translators.pb.telemetry_pb2 import ReportPanicRequest

if TYPE_CHECKING:
    from receiver.net.gate import Receive, Sender
    from receiver.types import Intake

PATH: Final = "/parca.telemetry.v1alpha1.TelemetryService/ReportPanic"

_NOTHING: Final = b""
"""A ``ReportPanicResponse``, which has no fields."""
_MAX_CHARACTERS: Final = 16 * 1024
"""Of what the agent wrote; its end says why it ended."""
_MAX_METADATA: Final = 32
_PATIENCE_S: Final = 5.0


def receiver(intake: Intake) -> Receive:
    """Return the method that records crashes."""

    async def receive(_: Sender, message: bytes) -> bytes:
        try:
            report = ReportPanicRequest.FromString(message)
        except DecodeError:
            raise Malformed("the message is no ReportPanicRequest") from None
        known = sorted(report.metadata.items())[:_MAX_METADATA]
        attributes = {f"parca.agent.{name[:64]}": value[:256] for name, value in known}
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await intake.event(PEER_PANIC, {**attributes, "parca.agent.stderr": report.stderr[-_MAX_CHARACTERS:]})
        except TimeoutError:
            raise TryLater("the queue of logs is full", _PATIENCE_S) from None
        return _NOTHING

    return receive
