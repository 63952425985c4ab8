"""A disk without room: what comes is refused, what is there is delivered and deleted, and all ends by itself.

On a file system of its own, which needs root.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry

from receiver.errors import QueueFull
from receiver.pipeline import Pipeline
from receiver.storage import Config, Storage
from receiver.storage.directory import RESERVE_BYTES
from receiver.telemetry import Telemetry
from tests.receiver.pipeline.sinks import Sink, config, sized
from tests.receiver.storage.rows import append, numbered, row, stored
from tests.receiver.tiny import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)

DISK_BYTES = 24 << 20
LARGE = 200_000


@pytest.fixture(params=["tmpfs", "ext4"])
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A small file system; skips where it cannot be mounted, fails where CI needs it."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    if request.param == "tmpfs":
        commands = [["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(mounted)]]
    else:
        image = tmp_path / "image"
        with image.open("wb") as file:
            file.truncate(DISK_BYTES)
        commands = [["mkfs.ext4", "-q", "-m", "0", str(image)], ["mount", "-o", "loop", str(image), str(mounted)]]
    try:
        for command in commands:
            subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = f"cannot mount a small {request.param}: {getattr(error, 'stderr', None) or error}"
        if os.environ.get("CI", "").lower() == "true" and os.geteuid() == 0 and request.param == "tmpfs":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    yield mounted
    subprocess.run(["umount", "--lazy", str(mounted)], check=True)


def take_all_space(directory: Path) -> Path:
    """Fill the file system to its last byte, as a neighbour does."""
    path = directory / "neighbour"
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while file.write(b"x" * size):
                    pass
            except OSError:
                continue
    return path


async def fill(storage: Storage) -> list[bytes]:
    """Store until the disk refuses; gives what it took."""
    data: list[bytes] = []
    while True:
        one = numbered(len(data), LARGE)
        try:
            await append(storage, row(one))
        except QueueFull:
            return data
        data.append(one)


async def deletes(storage: Storage, ids: list[int]) -> None:
    """Delete as a queue does, one request at a time."""
    for one in ids:
        async with asyncio.timeout(10):
            await storage.delete([one], 0, {"test": one})


async def test_a_full_disk_refuses_and_recovers(disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Full of our own data: a put is refused, what was stored is whole and can be deleted, and then there is room."""
    caplog.set_level("INFO")
    async with Storage(Config(directory=disk), steady_s=0.1) as storage:
        data = await fill(storage)
        assert len(data) * LARGE > DISK_BYTES - RESERVE_BYTES - (8 << 20)
        assert [each.row.data for each in await stored(storage)] == data
        assert "no space is left" in storage.problem
        with pytest.raises(QueueFull):
            await append(storage, row(numbered(1, LARGE)))
        await storage.checkpoint("file").save(b"here")
        await deletes(storage, list(range(1, len(data) // 2)))
        await append(storage, row(numbered(1, LARGE)), wait=True)
        assert not storage.problem
        await deletes(storage, list(range(len(data) // 2, len(data) + 2)))
        assert await stored(storage) == []
        await until(lambda: f"storage: {disk} works again" in caplog.text)
        assert caplog.text.count(f"storage: {disk} takes nothing new until this ends: no space") == 1
        again = await fill(storage)
        assert len(again) > len(data) * 0.8


async def test_a_neighbour_takes_the_last_byte(disk: Path) -> None:
    """Nothing is free but the reserve: what is stored can still be read and deleted, and space that it leaves used."""
    async with Storage(Config(directory=disk)) as storage:
        data = [numbered(number, LARGE) for number in range(30)]
        for one in data:
            await append(storage, row(one))
        neighbour = take_all_space(disk)
        data += await fill(storage)
        assert [each.row.data for each in await stored(storage)] == data
        waiting = storage.append([row(numbered(999, LARGE))], wait=True)
        await deletes(storage, list(range(1, 20)))
        await asyncio.wait_for(waiting, 10)
        neighbour.unlink()
        await append(storage, row(numbered(1000, LARGE)), wait=True)
        await append(storage, row(numbered(1001, LARGE)))


async def test_it_notices_room_by_itself(disk: Path) -> None:
    """A problem ends when the disk has room, also where nobody puts anything."""
    async with Storage(Config(directory=disk)) as storage:
        neighbour = take_all_space(disk)
        await fill(storage)
        assert storage.problem
        neighbour.unlink()
        await until(lambda: not storage.problem)


async def test_the_reserve_is_there_again(disk: Path) -> None:
    """What was given up while the disk was full is set aside again, at the latest for the next start."""
    async with Storage(Config(directory=disk)) as storage:
        neighbour = take_all_space(disk)
        await fill(storage)
        await deletes(storage, [1])
        storage._database._directory.release_reserve()
        neighbour.unlink()
    assert (disk / "otelbee.reserve").stat().st_size == RESERVE_BYTES


async def test_a_start_on_a_full_disk(disk: Path) -> None:
    """A restart while the disk is full delivers what is there."""
    async with Storage(Config(directory=disk)) as storage:
        data = await fill(storage)
        await storage.checkpoint("file").save(b"here")
    take_all_space(disk)
    async with Storage(Config(directory=disk)) as storage:
        assert [each.row.data for each in await stored(storage)] == data
        assert await storage.checkpoint("file").load() == b"here"
        await deletes(storage, list(range(1, len(data) + 1)))
        async with asyncio.timeout(10):
            await append(storage, row(numbered(1, LARGE)), wait=True)


async def test_the_way_through_a_full_disk(disk: Path) -> None:
    """Pushes are refused, pulls wait; with the Collector back, everything that was taken arrives once."""
    sink = Sink(is_open=False)
    settings = config(queue_size="1GiB", batch={"flush_timeout": "10ms", "max_size": "1MiB"})
    taken = refused = 0
    async with (
        Storage(Config(directory=disk)) as storage,
        Pipeline(settings, sink, Telemetry(CollectorRegistry()), storage) as pipeline,
    ):
        while not refused:
            try:
                await pipeline.put([sized(LARGE)], wait=False)
                taken += 1
            except QueueFull:
                refused += 1
        pulls = [asyncio.create_task(pipeline.put([sized(LARGE)], wait=True)) for _ in range(3)]
        sink.gate.set()
        async with asyncio.timeout(30):
            await asyncio.gather(*pulls)
            await sink.until_has(taken + 3)
        await until(lambda: not storage.problem)
        await pipeline.put([sized(LARGE)], wait=False)
        await sink.until_has(taken + 4)
    assert sum(batch.items for batch in sink.batches) == taken + 4
