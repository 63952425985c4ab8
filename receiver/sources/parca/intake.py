"""Where every way to push profiles ends: records handed to the intake."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from receiver.errors import Malformed, TooLarge, TryLater
from receiver.sources.unnamed_frames import UnnamedFrames
from translators.batch import Origin

if TYPE_CHECKING:
    from collections.abc import Mapping

    from receiver.net.gate import Sender
    from receiver.types import Intake

_MAX_WAITING: Final = 16
"""Records that wait for the translator; more would only grow older here. They are translated one after the other."""
_RETRY_AFTER_S: Final = 1.0
_REMEDY: Final = (
    "agents send frames of machine code by build id and address alone, so symbolize behind the Collector, with the debug "
    "information that debuginfo hands on; native_names: placeholder names them by file and address"
)


class ProfileStore:
    """Takes records for one source."""

    def __init__(self, intake: Intake, resource_headers: Mapping[str, str], *, tells_of_unnamed: bool) -> None:
        """Hand records to ``intake``; tell of frames without names where the user has not chosen what they become."""
        self._intake = intake
        self._headers = resource_headers
        self._waiting = 0
        self._unnamed = UnnamedFrames(_REMEDY if tells_of_unnamed else None)

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
        self._unnamed.note(outcome.counts)
