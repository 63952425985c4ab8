"""An exporter that wraps an exporter: tries again, with the Collector's own back-off."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, model_validator

from receiver.errors import Retryable
from receiver.fields import Duration, Section

if TYPE_CHECKING:
    from receiver.telemetry import Telemetry
    from receiver.types import Exporter
    from translators.batch import Batch, Signal

_log = logging.getLogger(__name__)

NotNegative = Field(ge=timedelta(0))


class Config(Section):
    """When and how long a failed export is tried again (the Collector's ``retry_on_failure``)."""

    enabled: bool = True
    """Without it the first failure drops the batch."""
    initial_interval: Annotated[Duration, Field(gt=timedelta(0))] = timedelta(seconds=5)
    """Time to the second attempt."""
    randomization_factor: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Each interval is drawn evenly from this share below it to this share above it."""
    multiplier: Annotated[float, Field(ge=1)] = 1.5
    """Each interval is so many times the one before."""
    max_interval: Annotated[Duration, NotNegative] = timedelta(seconds=30)
    """The longest interval."""
    max_elapsed_time: Annotated[Duration, NotNegative] = timedelta(seconds=300)
    """The batch is dropped when its next attempt would begin later than this; 0 means never."""

    @model_validator(mode="after")
    def _intervals_grow(self) -> Self:
        if self.max_interval < self.initial_interval:
            raise ValueError("max_interval must not be shorter than initial_interval; raise it or lower the other")
        return self


class Retry:
    """Repeats a retryable export until it succeeds, time is up or it is closed.

    Never sooner than the peer asked for (RetryInfo). Logs when a signal begins to fail and when it flows again.
    """

    def __init__(self, exporter: Exporter, config: Config, telemetry: Telemetry) -> None:
        """Retry ``exporter`` as ``config`` says and count every repeated attempt."""
        self._exporter = exporter
        self._config = config
        self._telemetry = telemetry
        self._failing: set[Signal] = set()
        self._closing = asyncio.Event()

    async def export(self, batch: Batch) -> None:
        """Export, trying again after each :class:`Retryable`; raises the last one when it gives up."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        interval_s = self._config.initial_interval.total_seconds()
        while True:
            try:
                await self._exporter.export(batch)
            except Retryable as error:
                delay_s = max(self._spread(interval_s), error.retry_after_s or 0.0)
                self._give_up(error, loop.time() - started + delay_s)
                self._failed(batch, error, delay_s)
            else:
                self._succeeded(batch)
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), delay_s)
                raise Retryable("shut down before the next attempt")
            interval_s = min(interval_s * self._config.multiplier, self._config.max_interval.total_seconds())

    async def close(self) -> None:
        """Wake what waits for its next attempt, which gives up at once, and close what it wraps."""
        self._closing.set()
        await self._exporter.close()

    def _spread(self, interval_s: float) -> float:
        factor = self._config.randomization_factor
        return interval_s * random.uniform(1 - factor, 1 + factor)  # noqa: S311 - spreads load, hides nothing

    def _give_up(self, error: Retryable, elapsed_s: float) -> None:
        limit_s = self._config.max_elapsed_time.total_seconds()
        if self._closing.is_set():
            raise error
        if limit_s and elapsed_s > limit_s:
            raise Retryable(f"no success within max_elapsed_time {limit_s:g} s: {error}") from error

    def _failed(self, batch: Batch, error: Retryable, delay_s: float) -> None:
        self._telemetry.retried(batch.signal)
        if batch.signal not in self._failing:
            self._failing.add(batch.signal)
            _log.warning("Exporting failed; retrying: %s, first again in %.1f s: %s", batch.signal, delay_s, error)

    def _succeeded(self, batch: Batch) -> None:
        if batch.signal in self._failing:
            self._failing.discard(batch.signal)
            _log.info("Exporting recovered: %s", batch.signal)
