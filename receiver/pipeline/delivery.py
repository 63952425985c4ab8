"""From a request to what became of it: sent, or dropped and counted."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from typing import TYPE_CHECKING

from receiver.errors import ExportError, MessageTooLarge, Retryable
from translators.otlp import Malformed, split

if TYPE_CHECKING:
    from receiver.telemetry import Telemetry
    from receiver.types import Exporter
    from translators.batch import Batch, Signal

_log = logging.getLogger(__name__)


class Delivery:
    """Hands batches to an exporter, cut to size. What the exporter gives up is dropped and counted by reason.

    Logs when a signal's batches begin to be dropped and when they are delivered again.
    """

    def __init__(self, exporter: Exporter, telemetry: Telemetry, max_bytes: int) -> None:
        """Send requests of up to ``max_bytes`` to ``exporter``."""
        self._exporter = exporter
        self._telemetry = telemetry
        self._max_bytes = max_bytes
        self._dropping: set[Signal] = set()
        self.unsent: Counter[Signal] = Counter()
        """Items of deliveries that were cancelled."""

    async def deliver(self, batch: Batch) -> None:
        """Send a batch of any size; returns when all of it was sent or dropped."""
        left = deque([batch])
        try:
            left = deque(await self._cut(batch, self._max_bytes))
            while left:
                smaller = await self._send(left[0])
                left.popleft()
                left.extendleft(reversed(smaller))
        except asyncio.CancelledError:
            self.unsent[batch.signal] += sum(piece.items for piece in left)
            raise

    async def _send(self, batch: Batch) -> list[Batch]:
        """Send or drop one request; returns the pieces to send instead where it is too large."""
        try:
            await self._exporter.export(batch)
        except MessageTooLarge as error:
            halves = await self._cut(batch, max(1, len(batch.data) // 2))
            if len(halves) > 1:
                return halves
            self._drop(batch, "too_large", error)
        except Retryable as error:
            self._drop(batch, "retries_exhausted", error)
        except ExportError as error:
            self._drop(batch, "refused", error)
        except Exception as error:  # noqa: BLE001 - a fault of ours costs one batch, not the signal
            self._drop(batch, "internal_error", error)
        else:
            self._sent(batch)
        return []

    async def _cut(self, batch: Batch, max_bytes: int) -> list[Batch]:
        if len(batch.data) <= max_bytes:
            return [batch]
        try:
            # In a thread: the walk over the items of a batch of 60 MiB takes a tenth of a second.
            return await asyncio.to_thread(split, batch, max_bytes)
        except Malformed:
            return [batch]  # the next stage says what it thinks of it

    def _sent(self, batch: Batch) -> None:
        self._telemetry.sent(batch.signal, batch.items)
        if batch.signal in self._dropping:
            self._dropping.discard(batch.signal)
            _log.info("Exporting succeeds again: %s", batch.signal)

    def _drop(self, batch: Batch, reason: str, error: Exception) -> None:
        self._telemetry.send_failed(batch.signal, batch.items)
        self._telemetry.dropped(batch.signal, batch.items, reason)
        if batch.signal not in self._dropping:
            self._dropping.add(batch.signal)
            fault = error if reason == "internal_error" else None
            _log.error(
                "Exporting failed; dropping data: %s, %d items, %s: %s",
                batch.signal,
                batch.items,
                reason,
                error,
                exc_info=fault,
            )
