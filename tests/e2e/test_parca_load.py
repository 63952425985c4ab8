"""More profiles than one core translates: what is served, what is put off, and that nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
from peers.parca_agent import Agent
from peers.processes import Otelbee, free_port

from translators.batch import Signal
from translators.otlp import count_items

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.load, pytest.mark.timeout(180)]

EXPORT = "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export"
ROWS = 6080
OFFERED_PER_S, SERVED_PER_S = 20, 10
SECONDS, SLICE_S = 60, 10
MAX_RESIDENT_BYTES = 700 << 20


class Sink(grpc.GenericRpcHandler):
    """Counts the samples that arrive."""

    def __init__(self) -> None:
        """Begin with none."""
        self.samples = 0

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        """Take profiles."""
        return grpc.unary_unary_rpc_method_handler(self._export) if details.method == EXPORT else None

    async def _export(self, request: bytes, _: object) -> bytes:
        self.samples += count_items(Signal.PROFILES, request)  # the sink must not be what is measured
        return b""


async def offer(address: str, record: bytes) -> tuple[Counter[str], Counter[int]]:
    """Offer batches at a steady pace, as many agents would; how they ended, and how many were taken in each slice."""
    taken: Counter[int] = Counter()
    ended: Counter[str] = Counter()
    async with Agent(address) as agent:
        began = time.monotonic()

        async def push() -> None:
            try:
                await agent.write_arrow(record, attempts=1)
            except grpc.aio.AioRpcError as error:
                ended[error.code().name] += 1
            else:
                ended["OK"] += 1
                taken[int((time.monotonic() - began) / SLICE_S)] += 1

        async with asyncio.TaskGroup() as tasks:
            for number in range(OFFERED_PER_S * SECONDS):
                await asyncio.sleep(max(0, began + number / OFFERED_PER_S - time.monotonic()))
                tasks.create_task(push())
    return ended, taken


async def run(folder: Path, record: bytes) -> tuple[Counter[str], Counter[int], int, int]:
    """Offer the load; what came of it, the samples that arrived, and the most memory that the service took."""
    sink = Sink()
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers((sink,))
    behind = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    address = f"127.0.0.1:{free_port()}"
    config = {
        "sources": {"parca": {"protocols": {"grpc": {"endpoint": address}}}},
        "exporter": {"otlp_grpc": {"endpoint": behind, "tls": {"insecure": True}}},
    }
    service = Otelbee(folder, config)
    try:
        await asyncio.to_thread(service.start)
        ended, taken = await offer(address, record)
        deadline = time.monotonic() + 60
        while sink.samples < ended["OK"] * ROWS and time.monotonic() < deadline:  # noqa: ASYNC110 - another process counts
            await asyncio.sleep(0.1)
        return ended, taken, sink.samples, service.peak_bytes
    finally:
        await asyncio.to_thread(service.stop)
        await server.stop(1)


def test_twenty_batches_a_second_are_served_at_ten_and_more(tmp_path: Path, shared_data: Callable[..., Path]) -> None:
    """For a minute; the rest is put off with UNAVAILABLE, in bounded memory, and what was taken arrives."""
    record = shared_data("profiles", "arrow", "v2_big_lz4.arrows").read_bytes()
    ended, taken, samples, resident_bytes = asyncio.run(run(tmp_path, record))
    print(f"{dict(ended)}, taken by {SLICE_S} s {dict(taken)}, {resident_bytes >> 20} MiB")  # noqa: T201 - shown by -s
    assert set(ended) <= {"OK", "UNAVAILABLE"}
    assert samples == ended["OK"] * ROWS
    assert all(taken[each] >= SERVED_PER_S * SLICE_S for each in range(SECONDS // SLICE_S)), taken
    assert resident_bytes < MAX_RESIDENT_BYTES
