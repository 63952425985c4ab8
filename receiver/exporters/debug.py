"""Shows batches to people; as an exporter of its own, or as a tap on another."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from receiver.errors import ExportError, Permanent
from receiver.exporters import debug_text
from receiver.exporters.sending_queue import SendingQueue
from receiver.fields import Section

if TYPE_CHECKING:
    from typing import TextIO

    from receiver.types import Exporter as AnyExporter
    from translators.batch import Batch

_MORE_TEXT: Final = {"normal": debug_text.normal, "detailed": debug_text.detailed}


class Config(Section):
    """How much to show; the keys are those of the Collector's ``debug`` exporter."""

    verbosity: Literal["basic", "normal", "detailed"] = "basic"
    """``basic`` a line per batch, ``normal`` also a line per record, ``detailed`` also a line per field."""
    sending_queue: ClassVar[SendingQueue] = SendingQueue()
    """Not a setting: a tap has no queue, and people read slower than any queue fills."""


class Exporter:
    """Writes batches as text to a stream, which stays open. Formatting and writing happen in a thread."""

    def __init__(self, config: Config, stream: TextIO) -> None:
        """Show on ``stream`` as ``config`` says."""
        self._verbosity = config.verbosity
        self._stream = stream
        self._turn = asyncio.Lock()

    async def export(self, batch: Batch) -> None:
        """Show one batch; raises :class:`Permanent` when the stream is gone."""
        async with self._turn:
            try:
                await asyncio.to_thread(self._show, batch)
            except (OSError, ValueError) as error:
                raise Permanent(f"cannot be shown: {error}") from None

    async def close(self) -> None:
        """Leave the stream to its owner."""

    def _show(self, batch: Batch) -> None:
        shown = debug_text.basic(batch)
        if more_text := _MORE_TEXT.get(self._verbosity):
            shown += more_text(batch)
        self._stream.write(shown)
        self._stream.flush()


class Tap:
    """An exporter that wraps an exporter: also shows what passes, but never waits for that nor fails by it.

    While the output is slower than the data, batches pass unseen.
    """

    def __init__(self, exporter: AnyExporter, debug: Exporter) -> None:
        """Show on ``debug`` what goes to ``exporter``."""
        self._exporter = exporter
        self._debug = debug
        self._showing: asyncio.Task[None] | None = None

    async def export(self, batch: Batch) -> None:
        """Export, and show the batch unless the one before is still being shown."""
        if self._showing is None or self._showing.done():
            self._showing = asyncio.create_task(self._show(batch))
        await self._exporter.export(batch)

    async def close(self) -> None:
        """Let the last batch be shown and close what it wraps."""
        if self._showing is not None:
            await self._showing
        await self._exporter.close()

    async def _show(self, batch: Batch) -> None:
        with contextlib.suppress(ExportError):
            await self._debug.export(batch)
