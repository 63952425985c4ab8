"""The exporters against the real Collector."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
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
from tests.receiver.exporters.running import NEVER, pipeline, until
from tests.receiver.exporters.test_certificates import client_side, make, replace
from tests.receiver.net.certificates import Pair
from translators.batch import Batch, Part, Signal
from translators.otlp import REQUESTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from prometheus_client import CollectorRegistry

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


async def test_record_that_the_collector_cannot_read(
    collector: Collector, telemetry: Telemetry, registry: CollectorRegistry, tmp_path: Path
) -> None:
    """A trace id of five bytes, which a Collector refuses with the whole request, costs the one record that has it."""
    message = REQUESTS[Signal.LOGS]()
    scope = message.resource_logs.add().scope_logs.add()  # type: ignore[attr-defined]  # a request for logs
    for index in range(10_000):
        scope.log_records.add(trace_id=b"short" if index == 4321 else bytes(16)).body.string_value = str(index)
    batch = Batch(Signal.LOGS, 10_000, message.SerializeToString(), (Part("test", 10_000, 0),))
    path = tmp_path / "dead.jsonl"
    async with pipeline(collector.endpoint, telemetry, dead_letter=str(path)) as running:
        await (await running.put([batch], wait=True))
    records = await asyncio.to_thread(collector.received, 9_999)
    assert sorted(int(record.body.string_value) for record in records) == [n for n in range(10_000) if n != 4321]
    (line,) = map(json.loads, path.read_text().splitlines())
    assert line["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]["body"] == {"stringValue": "4321"}
    labels = {"data_type": "logs", "reason": "refused"}
    assert registry.get_sample_value("otelbee_dead_letter_items_total", labels) == 1


async def test_collector_without_a_traces_pipeline(collector: Collector, telemetry: Telemetry) -> None:
    """Spans are held with the remedy while logs flow."""
    async with pipeline(collector.endpoint, telemetry) as running:
        spans = await running.put([request(Signal.TRACES)], wait=True)
        await until(telemetry.remedies)
        await (await running.put([request()], wait=True))
        assert not spans.done()
        assert telemetry.remedies().keys() == {Signal.TRACES}
        assert "has no traces pipeline" in telemetry.remedies()[Signal.TRACES]


async def test_wrong_token_and_then_the_right_one(tmp_path: Path, telemetry: Telemetry) -> None:
    """What a Collector with bearertokenauth refuses waits, and arrives with the right token in the file."""
    token = tmp_path / "token"
    token.write_text("wrong")
    auth = {"bearertokenauth": {"filename": str(token)}}
    with Collector(
        tmp_path,
        receiver={"auth": {"authenticator": "bearertokenauth"}},
        extensions={"bearertokenauth": {"token": "right"}},
    ) as collector:
        async with pipeline(collector.endpoint, telemetry, NEVER, auth=auth) as running:
            delivered = await running.put([request(records=5)], wait=True)
            await until(telemetry.remedies)
            assert "check the token" in telemetry.remedies()[Signal.LOGS]
            token.write_text("right\n")
            await delivered
        await asyncio.to_thread(collector.received, 5)


async def test_collector_that_is_short_of_memory(
    tmp_path: Path, telemetry: Telemetry, registry: CollectorRegistry
) -> None:
    """What memory_limiter refuses is retried, and arrives when there is memory."""
    limiter = {"check_interval": "100ms", "limit_mib": 1, "spike_limit_mib": 0}
    labels = {"data_type": "logs"}
    with Collector(tmp_path, processors={"memory_limiter": limiter}) as collector:
        await until(lambda: "Refusing data" in collector.errors())
        async with pipeline(collector.endpoint, telemetry) as running:
            delivered = await running.put([request(records=5)], wait=True)
            await until(lambda: (registry.get_sample_value("otelbee_exporter_retries_total", labels) or 0) >= 3)
            assert not delivered.done()
            collector.stop()
            config = tmp_path / "collector.yaml"
            config.write_text(config.read_text().replace('"limit_mib": 1,', '"limit_mib": 512,'))
            await asyncio.to_thread(collector.start)
            await delivered
        assert len(await asyncio.to_thread(collector.received, 5)) == 5


async def test_collector_that_wants_another_client_certificate(tmp_path: Path, telemetry: Telemetry) -> None:
    """Nothing is lost while the client has none, and it is sent with the one that is put in place."""
    trusted, stranger = make(tmp_path / "trusted"), make(tmp_path / "stranger")
    used = Pair(tmp_path / "client.pem", tmp_path / "client.key")
    for used_file, content in zip(used, stranger.issue("client.test"), strict=True):
        shutil.copy(content, used_file)
    own = trusted.issue("collector.test")
    tls = {"cert_file": str(own.cert_file), "key_file": str(own.key_file), "client_ca_file": str(trusted.ca_file)}
    with Collector(tmp_path, receiver={"tls": tls}) as collector:
        async with pipeline(collector.endpoint, telemetry, tls=client_side(trusted.ca_file, used)) as running:
            delivered = await running.put([request(records=5)], wait=True)
            await asyncio.sleep(0.5)
            assert not delivered.done()
            for used_file, content in zip(used, trusted.issue("client.test"), strict=True):
                replace(used_file, content)
            await delivered
        await asyncio.to_thread(collector.received, 5)
