"""The smallest real parts that a service can be built of: a translator and a queue, for tests of what is between."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, ClassVar

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from receiver.errors import QueueFull, TooLarge
from translators.batch import Batch, Origin, Part, Rejection, Signal, Translation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class LineTranslator:
    """Every record becomes a log record with the record as its body; ``bad`` is rejected, ``same`` is counted."""

    blocking: ClassVar[bool] = False

    def __init__(self, record_s: float = 0) -> None:
        """Take ``record_s`` seconds of CPU for a record."""
        self.turns: list[int] = []
        self.threads: set[str] = set()
        self._record_s = record_s

    def translate(self, kind: str, records: Sequence[bytes], origin: Origin, now_ns: int) -> Translation:
        """Translate ``kind`` line."""
        assert (kind, origin) == ("line", Origin())
        self.turns.append(len(records))
        self.threads.add(threading.current_thread().name)
        until = time.perf_counter() + len(records) * self._record_s
        while time.perf_counter() < until:
            pass
        good = [record for record in records if record not in {b"bad", b"same"}]
        rejected = tuple(
            Rejection(index, "malformed", "it is bad") for index, record in enumerate(records) if record == b"bad"
        )
        same = records.count(b"same")
        return Translation((logs(good, now_ns),) if good else (), rejected, {"same": same} if same else {})


class BlockingLineTranslator(LineTranslator):
    """The same, in a worker thread."""

    blocking: ClassVar[bool] = True


class DerivingTranslator(LineTranslator):
    """Derives a batch of traces from each of logs; their bytes are the same, nobody looks at them."""

    def translate(self, kind: str, records: Sequence[bytes], origin: Origin, now_ns: int) -> Translation:
        """Translate ``kind`` line."""
        translation = super().translate(kind, records, origin, now_ns)
        return translation._replace(
            derived=tuple(batch._replace(signal=Signal.TRACES) for batch in translation.batches)
        )


async def until(condition: Callable[[], object], deadline_s: float = 10) -> None:
    """Wait for a condition of any kind; fail when it does not come true."""
    async with asyncio.timeout(deadline_s):
        while not condition():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.01)


def logs(bodies: Sequence[bytes], now_ns: int = 0) -> Batch:
    """One request with a log record for each body."""
    request = ExportLogsServiceRequest()
    records = request.resource_logs.add().scope_logs.add().log_records
    for body in bodies:
        record = records.add(time_unix_nano=now_ns)
        record.body.string_value = body.decode()
    return Batch(Signal.LOGS, len(bodies), request.SerializeToString(), (Part("", len(bodies), now_ns),))


class TinyQueue:
    """A queue of a few items, emptied by :meth:`deliver`."""

    def __init__(self, capacity: int = 1_000_000) -> None:
        """Hold ``capacity`` items."""
        self.batches: list[Batch] = []
        self._capacity = capacity
        self._room = asyncio.Condition()

    async def put(self, batches: Sequence[Batch], *, wait: bool) -> asyncio.Future[None]:
        """Take the batches when there is room."""
        items = sum(batch.items for batch in batches)
        if items > self._capacity:
            raise TooLarge(f"{items} items")
        async with self._room:
            if not wait and self.held + items > self._capacity:
                raise QueueFull(retry_after_s=1)
            await self._room.wait_for(lambda: self.held + items <= self._capacity)
            self.batches += batches
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    async def deliver(self) -> None:
        """Make room."""
        async with self._room:
            self.batches.clear()
            self._room.notify_all()

    @property
    def held(self) -> int:
        """Items in the queue."""
        return sum(batch.items for batch in self.batches)
