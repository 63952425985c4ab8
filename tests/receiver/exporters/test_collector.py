"""The exporters against the real Collector."""

from __future__ import annotations

import asyncio
import io
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from peers.processes import Collector

from receiver.exporters import build, file, otlp_grpc
from receiver.exporters.retry import Config as RetryConfig
from receiver.exporters.sending_queue import Batching, SendingQueue
from receiver.net.tls import ClientTLS
from receiver.pipeline import Pipeline
from tests.receiver.exporters.otlp_server import request
from translators.batch import Batch, Part, Signal
from translators.otlp import REQUESTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from receiver.telemetry import Telemetry
    from receiver.types import Exporter

pytestmark = pytest.mark.usefixtures("peers")


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    """A Collector that takes requests of up to 1 MiB and writes them to files."""
    with Collector(tmp_path, receiver={"max_recv_msg_size_mib": 1}) as running:
        yield running


def exporter(collector: Collector, telemetry: Telemetry) -> Exporter:
    """To the Collector, compressed, with short retries."""
    config = otlp_grpc.Config(
        endpoint=collector.endpoint,
        tls=ClientTLS(insecure=True),
        compression="gzip",
        retry_on_failure=RetryConfig(initial_interval=timedelta(milliseconds=50), multiplier=1),
    )
    return build(config, telemetry, io.StringIO(), first_connection_spread_s=0)


def large(records: int) -> Batch:
    """A batch of records of about a kilobyte each."""
    message = REQUESTS[Signal.LOGS]()
    scope = message.resource_logs.add().scope_logs.add()  # type: ignore[attr-defined]  # a request for logs
    for index in range(records):
        scope.log_records.add().body.string_value = f"{index:01000}"
    return Batch(Signal.LOGS, records, message.SerializeToString(), (Part("test", records, 0),))


async def test_file_is_the_collectors(collector: Collector, telemetry: Telemetry, tmp_path: Path) -> None:
    """Our file exporter writes of the same requests what the Collector's does, to the byte."""
    ours = file.Exporter(file.Config(path=tmp_path / "ours.jsonl"))
    exporters = [exporter(collector, telemetry), ours]
    for batch in (request(records=3), large(2)):
        for each in exporters:
            await each.export(batch)
    await asyncio.to_thread(collector.received, 5)
    for each in exporters:
        await each.close()
    assert (tmp_path / "ours.jsonl").read_text() == collector.json.read_text()


async def test_request_above_the_collectors_limit_arrives_in_pieces(
    collector: Collector, telemetry: Telemetry, dropped: Callable[[Signal, str], float]
) -> None:
    """What a real Collector refuses as larger than its limit arrives whole, once, in smaller requests."""
    sink = exporter(collector, telemetry)
    async with Pipeline(SendingQueue(batch=Batching(max_size=8 << 20)), sink, telemetry) as pipeline:
        delivered = await pipeline.put([large(5000)], wait=True)
        await delivered
    records = await asyncio.to_thread(collector.received, 5000)
    await sink.close()
    assert sorted(int(record.body.string_value) for record in records) == list(range(5000))
    assert dropped(Signal.LOGS, "too_large") == 0


async def test_collector_that_is_killed_and_comes_back(collector: Collector, telemetry: Telemetry) -> None:
    """What is put while the Collector is dead is delivered when it is back."""
    sink = exporter(collector, telemetry)
    async with Pipeline(
        SendingQueue(batch=Batching(flush_timeout=timedelta(milliseconds=10))), sink, telemetry
    ) as pipe:
        await (await pipe.put([request()], wait=True))
        collector.kill()
        delivered = await pipe.put([request(records=2)], wait=True)
        await asyncio.to_thread(collector.start)
        await delivered
    await asyncio.to_thread(collector.received, 2)
    await sink.close()
