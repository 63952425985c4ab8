"""What the pipeline's tests put in, and exporters that are small real things."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from receiver.exporters.sending_queue import SendingQueue
from translators.batch import Batch, Part, Signal
from translators.otlp import REQUESTS, parse


def config(**options: Any) -> SendingQueue:
    """Flushes after 10 ms, with small sizes: a queue of 10,000 bytes, requests of 1,000."""
    batch = {"flush_timeout": "10ms", "max_size": 1000, **options.pop("batch", {})}
    return SendingQueue(**{"queue_size": 10_000, "batch": batch, **options})


def logs(*bodies: str, source: str = "test", signal: Signal = Signal.LOGS) -> Batch:
    """One log record (or span) per body."""
    message: Any = REQUESTS[signal]()
    for body in bodies:
        if signal is Signal.LOGS:
            record = message.resource_logs.add().scope_logs.add().log_records.add()
            record.body.string_value = body
        else:
            message.resource_spans.add().scope_spans.add().spans.add().name = body
    return Batch(signal, len(bodies), message.SerializeToString(), (Part(source, len(bodies), 0),))


def sized(size: int, source: str = "test", signal: Signal = Signal.LOGS) -> Batch:
    """One item in a batch of exactly ``size`` bytes (at least 300)."""
    batch = logs("x" * (size - 300), source=source, signal=signal)
    return logs("x" * (size - 300 + size - len(batch.data)), source=source, signal=signal)


def bodies(batches: list[Batch]) -> Counter[str]:
    """The bodies of all log records, as a multiset."""
    return Counter(
        record.body.string_value
        for batch in batches
        for resource in parse(batch.signal, batch.data).resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    )


class Sink:
    """An exporter that remembers; it takes a batch when its gate is open, and first raises what ``script`` has."""

    def __init__(self, *script: Exception, is_open: bool = True) -> None:
        """Begin with a gate that is open or not."""
        self.script = list(script)
        self.batches: list[Batch] = []
        self.tried: list[Batch] = []
        self.at_once = 0
        self.most_at_once = 0
        self.gate = asyncio.Event()
        if is_open:
            self.gate.set()
        self._news = asyncio.Event()

    async def export(self, batch: Batch) -> None:
        """Remember the attempt, wait for the gate, raise or remember the batch."""
        self.tried.append(batch)
        self._news.set()
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.gate.wait()
            if self.script:
                raise self.script.pop(0)
        finally:
            self.at_once -= 1
        self.batches.append(batch)
        self._news.set()

    async def close(self) -> None:
        """Hold nothing."""

    async def until_tried(self, count: int) -> None:
        """Wait until so many attempts began."""
        while len(self.tried) < count:
            self._news.clear()
            await self._news.wait()

    async def until_has(self, items: int) -> None:
        """Wait until so many items were taken."""
        while sum(batch.items for batch in self.batches) < items:
            self._news.clear()
            await self._news.wait()
