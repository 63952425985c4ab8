"""From a request to what became of it: delivered, put aside, or dropped and counted."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from receiver.errors import MessageTooLarge, Permanent, Retryable
from receiver.pipeline.hold import HELD, Hold
from translators import otlp_profiles
from translators.batch import Batch, Signal
from translators.otlp import Malformed, split
from translators.otlp_halves import halve

if TYPE_CHECKING:
    from collections.abc import Callable

    from receiver.net.backoff import Backoff
    from receiver.telemetry import Telemetry
    from receiver.types import Exporter

_log = logging.getLogger(__name__)

MAX_REQUESTS: Final = 64
"""For one refused request, in the search for what in it is refused."""
_IN_THREAD_BYTES: Final = 1 << 16
"""What is longer is cut in a thread: the walk over the items of 60 MiB takes a tenth of a second."""
_QUIET_S: Final = 60.0
"""How long a loss that goes on is not logged again."""


@dataclass
class _Open:
    """What of one batch is neither delivered nor given up yet."""

    requests: deque[Batch]
    pieces: deque[Batch] = field(default_factory=deque)
    """Of a refused request, not tried yet."""
    refused: list[Batch] = field(default_factory=list)
    """Of a refused request, refused by itself."""

    @property
    def items(self) -> int:
        return sum(batch.items for part in (self.requests, self.pieces, self.refused) for batch in part)


class Delivery:
    """Hands batches to an exporter, cut to size, and sees each of them to its end.

    What is held waits (:mod:`receiver.pipeline.hold`). Of what is rejected, the items that are refused are searched by
    halving; they go to ``dead_letter``, or are dropped and counted by reason, and their neighbours are delivered.
    """

    def __init__(
        self,
        exporter: Exporter,
        telemetry: Telemetry,
        max_bytes: int,
        *,
        dead_letter: Exporter | None = None,
        held: Backoff = HELD,
    ) -> None:
        """Send requests of up to ``max_bytes`` to ``exporter``; what is held is tried again after ``held``."""
        self._telemetry = telemetry
        self._max_bytes = max_bytes
        self._dead_letter = dead_letter
        self._stopping = asyncio.Event()
        self._holds = {signal: Hold(exporter, signal, telemetry, held, self._stopping) for signal in Signal}
        self._logged_s: dict[tuple[Signal, str], float] = {}
        self.unsent: Counter[Signal] = Counter()
        """Items of deliveries that were cancelled."""

    def stop_waiting(self) -> None:
        """Try what is held once more, now, and then cancel it."""
        self._stopping.set()

    async def deliver(self, batch: Batch) -> None:
        """Send a batch of any size; returns when all of it was delivered, put aside or dropped."""
        left = _Open(deque([batch]))
        try:
            left.requests = deque(await _cut(batch, self._max_bytes))
            while left.requests:
                if (error := await self._send(left.requests)) is not None:
                    await self._search(left, error)
        except asyncio.CancelledError:
            self.unsent[batch.signal] += left.items
            raise

    async def _send(self, batches: deque[Batch]) -> Permanent | None:
        """Settle the first of ``batches``, or put pieces in its place where it is too large.

        Returns:
            Why it was refused; then it is still there.
        """
        batch = batches[0]
        smaller: list[Batch] = []
        try:
            await self._holds[batch.signal].export(batch)
        except MessageTooLarge as error:
            smaller = await _cut(batch, max(1, len(batch.data) // 2))
            if len(smaller) == 1:
                smaller = await _halves(batch)
            if len(smaller) == 1:
                smaller = []
                await self._give_up(batch, "too_large", error)
        except Permanent as error:
            return error
        except Retryable as error:
            self._drop(batch, "retries_exhausted", error)
        except Exception as error:  # noqa: BLE001 - a fault of ours costs one batch, not the signal
            await self._give_up(batch, "internal_error", error)
        else:
            self._telemetry.sent(batch.signal, batch.items)
        batches.popleft()
        batches.extendleft(reversed(smaller))
        return None

    async def _search(self, left: _Open, error: Permanent) -> None:
        """Deliver what is good in the first request, which was refused, and give up the rest.

        Larger pieces come first, so that when the requests are used up most of what is good was delivered.
        """
        signal = left.requests[0].signal
        if not await self._takes_empty(signal):
            return
        left.pieces.extend(await _halves(left.requests.popleft()))
        requests = 2
        if len(left.pieces) == 1:
            left.refused.append(left.pieces.popleft())
        while left.pieces and requests < MAX_REQUESTS - 1:
            requests += 1
            if (again := await self._send(left.pieces)) is None:
                continue
            error = again
            halves = await _halves(left.pieces[0])
            left.pieces.popleft()
            if len(halves) > 1:
                left.pieces.extend(halves)
            else:
                left.refused += halves
        left.refused += left.pieces
        left.pieces.clear()
        if left.refused and requests > 2 and not await self._takes_empty(signal):  # noqa: PLR2004 - nothing sent since the first time
            left.requests.extendleft(reversed(left.refused))
            left.refused.clear()
        while left.refused:
            await self._give_up(left.refused[0], "refused", error)
            left.refused.pop(0)

    async def _takes_empty(self, signal: Signal) -> bool:
        """Whether an empty request is taken at once, so that a refusal was for the data; if not, wait until it is."""
        try:
            return not await self._holds[signal].export(Batch(signal, 0, b"", ()))
        except Exception:  # noqa: BLE001 - retries exhausted, or a fault of ours: the refusal stands
            return True

    async def _give_up(self, batch: Batch, reason: str, error: Exception) -> None:
        """Put aside what can never be delivered, or drop it."""
        if self._dead_letter is None:
            self._drop(batch, reason, error)
            return
        try:
            await self._dead_letter.export(batch)
        except Exception as unwritten:  # noqa: BLE001 - whatever it is, the signal goes on
            self._drop(batch, "dead_letter_failed", unwritten)
            return
        self._telemetry.send_failed(batch.signal, batch.items)
        self._telemetry.dead_lettered(batch.signal, batch.items, reason)
        self._log("Exporting failed; to dead_letter", batch, reason, error)

    def _drop(self, batch: Batch, reason: str, error: Exception) -> None:
        self._telemetry.send_failed(batch.signal, batch.items)
        self._telemetry.dropped(batch.signal, batch.items, reason)
        self._log("Exporting failed; dropping data", batch, reason, error)

    def _log(self, what: str, batch: Batch, reason: str, error: Exception) -> None:
        now_s = asyncio.get_running_loop().time()
        last_s = self._logged_s.get((batch.signal, reason))
        self._logged_s[batch.signal, reason] = now_s
        if last_s is None or now_s - last_s > _QUIET_S:
            fault = error if reason == "internal_error" else None
            _log.error("%s: %s, %d items, %s: %s", what, batch.signal, batch.items, reason, error, exc_info=fault)


async def _cut(batch: Batch, max_bytes: int) -> list[Batch]:
    cut = otlp_profiles.split if batch.signal is Signal.PROFILES else split
    return await _off_loop(lambda: cut(batch, max_bytes), batch) if len(batch.data) > max_bytes else [batch]


async def _halves(batch: Batch) -> list[Batch]:
    return await _off_loop(lambda: halve(batch), batch)


async def _off_loop(work: Callable[[], list[Batch]], batch: Batch) -> list[Batch]:
    try:
        return await asyncio.to_thread(work) if len(batch.data) > _IN_THREAD_BYTES else work()
    except Malformed:
        return [batch]  # the next stage says what it thinks of it
