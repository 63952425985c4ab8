"""Where every way to push profiles ends: records handed to the intake, and what is said about frames without names."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from receiver.errors import Malformed, TooLarge, TryLater
from receiver.own_events import UNNAMED_FRAMES
from translators.batch import Origin

if TYPE_CHECKING:
    from asyncio import TaskGroup
    from collections.abc import Mapping

    from receiver.net.gate import Sender
    from receiver.types import Intake

_log = logging.getLogger(__name__)

_MAX_WAITING: Final = 16
"""Records that wait for the translator; more would only grow older here. They are translated one after the other."""
_RETRY_AFTER_S: Final = 1.0
_ENOUGH_FRAMES: Final = 100
"""Seen before anything is said about them."""
_REMEDY: Final = (
    "the agent sends frames of machine code by build id and address alone: name a Parca server in debuginfo and let the "
    "backend symbolise, or set native_names: placeholder where it hides frames without names"
)


class ProfileStore:
    """Takes records for one source."""

    def __init__(self, intake: Intake, resource_headers: Mapping[str, str], tasks: TaskGroup) -> None:
        """Hand records to ``intake``; ``tasks`` runs what no request should wait for."""
        self._intake = intake
        self._headers = resource_headers
        self._tasks = tasks
        self._waiting = 0
        self._frames = 0
        self._unnamed = 0
        self._has_reported = False

    async def take(self, kind: str, record: bytes, sender: Sender) -> None:
        """Return when the queue has what the record becomes.

        Raises:
            TryLater: Not now.
            Malformed: Never. Agents come back with what is RESOURCE_EXHAUSTED, so too large is said in this way too.
        """
        if self._waiting >= _MAX_WAITING:
            raise TryLater("profiles come faster than they are translated", _RETRY_AFTER_S)
        labels = {key: sender.headers[header] for header, key in self._headers.items() if header in sender.headers}
        self._waiting += 1
        try:
            outcome = await self._intake.emit(kind, [record], Origin(sender.principal, labels), wait=False)
        except TooLarge as error:
            raise Malformed(str(error)) from None
        finally:
            self._waiting -= 1
        if outcome.rejected:
            raise Malformed(outcome.rejected[0].message)
        self._count(outcome.counts)

    def _count(self, counts: Mapping[str, int]) -> None:
        """Report, once, which share of the frames has no name."""
        if self._has_reported:
            return
        self._frames += counts.get("frames", 0)
        self._unnamed += counts.get("unnamed_frames", 0)
        if not self._unnamed or self._frames < _ENOUGH_FRAMES:
            return
        self._has_reported = True
        percent = round(100 * self._unnamed / self._frames)
        _log.warning("%d %% of the frames have no name: %s", percent, _REMEDY)
        attributes: dict[str, str | int] = {"otelbee.frames.unnamed_percent": percent, "otelbee.remedy": _REMEDY}
        self._tasks.create_task(self._intake.event(UNNAMED_FRAMES, attributes))
