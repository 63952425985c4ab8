"""Keeps the data of a signal that the next stage takes nothing of, until it does."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final

from receiver.errors import Held, MessageTooLarge, Permanent
from receiver.net.backoff import Backoff

if TYPE_CHECKING:
    from receiver.telemetry import Telemetry
    from receiver.types import Exporter
    from translators.batch import Batch, Signal

_log = logging.getLogger(__name__)

HELD: Final = Backoff(30.0, 300.0)
"""Time between attempts."""
_LOOK_S = 1.0
"""How often something that may have been put right is looked at."""


class Hold:
    """What one signal's requests go through on their way to the exporter.

    The first that is held stays, and tries again slowly until it is not; meanwhile the others wait behind it. Logs when
    that begins, when its reason changes, and when it is over.
    """

    def __init__(
        self,
        exporter: Exporter,
        signal: Signal,
        telemetry: Telemetry,
        backoff: Backoff = HELD,
        stopping: asyncio.Event | None = None,
    ) -> None:
        """Send to ``exporter``; once ``stopping`` is set, what is held is tried once more and then cancelled."""
        self._exporter = exporter
        self._signal = signal
        self._telemetry = telemetry
        self._backoff = backoff
        self._stopping = stopping or asyncio.Event()
        self._turn = asyncio.Lock()
        """Taken while the signal is held."""
        self._ends = 0
        """How often it was held and then not."""
        self._reported = ""

    async def export(self, batch: Batch) -> bool:
        """Export; whether it had to wait for a hold to end.

        Raises:
            asyncio.CancelledError: It is held, and a stop does not wait for what only a person can end.
            ExportError: Every end but :class:`~receiver.errors.Held`. An empty request is never
                :class:`~receiver.errors.Permanent`: what is refused with nothing in it is not refused for its data.
        """
        waited = False
        while True:
            if self._turn.locked():
                waited = True
                async with self._turn:
                    pass
            ends = self._ends
            error = await self._attempt(batch)
            if error is None:
                return waited
            waited = True
            async with self._turn:
                if ends == self._ends:
                    await self._outlast(error, batch)
                    return True

    async def _attempt(self, batch: Batch) -> Held | None:
        try:
            await self._exporter.export(batch)
        except Held as error:
            return error
        except MessageTooLarge:
            raise
        except Permanent as error:
            if batch.data:
                raise
            return Held(
                f"{error} (an empty request is refused too)", "it is not the data: look into the Collector's log"
            )
        return None

    async def _outlast(self, error: Held, batch: Batch) -> None:
        """Try again until the batch is held no more; what else became of it is raised."""
        delays_s = self._backoff.delays_s()
        held: Held | None = error
        try:
            while held is not None:
                self._report(held)
                await self._pause(held, next(delays_s))
                held = await self._attempt(batch)
        except Exception:  # but when it is cancelled, who waits behind it takes its place
            self._end()
            raise
        self._end()

    def _report(self, error: Held) -> None:
        if error.remedy != self._reported:
            self._reported = error.remedy
            self._telemetry.held(self._signal, error.remedy)
            _log.error("Exporting %s is held; the queue keeps what comes: %s", self._signal, error)

    def _end(self) -> None:
        self._ends += 1
        self._reported = ""
        self._telemetry.held(self._signal, "")
        _log.info("Exporting %s is held no more", self._signal)

    async def _pause(self, error: Held, delay_s: float) -> None:
        """Wait, but not longer than until something was put right that is known to matter, or a stop begins."""
        if self._stopping.is_set():
            raise asyncio.CancelledError
        loop = asyncio.get_running_loop()
        end_s = loop.time() + delay_s
        while (left_s := end_s - loop.time()) > 0 and not (error.cured is not None and error.cured()):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s if error.cured is None else min(left_s, _LOOK_S)):
                    await self._stopping.wait()
                    return
