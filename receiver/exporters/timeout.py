"""An exporter that wraps an exporter: gives up an attempt after a while."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from receiver.errors import Retryable

if TYPE_CHECKING:
    from datetime import timedelta

    from receiver.types import Exporter
    from translators.batch import Batch


class Timeout:
    """Bounds each attempt of ``exporter``; zero means no bound."""

    def __init__(self, exporter: Exporter, timeout: timedelta) -> None:
        """Bound every ``exporter.export`` by ``timeout``."""
        self._exporter = exporter
        self._timeout_s = timeout.total_seconds() or None

    async def export(self, batch: Batch) -> None:
        """Export, or raise :class:`Retryable` when the peer does not answer in time."""
        bound = asyncio.timeout(self._timeout_s)
        try:
            async with bound:
                await self._exporter.export(batch)
        except TimeoutError:
            if not bound.expired():
                raise
            raise Retryable(f"no answer within {self._timeout_s:g} s") from None

    async def close(self) -> None:
        """Close what it wraps."""
        await self._exporter.close()
