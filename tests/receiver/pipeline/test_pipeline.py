"""From put to what became of it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import pytest

from receiver.errors import MessageTooLarge, QueueFull, Retryable, TooLarge
from receiver.pipeline import Pipeline
from tests.receiver.pipeline.sinks import Sink, bodies, config, logs, sized
from translators.batch import Batch, Signal

if TYPE_CHECKING:
    from collections.abc import Callable

    from receiver.telemetry import Telemetry

pytestmark = pytest.mark.timeout(10)


async def test_put_is_delivered_and_acknowledged(telemetry: Telemetry, counter: Callable[..., float]) -> None:
    """Put returns when the queue has the batch, its result when the exporter has it; both are counted."""
    sink = Sink(is_open=False)
    async with Pipeline(config(), sink, telemetry) as pipeline:
        batch = logs("a", "b")
        delivered = asyncio.ensure_future(await pipeline.put([batch], wait=False))
        await sink.until_tried(1)
        assert not delivered.done()
        assert counter("exporter_queue_size", data_type="logs") == len(batch.data)
        sink.gate.set()
        await delivered
    assert bodies(sink.batches) == {"a": 1, "b": 1}
    assert counter("exporter_sent_log_records_total") == 2
    assert counter("exporter_queue_size", data_type="logs") == 0
    assert counter("exporter_queue_capacity", data_type="logs") == 10_000


async def test_empty_put_is_delivered(telemetry: Telemetry) -> None:
    """Nothing to deliver is delivered."""
    async with Pipeline(config(), Sink(), telemetry) as pipeline:
        await (await pipeline.put([], wait=False))


async def test_ignored_delivery_is_harmless(telemetry: Telemetry) -> None:
    """The result of put may be ignored, and cancelled by whom it belongs to."""
    sink = Sink()
    async with Pipeline(config(num_consumers=1), sink, telemetry) as pipeline:
        await pipeline.put([logs("a"), logs("b", signal=Signal.TRACES)], wait=False)
        waiting = asyncio.ensure_future(await pipeline.put([logs("c")], wait=False))
        waiting.cancel()
        await sink.until_has(3)
        await (await pipeline.put([logs("d")], wait=False))


async def test_small_batches_are_joined(telemetry: Telemetry) -> None:
    """What arrives within flush_timeout leaves as one request that has the items and parts of all."""
    sink = Sink()
    async with Pipeline(config(), sink, telemetry) as pipeline:
        for name in "abc":
            await pipeline.put([logs(name, source=name)], wait=False)
        await sink.until_has(3)
    (joined,) = sink.batches
    assert bodies([joined]) == {"a": 1, "b": 1, "c": 1}
    assert joined.items == 3
    assert [part.source for part in joined.parts] == ["a", "b", "c"]


async def test_full_request_leaves_at_once(telemetry: Telemetry) -> None:
    """A request that is full does not wait for flush_timeout, and what follows it does."""
    sink = Sink()
    async with Pipeline(config(batch={"flush_timeout": "1h"}), sink, telemetry) as pipeline:
        await pipeline.put([sized(600), sized(600)], wait=False)
        await sink.until_has(1)
        await asyncio.sleep(0.02)
        assert len(sink.batches) == 1
        await pipeline.drain(1)
    assert [len(batch.data) for batch in sink.batches] == [600, 600]


async def test_profiles_are_never_joined(telemetry: Telemetry) -> None:
    """Each profile batch is a request of its own and does not wait."""
    sink = Sink()
    async with Pipeline(config(batch={"flush_timeout": "1h"}), sink, telemetry) as pipeline:
        await pipeline.put([Batch(Signal.PROFILES, 1, b"\x12\x00", ())] * 3, wait=False)
        await sink.until_has(3)
    assert [batch.data for batch in sink.batches] == [b"\x12\x00"] * 3


async def test_oversize_batch_is_split(telemetry: Telemetry, counter: Callable[..., float]) -> None:
    """A batch beyond max_size goes out in pieces and is acknowledged when the last one arrived."""
    sink = Sink()
    async with Pipeline(config(), sink, telemetry) as pipeline:
        await (await pipeline.put([logs(*(f"{index:0100}" for index in range(50)))], wait=False))
    assert all(len(batch.data) <= 1000 for batch in sink.batches)
    assert len(bodies(sink.batches)) == sum(batch.items for batch in sink.batches) == 50
    assert counter("exporter_sent_log_records_total") == 50


async def test_message_too_large_is_halved(telemetry: Telemetry) -> None:
    """What the next stage calls too large is cut in half and sent again, in order."""
    sink = Sink(MessageTooLarge("max 500"), MessageTooLarge("max 500"))
    async with Pipeline(config(), sink, telemetry) as pipeline:
        await (await pipeline.put([logs(*map(str, range(40)))], wait=False))
    assert len(bodies(sink.batches)) == sum(batch.items for batch in sink.batches) == 40
    assert "0" in bodies(sink.batches[:1])
    assert "39" in bodies(sink.batches[-1:])
    assert len(sink.batches) >= 3


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MessageTooLarge("max 5"), "too_large"),
        (Retryable("busy"), "retries_exhausted"),
        (RuntimeError("a fault of ours"), "internal_error"),
    ],
)
async def test_failure_drops_counts_and_completes(
    telemetry: Telemetry,
    counter: Callable[..., float],
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    reason: str,
) -> None:
    """What cannot be delivered is dropped and counted; its put completes; the next goes on; logs say it once."""
    caplog.set_level(logging.INFO)
    sink = Sink(error, error)
    async with Pipeline(config(num_consumers=1), sink, telemetry) as pipeline:
        for _ in range(2):
            await (await pipeline.put([logs("lost")], wait=False))
        await (await pipeline.put([logs("kept")], wait=False))
    assert bodies(sink.batches) == {"kept": 1}
    assert counter("dropped_items_total", data_type="logs", reason=reason) == 2
    assert counter("exporter_send_failed_log_records_total") == 2
    assert counter("exporter_queue_size", data_type="logs") == 0
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "Exporting failed; dropping data",
    ]


async def test_full_queue_refuses_push(telemetry: Telemetry, counter: Callable[..., float]) -> None:
    """Without wait a full queue raises QueueFull with a delay, counts it, and takes again after a delivery."""
    sink = Sink(is_open=False)
    async with Pipeline(config(queue_size=2000), sink, telemetry) as pipeline:
        delivered = [await pipeline.put([sized(1000)], wait=False) for _ in range(2)]
        with pytest.raises(QueueFull) as refused:
            await pipeline.put([sized(1000)], wait=False)
        assert refused.value.retry_after_s > 0
        assert counter("exporter_enqueue_failed_log_records_total") == 1
        sink.gate.set()
        for each in delivered:
            await each
        await (await pipeline.put([sized(1000)], wait=False))


async def test_push_of_two_signals_is_all_or_none(telemetry: Telemetry) -> None:
    """When the queue of one signal is full, a push of two queues neither."""
    sink = Sink(is_open=False)
    async with Pipeline(config(queue_size=1000), sink, telemetry) as pipeline:
        await pipeline.put([sized(1000, signal=Signal.TRACES)], wait=False)
        with pytest.raises(QueueFull):
            await pipeline.put([logs("a"), sized(400, signal=Signal.TRACES)], wait=False)
        sink.gate.set()
        await sink.until_has(1)
    assert bodies([batch for batch in sink.batches if batch.signal is Signal.LOGS]) == {}


async def test_more_than_the_queue_can_hold(telemetry: Telemetry) -> None:
    """What can never fit is refused for good, even with wait."""
    async with Pipeline(config(queue_size=1000), Sink(), telemetry) as pipeline:
        with pytest.raises(TooLarge, match=r"1500 bytes .* \(1000\)"):
            await pipeline.put([sized(1500)], wait=True)


async def test_pull_waits_for_room(telemetry: Telemetry) -> None:
    """With wait a full queue makes put wait until a delivery makes room."""
    sink = Sink(is_open=False)
    async with Pipeline(config(queue_size=1000), sink, telemetry) as pipeline:
        await pipeline.put([sized(1000)], wait=True)
        second = asyncio.create_task(pipeline.put([sized(1000)], wait=True))
        await sink.until_tried(1)
        assert not second.done()
        sink.gate.set()
        await (await second)


async def test_signals_do_not_stop_each_other(telemetry: Telemetry) -> None:
    """While the exporter holds logs, traces flow."""

    class LogsHeld(Sink):
        async def export(self, batch: Batch) -> None:
            if batch.signal is Signal.LOGS:
                await asyncio.Event().wait()
            await super().export(batch)

    sink = LogsHeld()
    async with Pipeline(config(queue_size=1000), sink, telemetry) as pipeline:
        await pipeline.put([sized(1000)], wait=False)
        await (await pipeline.put([sized(1000, signal=Signal.TRACES)], wait=False))


async def test_so_many_requests_at_once(telemetry: Telemetry) -> None:
    """num_consumers requests of a signal are under way at the same time, not more."""
    sink = Sink(is_open=False)
    async with Pipeline(config(num_consumers=3), sink, telemetry) as pipeline:
        await pipeline.put([sized(1000) for _ in range(8)], wait=False)
        await sink.until_tried(3)
        sink.gate.set()
        await sink.until_has(8)
    assert sink.most_at_once == 3


async def test_drain_sends_what_waits(telemetry: Telemetry, caplog: pytest.LogCaptureFixture) -> None:
    """Drain flushes at once what would have waited, and says nothing when nothing is lost."""
    sink = Sink()
    async with Pipeline(config(batch={"flush_timeout": "1h"}), sink, telemetry) as pipeline:
        await pipeline.put([logs("a"), logs("b")], wait=False)
        await pipeline.drain(5)
        with pytest.raises(QueueFull):
            await pipeline.put([logs("late")], wait=True)
    assert bodies(sink.batches) == {"a": 1, "b": 1}
    assert not caplog.records


async def test_drain_gives_up_at_its_deadline(
    telemetry: Telemetry, counter: Callable[..., float], caplog: pytest.LogCaptureFixture
) -> None:
    """What is left at the deadline, under way or not, is counted as dropped and logged once; waiting puts end."""
    sink = Sink(is_open=False)
    async with Pipeline(config(queue_size=4000, num_consumers=1), sink, telemetry) as pipeline:
        delivered = asyncio.ensure_future(
            await pipeline.put([sized(1000), sized(1000), logs(*map(str, range(90)))], wait=False)
        )
        waiting = asyncio.create_task(pipeline.put([sized(3000)], wait=True))
        await sink.until_tried(1)
        await pipeline.drain(0.02)
        with pytest.raises(QueueFull):
            await waiting
        assert delivered.cancelled()
    assert counter("dropped_items_total", data_type="logs", reason="shutdown") == 92
    assert counter("exporter_queue_size", data_type="logs") == 0
    assert [record.getMessage() for record in caplog.records] == [
        "Shut down before everything was sent; dropped 92 items of logs"
    ]


async def test_drain_counts_only_the_unsent_pieces(telemetry: Telemetry, counter: Callable[..., float]) -> None:
    """Of a batch that is cut, the pieces that arrived are not counted as dropped."""

    class OneOnly(Sink):
        async def export(self, batch: Batch) -> None:
            await super().export(batch)
            self.gate.clear()

    sink = OneOnly()
    async with Pipeline(config(num_consumers=1), sink, telemetry) as pipeline:
        await pipeline.put([logs(*(f"{index:0100}" for index in range(50)))], wait=False)
        await sink.until_tried(2)
    sent = sum(batch.items for batch in sink.batches)
    assert 0 < sent < 50
    assert counter("dropped_items_total", data_type="logs", reason="shutdown") == 50 - sent


async def test_a_burst_is_read_before_anything_is_sent(telemetry: Telemetry) -> None:
    """While a source is far behind its reading nothing leaves; at the end of the burst all does."""
    waiting_bytes = 2 << 20
    telemetry.backlog("stream", lambda: waiting_bytes, 64 << 20)
    sink = Sink()
    async with Pipeline(config(), sink, telemetry) as pipeline:
        await pipeline.put([logs("a")], wait=False)
        await asyncio.sleep(0.2)
        assert not sink.tried
        waiting_bytes = 0
        await sink.until_has(1)


async def test_a_queue_that_fills_is_sent_even_in_a_burst(telemetry: Telemetry) -> None:
    """Beyond two fifths of the queue, whatever there is to be read."""
    telemetry.backlog("stream", lambda: 2 << 20, 64 << 20)
    sink = Sink()
    async with Pipeline(config(num_consumers=1), sink, telemetry) as pipeline:
        began_s = asyncio.get_running_loop().time()
        await pipeline.put([sized(900) for _ in range(8)], wait=False)
        await sink.until_has(3)
        assert asyncio.get_running_loop().time() - began_s < 1


async def test_no_burst_puts_off_sending_for_long(telemetry: Telemetry) -> None:
    """Two seconds after its beginning all is sent as it comes, though the source is still behind; the next one may again."""
    waiting_bytes = 2 << 20
    telemetry.backlog("stream", lambda: waiting_bytes, 64 << 20)
    loop, sink = asyncio.get_running_loop(), Sink()
    async with Pipeline(config(), sink, telemetry) as pipeline:

        async def sent_after_s(records: int) -> float:
            began_s = loop.time()
            await pipeline.put([logs("a")], wait=False)
            await sink.until_has(records)
            return loop.time() - began_s

        assert await sent_after_s(1) > 1.9
        assert await sent_after_s(2) < 0.5
        waiting_bytes = 0
        assert await sent_after_s(3) < 0.5
        waiting_bytes = 2 << 20
        assert await sent_after_s(4) > 1.9
