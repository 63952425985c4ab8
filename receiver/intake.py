"""What a source is given: its one way in. Translates in short turns, admits to the queue, reports the source's state."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from receiver import own_events
from receiver.errors import QueueFull, TooLarge
from receiver.own_events import rfc3339
from receiver.peers import Peers
from receiver.types import Outcome
from translators.batch import StatelessTranslator
from translators.event import own_event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from receiver.memory import MemoryGuard
    from receiver.registry import Shared
    from receiver.telemetry import Telemetry
    from receiver.types import Queue
    from translators.batch import Batch, Origin, Rejection, Translation, Translator

_log = logging.getLogger(__name__)

MAX_TURN_RECORDS = 256
MAX_TURN_S = 0.002
"""No turn of the loop translates for longer, as far as the last turn's pace can tell. In this time an agent at 100,000
events a second fills a unix socket's buffer, and what it cannot write it drops."""
_FIRST_TURN_RECORDS = 32
_PAUSE_S = 1.0
"""A source whose records wait for room longer than this is shown as paused."""
_RESUME_S = 2.0
"""Shown as resumed when no records waited that long; more than a pause, so that a slow queue does not flap."""

_OURSELVES = "otelbee"
"""What otelbee's own events are accepted from, so that a source is counted what its peer sent."""


class State(NamedTuple):
    """What ``/ready`` shows of one source."""

    started: bool = False
    up: bool = False
    reason: str = ""
    paused: bool = False
    address: str | None = None


class SourceIntake:
    """The :class:`~receiver.types.Intake` of one source instance."""

    def __init__(
        self,
        name: str,
        translator: Translator,
        queue: Queue,
        telemetry: Telemetry,
        shared: Shared,
        *,
        memory: MemoryGuard | None = None,
        gap_since_ns: int | None = None,
        after: SourceIntake | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Serve the source instance ``name``, as long as ``memory`` has room.

        Where ``gap_since_ns`` is given, the first event after each start of the source is preceded by a gap since then
        (Unix nanoseconds, 0 where unknown), or since the last event before a restart; ``after`` is the instance that
        this one replaces. ``clock_ns`` gives Unix time in nanoseconds.
        """
        self.name = name
        self.has_started = asyncio.Event()
        self.current = State()
        self.peers = Peers()
        self._translator = translator
        self._queue = queue
        self._telemetry = telemetry
        self._resource = shared.resource
        self._clock_ns = clock_ns
        self._turn_records = _FIRST_TURN_RECORDS
        self._memory = memory
        self._gap_since_ns: int | None = after._gap_since_ns if after and gap_since_ns is not None else gap_since_ns  # noqa: SLF001 - its own kind
        self._is_restart = after is not None
        self._gap_reason: str | None = None
        self._inline_bytes = translator.inline_bytes if isinstance(translator, StatelessTranslator) else None
        threaded = translator.blocking or self._inline_bytes is not None
        self._worker = ThreadPoolExecutor(1, thread_name_prefix=f"otelbee-{name}") if threaded else None
        self._resume: asyncio.TimerHandle | None = None
        self._has_dropped = False
        telemetry.source_up(name, up=False)

    def started(self, address: str | None) -> None:
        """Note that the source is up; what it raises from now on is no start error."""
        if self._gap_since_ns is not None:
            self._gap_reason = "the source was restarted" if self._is_restart else "otelbee was started"
            self._is_restart = True
        if not self.has_started.is_set():
            _log.info("source %s started%s", self.name, f", listening on {address}" if address else "")
        self.current = self.current._replace(started=True, address=address)
        self.has_started.set()

    def state(self, up: bool, reason: str) -> None:  # noqa: FBT001 - the seam's own wording
        """Note that the peer came or went; logged where it changes."""
        if (up, reason) == (self.current.up, self.current.reason):
            return
        if up != self.current.up:
            self._telemetry.source_up(self.name, up)
        self.current = self.current._replace(up=up, reason=reason)
        _log.log(
            logging.INFO if up else logging.WARNING,
            "source %s is %s%s",
            self.name,
            "up" if up else "down",
            f": {reason}" if reason else "",
        )

    def backlog(self, waiting_bytes: Callable[[], int], capacity_bytes: int) -> None:
        """Show how much the source has read ahead, in bytes."""
        self._telemetry.backlog(self.name, waiting_bytes, capacity_bytes)

    async def emit(self, kind: str, records: Sequence[bytes], origin: Origin, *, wait: bool) -> Outcome:
        """Translate records and put them into the queue in one go; see :meth:`receiver.types.Intake.emit`."""
        if wait and self._memory is not None:
            await self._memory.room()
        elif not wait:
            self.check()
        batches: list[Batch] = []
        derived: list[Batch] = []
        rejected: list[Rejection] = []
        counts: Counter[str] = Counter()
        position = 0
        while position < len(records):
            turn = records[position : position + self._turn_records]
            translation = await self._translate(kind, turn, origin)
            batches += (self._named(batch) for batch in translation.batches)
            derived += (self._named(batch) for batch in translation.derived)
            rejected += (replace(each, index=each.index + position) for each in translation.rejected)
            counts.update(translation.counts)
            position += len(turn)
        for name, n in counts.items():
            self._telemetry.counted(self.name, name, n)
        for each in rejected:
            self._telemetry.rejected(self.name, each.reason, 1)
        if batches and self._gap_reason is not None:
            await self._report_gap(self._gap_reason)
        outcome = await self._admit(batches, tuple(rejected), wait=wait)
        await self._put_apart(derived)
        return outcome._replace(counts=counts)

    def check(self) -> None:
        """Raise ``TryLater`` while the process is short of memory."""
        if self._memory is not None:
            self._memory.check()

    def refused(self, reason: str, peer: str) -> None:
        """Count a request that was refused."""
        self._telemetry.refused_request(self.name, reason)
        self.peers.refused(peer, reason, self._clock_ns())

    def count(self, name: str, n: int) -> None:
        """Count something that the source left out."""
        self._telemetry.counted(self.name, name, n)

    def losses(self, known: Mapping[str, float] | None) -> None:
        """Show what the peer itself counts as lost, by reason; None while that is unknown."""
        self._telemetry.peer_losses(self.name, known)

    async def event(self, name: str, attributes: Mapping[str, str | int | float | bool]) -> None:
        """Record an event of otelbee's own; waits for room."""
        if name == own_events.GAP:
            self._telemetry.gap(self.name)
        else:
            self._telemetry.counted(self.name, name, 1)
        if name == own_events.LOSS and own_events.LOSS_RECORDS in attributes:
            self._telemetry.lost(
                self.name, str(attributes.get(own_events.LOSS_REASON, "")), int(attributes[own_events.LOSS_RECORDS])
            )
        batch = own_event(name, {"otelbee.source.name": self.name, **attributes}, self._clock_ns(), self._resource)
        # Nothing that the peer saw: the time of its newest event stays what it is.
        parts = tuple(part._replace(source=self.name, newest_event_ns=0) for part in batch.parts)
        await self._admit([batch._replace(parts=parts)], (), wait=True, receiver=_OURSELVES)

    def close(self) -> None:
        """Let go of the worker thread and of timers; a translation under way ends by itself."""
        if self._worker is not None:
            self._worker.shutdown(wait=False, cancel_futures=True)
        if self._resume is not None:
            self._resume.cancel()

    async def _translate(self, kind: str, records: Sequence[bytes], origin: Origin) -> Translation:
        now_ns = self._clock_ns()
        if self._worker is not None and not self._is_little(records):
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._worker, self._translator.translate, kind, records, origin, now_ns)
        began = time.perf_counter()
        translation = self._translator.translate(kind, records, origin, now_ns)
        elapsed_s = time.perf_counter() - began
        pace = int(len(records) * MAX_TURN_S / elapsed_s) if elapsed_s > 0 else MAX_TURN_RECORDS
        # At most doubled: one turn of cheap records says little about the next.
        self._turn_records = max(1, min(pace, 2 * self._turn_records, MAX_TURN_RECORDS))
        await asyncio.sleep(0)
        return translation

    def _is_little(self, records: Sequence[bytes]) -> bool:
        return self._inline_bytes is not None and sum(map(len, records)) <= self._inline_bytes

    async def _admit(
        self, batches: Sequence[Batch], rejected: tuple[Rejection, ...], *, wait: bool, receiver: str | None = None
    ) -> Outcome:
        try:
            with self._shown_as_paused():
                delivered = await self._queue.put(batches, wait=wait)
        except (QueueFull, TooLarge) as error:
            reason = "queue_full" if isinstance(error, QueueFull) else "too_large"
            for batch in batches:
                self._telemetry.refused(self.name, batch.signal, batch.items, reason)
            raise
        for batch in batches:
            self._telemetry.accepted(receiver or self.name, batch.signal, batch.items)
            self._note_newest(batch)
        return Outcome(sum(batch.items for batch in batches), rejected, delivered)

    async def _report_gap(self, reason: str) -> None:
        since_ns = self._gap_since_ns
        await self.event(
            own_events.GAP,
            own_events.gap(rfc3339(since_ns) if since_ns else "unknown", rfc3339(self._clock_ns()), reason),
        )
        self._gap_reason = None

    def _note_newest(self, batch: Batch) -> None:
        if self._gap_since_ns is not None and batch.parts:
            # No event is newer than its arrival, whatever its own clock says.
            newest_ns = min(max(part.newest_event_ns for part in batch.parts), self._clock_ns())
            self._gap_since_ns = max(self._gap_since_ns, newest_ns)

    async def _put_apart(self, derived: Sequence[Batch]) -> None:
        """Queue what was derived from records that the queue has, or drop and count it: it must never hold them up."""
        for batch in derived:
            try:
                await self._queue.put([batch], wait=False)
            except (QueueFull, TooLarge) as error:
                full = isinstance(error, QueueFull)
                reason = f"{batch.signal}_queue_full" if full else "too_large"
                self._telemetry.dropped(batch.signal, batch.items, reason)
                if not self._has_dropped:  # once; a queue at its limit would have it said over and over
                    self._has_dropped = True
                    why = "their queue is full" if full else error
                    _log.warning("source %s begins to drop %s made of its records: %s", self.name, batch.signal, why)
            else:
                self._telemetry.accepted(self.name, batch.signal, batch.items)

    def _named(self, batch: Batch) -> Batch:
        return batch._replace(parts=tuple(part._replace(source=self.name) for part in batch.parts))

    @contextmanager
    def _shown_as_paused(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        pause = loop.call_later(_PAUSE_S, self._pause)
        try:
            yield
        finally:
            pause.cancel()
            if self.current.paused and self._resume is None:
                self._resume = loop.call_later(_RESUME_S, self._resumed)

    def _pause(self) -> None:
        if self._resume is not None:
            self._resume.cancel()
            self._resume = None
        if not self.current.paused:
            self.current = self.current._replace(paused=True)
            _log.warning("source %s is paused: the queue is full; it reads no further until there is room", self.name)

    def _resumed(self) -> None:
        self._resume = None
        self.current = self.current._replace(paused=False)
        _log.info("source %s resumed: the queue has room again", self.name)
