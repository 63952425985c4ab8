"""The debug exporter shows batches to people."""

from __future__ import annotations

import asyncio
import io
import threading
from typing import Any

import pytest

from receiver.errors import Permanent
from receiver.exporters.debug import Config, Exporter, Tap
from tests.receiver.exporters.otlp_server import request
from translators.batch import Batch, Signal
from translators.otlp import REQUESTS


def log_batch() -> Batch:
    """A log record with attributes of several types, and a body that would act on a terminal."""
    message: Any = REQUESTS[Signal.LOGS]()
    resource = message.resource_logs.add(schema_url="https://example/1")
    resource.resource.attributes.add(key="host.name").value.string_value = "node-1"
    scope = resource.scope_logs.add()
    scope.scope.name, scope.scope.version = "otelbee", "1.0"
    record = scope.log_records.add(time_unix_nano=1_700_000_000_000_000_001, severity_number=9, trace_id=bytes(16))
    record.body.string_value = "a\x1b[2Jb\nc"
    record.attributes.add(key="n").value.int_value = 7
    arguments = record.attributes.add(key="args").value.array_value
    arguments.values.add().string_value = "-x"
    arguments.values.add().bool_value = True
    return Batch(Signal.LOGS, 1, message.SerializeToString(), ())


async def shown(batch: Batch, verbosity: Any) -> list[str]:
    """The lines that are written for one batch."""
    stream = io.StringIO()
    exporter = Exporter(Config(verbosity=verbosity), stream)
    await exporter.export(batch)
    await exporter.close()
    assert not stream.closed
    return stream.getvalue().splitlines()


async def test_basic_is_a_line() -> None:
    """Signal, items and bytes."""
    batch = log_batch()
    assert await shown(batch, "basic") == [f"Logs: 1 log records, {len(batch.data)} bytes"]


async def test_normal_is_a_line_per_record() -> None:
    """Resource, scope and record have a line each, and control characters are written out."""
    assert (await shown(log_batch(), "normal"))[1:] == [
        "ResourceLog #0 [https://example/1] host.name=node-1",
        "ScopeLog #0 otelbee@1.0",
        'a\\x1b[2Jb\\nc n=7 args=["-x",true]',
    ]


async def test_detailed_is_a_line_per_field() -> None:
    """Every field is named, times are readable, attributes carry their type."""
    assert (await shown(log_batch(), "detailed"))[3:] == [
        "LogRecord #0",
        "    time_unix_nano: 2023-11-14 22:13:20.000000001 UTC",
        "    severity_number: SEVERITY_NUMBER_INFO(9)",
        "    body: Str(a\\x1b[2Jb\\nc)",
        "    attributes:",
        "         -> n: Int(7)",
        '         -> args: Slice(["-x",true])',
        "    trace_id: 00000000000000000000000000000000",
    ]


@pytest.mark.parametrize("verbosity", ["basic", "normal", "detailed"])
@pytest.mark.parametrize(
    ("signal", "line"),
    [
        (Signal.LOGS, "record 1"),
        (Signal.TRACES, "span 1"),
        (Signal.METRICS, "m{} 1"),
        (Signal.PROFILES, " samples=1"),
    ],
)
async def test_every_signal(signal: Signal, line: str, verbosity: str) -> None:
    """Each signal is shown at each verbosity; ``normal`` has its record."""
    lines = await shown(request(signal, 2), verbosity)
    assert lines[0].startswith(f"{signal.value.capitalize()}: 2 ")
    assert verbosity != "normal" or line in {each.rstrip() for each in lines}


async def test_histograms_and_unset_metrics() -> None:
    """A histogram shows count and sum, a metric without data nothing."""
    message: Any = REQUESTS[Signal.METRICS]()
    metrics = message.resource_metrics.add().scope_metrics.add().metrics
    metrics.add(name="empty")
    metrics.add(name="h").histogram.data_points.add(count=3, sum=1.5)
    batch = Batch(Signal.METRICS, 1, message.SerializeToString(), ())
    assert (await shown(batch, "normal"))[3:] == ["h{} count=3 sum=1.5"]


async def test_stream_that_is_gone() -> None:
    """A closed output is a permanent failure, not a crash."""
    stream = io.StringIO()
    stream.close()
    with pytest.raises(Permanent, match="cannot be shown"):
        await Exporter(Config(), stream).export(log_batch())


class Sink:
    """An exporter that remembers."""

    def __init__(self) -> None:
        """Begin empty."""
        self.batches: list[Batch] = []
        self.closed = False

    async def export(self, batch: Batch) -> None:
        """Remember it."""
        self.batches.append(batch)

    async def close(self) -> None:
        """Remember it."""
        self.closed = True


class SlowStream(io.StringIO):
    """A stream whose reader pauses until it is let go."""

    def __init__(self) -> None:
        """Begin with a reader that pauses."""
        super().__init__()
        self.go = threading.Event()

    def write(self, text: str) -> int:
        """Wait, then write."""
        self.go.wait(10)
        return super().write(text)


async def test_tap_neither_waits_nor_fails() -> None:
    """While the output is stuck, batches pass; what is shown is shown whole; a broken output changes nothing."""
    stream, sink = SlowStream(), Sink()
    tap = Tap(sink, Exporter(Config(), stream))
    for _ in range(3):
        async with asyncio.timeout(1):
            await tap.export(log_batch())
    stream.go.set()
    await tap.close()
    assert len(sink.batches) == 3
    assert sink.closed
    assert stream.getvalue().count("Logs: 1 log records") == 1
    stream.close()
    await tap.export(log_batch())
    await tap.close()
    assert len(sink.batches) == 4
