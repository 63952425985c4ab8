"""An exporter that wraps an exporter, and can be given another one while requests are under way."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from receiver.errors import Held

if TYPE_CHECKING:
    from receiver.types import Exporter
    from translators.batch import Batch

_LET_END_S = 1.0
"""What requests under way get to end over the exporter that they began with."""


class Replaceable:
    """Exports through the exporter of the moment. What fails because its exporter was replaced goes to the next one."""

    def __init__(self, exporter: Exporter) -> None:
        """Begin with ``exporter``, which belongs to this from now on."""
        self._current = exporter
        self._under_way: dict[asyncio.Future[None], Exporter] = {}

    async def export(self, batch: Batch) -> None:
        """Export; raises what the exporter of the moment raises."""
        while True:
            exporter = self._current
            ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._under_way[ended] = exporter
            try:
                await exporter.export(batch)
            except asyncio.CancelledError:  # a closed connection cancels its calls; a stop cancels this task
                if exporter is self._current or _is_being_cancelled():
                    raise
            except Held as error:
                if exporter is self._current:
                    cured = error.cured
                    error.cured = lambda: self._current is not exporter or (cured is not None and cured())  # noqa: B023 - raised in this turn
                    raise
            except Exception:
                if exporter is self._current:
                    raise
            else:
                return
            finally:
                del self._under_way[ended]
                ended.set_result(None)

    async def replace(self, exporter: Exporter) -> None:
        """Send what comes from now on through ``exporter``, and close the one before."""
        before, self._current = self._current, exporter
        under_way = [ended for ended, by in self._under_way.items() if by is before]
        if under_way:
            await asyncio.wait(under_way, timeout=_LET_END_S)
        with contextlib.suppress(Exception):  # what cannot be closed any more is closed
            await before.close()

    async def close(self) -> None:
        """Close the exporter of the moment."""
        await self._current.close()


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
