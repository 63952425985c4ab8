"""kill -9 at any moment: nothing that was acknowledged is lost."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from receiver.pipeline import Pipeline
from receiver.storage import Config, Storage
from receiver.telemetry import Telemetry
from tests.receiver.pipeline.sinks import Sink, bodies, config

KILLS = 20
ROOT = Path(__file__).parents[3]

# Puts as fast as it can from eight tasks, says what was acknowledged, and delivers to a file: a line is written whole
# before the export returns.
PROGRAM = """
import asyncio, os, sys
from pathlib import Path
from prometheus_client import CollectorRegistry
from receiver.pipeline import Pipeline
from receiver.storage import Config, Storage
from receiver.telemetry import Telemetry
from tests.receiver.pipeline.sinks import bodies, config, logs

directory, delivered, first = Path(sys.argv[1]), os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT), sys.argv[3]

class File:
    async def export(self, batch):
        os.write(delivered, "".join(f"{body.partition(' ')[0]}\\n" for body in bodies([batch])).encode())
    async def close(self):
        pass

async def push(pipeline, task):
    number = 0
    while True:
        name = f"{first}-{task}-{number}"
        number += 1
        await pipeline.put([logs(name + " " + "x" * 2000)], wait=True)
        os.write(1, f"{name}\\n".encode())

async def main():
    settings = config(queue_size="64MiB", batch={"flush_timeout": "10ms", "max_size": "100KiB"})
    async with Storage(Config(directory=directory)) as storage:
        async with Pipeline(settings, File(), Telemetry(CollectorRegistry()), storage) as pipeline:
            await asyncio.gather(*(push(pipeline, task) for task in range(8)))

asyncio.run(main())
"""


def run_until_killed(directory: Path, delivered: Path, number: int, after_s: float) -> list[str]:
    """Push for a while, then kill; gives what was acknowledged."""
    command = [sys.executable, "-c", PROGRAM, str(directory), str(delivered), str(number)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(after_s)
        process.kill()
        said = first + process.stdout.read()
    assert process.returncode == -signal.SIGKILL
    return said.decode().split()


@pytest.mark.timeout(180)
def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    """Killed at random moments, under load: every acknowledged item is in the file or still in the queue."""
    directory, delivered = tmp_path / "storage", tmp_path / "delivered"
    moments = random.Random(5)
    acknowledged: list[str] = []
    for number in range(KILLS):
        acknowledged += run_until_killed(directory, delivered, number, moments.uniform(0.0, 0.3))
    sink = Sink()

    async def deliver_the_rest() -> None:
        async with (
            Storage(Config(directory=directory)) as storage,
            Pipeline(config(queue_size="64MiB"), sink, Telemetry(CollectorRegistry()), storage) as pipeline,
        ):
            await pipeline.drain(30)

    asyncio.run(deliver_the_rest())
    have = set(delivered.read_text().split()) | {body.partition(" ")[0] for body in bodies(sink.batches)}
    assert len(acknowledged) > 50 * KILLS
    assert not set(acknowledged) - have
