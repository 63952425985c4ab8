"""The queue alone: from put to the exporter, in memory, on disk, and on disk with ``fsync``.

Eight senders put as fast as they are let, and an exporter takes everything at once. Events are log records of 600 bytes;
``MB/s`` is what passes through. The time is the clock's, since a disk takes no processor time.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import CollectorRegistry
from table import Row

from receiver.exporters.sending_queue import SendingQueue
from receiver.pipeline import Pipeline
from receiver.storage import Config, Storage
from receiver.telemetry import Telemetry
from translators.batch import Batch, Part, Signal

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNS = 3
PUTS = {1: 8000, 100: 2000, 1000: 400}
_SENDERS = 8
_RECORD_BYTES = 600
_KINDS = ("in memory", "on disk", "on disk, fsync")


class _Run(NamedTuple):
    seconds: float
    cpu_s: float


class _Counting:
    def __init__(self, items: int) -> None:
        self._left = items
        self.done = asyncio.Event()

    async def export(self, batch: Batch) -> None:
        self._left -= batch.items
        if self._left <= 0:
            self.done.set()

    async def close(self) -> None:
        """Hold nothing."""


def rows() -> Iterator[Row]:
    """All kinds of queue in turns, for each size of a put."""
    for records, puts in PUTS.items():
        runs: dict[str, list[_Run]] = {kind: [] for kind in _KINDS}
        for _ in range(RUNS):
            for kind in _KINDS:
                runs[kind].append(asyncio.run(_run(kind, records, puts)))
        events = records * puts
        for kind in _KINDS:
            seconds = median(run.seconds for run in runs[kind])
            megabytes = events * _RECORD_BYTES / seconds / 1e6
            yield Row(
                f"queue {kind}, {records} a put: {megabytes:,.0f} MB/s",
                events / seconds,
                median(run.cpu_s for run in runs[kind]) / events * 1e6,
                _RECORD_BYTES,
                ratio=None
                if kind == _KINDS[0]
                else median(b.cpu_s / a.cpu_s for a, b in zip(runs[_KINDS[0]], runs[kind], strict=True)),
            )


async def _run(kind: str, records: int, puts: int) -> _Run:
    batch = Batch(Signal.LOGS, records, os.urandom(records * _RECORD_BYTES), (Part("bench", records, 0),))
    exporter = _Counting(records * puts)
    left = iter(range(puts))

    async def send() -> None:
        for _ in left:
            await pipeline.put([batch], wait=True)

    async with AsyncExitStack() as stack:
        storage = None
        if kind != _KINDS[0]:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="otelbee-bench-")))
            storage = await stack.enter_async_context(Storage(Config(directory=folder, fsync=kind == _KINDS[2])))
        pipeline = await stack.enter_async_context(
            Pipeline(SendingQueue(), exporter, Telemetry(CollectorRegistry()), storage)
        )
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        await asyncio.gather(*(send() for _ in range(_SENDERS)))
        await pipeline.drain(60)
        await exporter.done.wait()
        return _Run(time.perf_counter() - began_s, time.process_time() - began_cpu_s)
