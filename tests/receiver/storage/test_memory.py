"""A backlog on disk does not stand in memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
BACKLOG_MIB = 160

PROGRAM = """
import asyncio, resource, sys
from pathlib import Path
from prometheus_client import CollectorRegistry
from receiver.pipeline import Pipeline
from receiver.storage import Config, Storage
from receiver.telemetry import Telemetry
from tests.receiver.pipeline.sinks import Sink, config, sized

class Counting(Sink):
    items = 0
    async def export(self, batch):
        await self.gate.wait()
        self.items += batch.items

async def main():
    settings = config(queue_size="1GiB", batch={"max_size": "3MiB"})
    sink = Counting(is_open=sys.argv[2] == "deliver")
    peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    async with Storage(Config(directory=Path(sys.argv[1]))) as storage:
        async with Pipeline(settings, sink, Telemetry(CollectorRegistry()), storage) as pipeline:
            one = sized(256 << 10)
            before = peak()
            for _ in range(4 * int(sys.argv[3])):
                await pipeline.put([one], wait=True)
            if sink.gate.is_set():
                await pipeline.drain(60)
    print(sink.items, peak() - before)

asyncio.run(main())
"""


@pytest.mark.timeout(120)
def test_memory_does_not_grow_with_the_backlog(tmp_path: Path) -> None:
    """Filling a large queue, and emptying what an earlier run left, take a few windows and requests of memory."""

    def run(what: str, mib: int) -> tuple[int, float]:
        command = [sys.executable, "-c", PROGRAM, str(tmp_path), what, str(mib)]
        items, grown_mib = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout.split()
        return int(items), float(grown_mib)

    items, grown_mib = run("fill", BACKLOG_MIB)
    assert items == 0
    assert grown_mib < 60
    items, grown_mib = run("deliver", 0)
    assert items == BACKLOG_MIB * 4
    assert grown_mib < 60
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 80 << 20, "the space is given back"
