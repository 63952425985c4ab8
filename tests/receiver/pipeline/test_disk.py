"""The queue on disk: what was put outlives the process that took it, in order and within bounds."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from receiver.errors import QueueFull, TooLarge
from receiver.pipeline import Pipeline, disk
from receiver.storage import Config, Storage
from tests.receiver.pipeline.sinks import Sink, bodies, config, logs, sized
from tests.receiver.tiny import until
from translators.batch import Batch, Part, Signal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from receiver.telemetry import Telemetry

pytestmark = pytest.mark.timeout(20)


async def test_put_returns_when_it_is_on_disk(tmp_path: Path, telemetry: Telemetry) -> None:
    """What was put is in the database before put returns, and its future is done."""
    async with Storage(Config(directory=tmp_path)) as storage:
        async with Pipeline(config(), Sink(is_open=False), telemetry, storage) as pipeline:
            delivered = await pipeline.put([logs("a"), logs("b", signal=Signal.TRACES)], wait=False)
            assert delivered.done()
            assert storage.newest_event_ns("test") == 0
        rows = await storage.load("logs", 0, 10, 1) + await storage.load("traces", 0, 10, 1)
    assert [numbered.row.data for numbered in rows] == [logs("a").data, logs("b", signal=Signal.TRACES).data]


async def test_backlog_is_sent_first(tmp_path: Path, telemetry: Telemetry, caplog: pytest.LogCaptureFixture) -> None:
    """What a stop left is sent by the next start, before what comes then; nothing is counted as dropped."""
    caplog.set_level("INFO")
    names = [str(number) for number in range(30)]
    async with (
        Storage(Config(directory=tmp_path)) as storage,
        Pipeline(config(), Sink(is_open=False), telemetry, storage) as pipeline,
    ):
        for name in names:
            await pipeline.put([logs(name)], wait=False)
        await pipeline.drain(0.02)
    sink = Sink(is_open=False)
    async with (
        Storage(Config(directory=tmp_path)) as storage,
        Pipeline(config(num_consumers=1), sink, telemetry, storage) as pipeline,
    ):
        await pipeline.put([logs("new")], wait=False)
        sink.gate.set()
        await sink.until_has(31)
    assert list(bodies(sink.batches)) == [*names, "new"]
    assert all(count == 1 for count in bodies(sink.batches).values())
    assert "30 items in storage are sent first" in caplog.text
    assert "dropped" not in caplog.text


async def test_acknowledged_is_forgotten(tmp_path: Path, telemetry: Telemetry, counter: Callable[..., float]) -> None:
    """What was delivered is neither on disk nor counted as held afterwards."""
    sink = Sink()
    async with (
        Storage(Config(directory=tmp_path)) as storage,
        Pipeline(config(), sink, telemetry, storage) as pipeline,
    ):
        await pipeline.put([logs("a"), logs("b")], wait=False)
        await sink.until_has(2)
        await until(lambda: counter("exporter_queue_size", data_type="logs") == 0)
    async with Storage(Config(directory=tmp_path)) as storage:
        assert storage.backlog == []


async def test_memory_holds_only_what_is_next(tmp_path: Path, telemetry: Telemetry) -> None:
    """A backlog larger than the window is read as it is needed, and every batch of it arrives once, in order."""
    batch = {"flush_timeout": "10ms", "max_size": "1MiB"}
    count = disk.WINDOW_BYTES // 100_000 * 3
    data = [sized(100_000)._replace(parts=(Part("test", 1, number),)) for number in range(count)]
    sink = Sink(is_open=False)
    settings = config(queue_size="64MiB", num_consumers=1, batch=batch)
    async with (
        Storage(Config(directory=tmp_path)) as storage,
        Pipeline(settings, sink, telemetry, storage) as pipeline,
    ):
        for one in data:
            await pipeline.put([one], wait=False)
        queue = pipeline._lanes[Signal.LOGS].queue
        assert isinstance(queue, disk.DiskQueue)
        assert queue._window_bytes <= disk.WINDOW_BYTES
        assert queue.pending_bytes > 2 * disk.WINDOW_BYTES
        sink.gate.set()
        await sink.until_has(count)
    assert [part.newest_event_ns for one in sink.batches for part in one.parts] == list(range(count))


async def test_size_is_that_of_the_earlier_run_too(
    tmp_path: Path, telemetry: Telemetry, counter: Callable[..., float]
) -> None:
    """The limit counts stored bytes, whoever stored them; more than half of it is refused where two sources feed."""
    async with (
        Storage(Config(directory=tmp_path)) as storage,
        Pipeline(config(queue_size=4000), Sink(is_open=False), telemetry, storage) as pipeline,
    ):
        for _ in range(3):
            await pipeline.put([sized(1000, "a")], wait=False)
    sink = Sink(is_open=False)
    async with (
        Storage(Config(directory=tmp_path)) as storage,
        Pipeline(config(queue_size=4000), sink, telemetry, storage) as pipeline,
    ):
        assert counter("exporter_queue_size", data_type="logs") == 3000
        with pytest.raises(QueueFull):
            await pipeline.put([sized(1500, "b")], wait=False)
        await pipeline.put([sized(1000, "b")], wait=False)
        with pytest.raises(QueueFull):
            await pipeline.put([sized(1000, "a")], wait=False)
        with pytest.raises(TooLarge):
            await pipeline.put([sized(2001, "a")], wait=True)
        waiting = asyncio.create_task(pipeline.put([sized(1000, "a")], wait=True))
        sink.gate.set()
        await waiting
        await sink.until_has(5)


async def test_profiles_stay_apart(tmp_path: Path, telemetry: Telemetry) -> None:
    """Profiles are not joined on their way through the disk either."""
    sink = Sink()
    async with (
        Storage(Config(directory=tmp_path)) as storage,
        Pipeline(config(), sink, telemetry, storage) as pipeline,
    ):
        await pipeline.put([Batch(Signal.PROFILES, 1, b"\x12\x00", ())] * 3, wait=False)
        await sink.until_has(3)
    assert [batch.data for batch in sink.batches] == [b"\x12\x00"] * 3


async def test_cancelled_put_is_whole(tmp_path: Path, telemetry: Telemetry, counter: Callable[..., float]) -> None:
    """A put that is cancelled while it is written is on disk and counted, or neither."""
    sink = Sink(is_open=False)
    async with (
        Storage(Config(directory=tmp_path)) as storage,
        Pipeline(config(), sink, telemetry, storage) as pipeline,
    ):
        for _ in range(20):
            task = asyncio.create_task(pipeline.put([sized(400)], wait=True))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        kept = await pipeline.put([logs("kept")], wait=True)
        assert kept.done()
        held = counter("exporter_queue_size", data_type="logs")
        rows = list(await storage.load("logs", 0, 100, 1 << 20))
        assert sum(len(numbered.row.data) for numbered in rows) == held


async def test_damaged_bytes_are_not_sent(
    tmp_path: Path, telemetry: Telemetry, counter: Callable[..., float], caplog: pytest.LogCaptureFixture
) -> None:
    """A row whose bytes are not those that were written is dropped and counted; its neighbours are delivered."""
    async with (
        Storage(Config(directory=tmp_path)) as storage,
        Pipeline(config(), Sink(is_open=False), telemetry, storage) as pipeline,
    ):
        for name in "abc":
            await pipeline.put([logs(name)], wait=False)
    with closing(sqlite3.connect(tmp_path / "otelbee.sqlite3")) as database:
        database.execute("UPDATE batch SET data = zeroblob(length(data)) WHERE id = 2")
        database.commit()
    sink = Sink()
    async with (
        Storage(Config(directory=tmp_path)) as storage,
        Pipeline(config(), sink, telemetry, storage) as pipeline,
    ):
        await sink.until_has(2)
        await until(lambda: counter("exporter_queue_size", data_type="logs") == 0)
        await pipeline.put([logs("d")], wait=False)
        await sink.until_has(3)
    assert bodies(sink.batches) == {"a": 1, "c": 1, "d": 1}
    assert counter("dropped_items_total", data_type="logs", reason="storage_damaged") == 1
    assert "1 items of logs lost" in caplog.text
