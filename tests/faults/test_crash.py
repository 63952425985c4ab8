"""otelbee is killed, its disk is full, its files are torn: what was acknowledged is in the durable queue."""

from __future__ import annotations

import random
import struct
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from peers.processes import until

from tests.faults.account import queued

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.faults.parts import Fault

KILLS = 20
WAL_HEADER_BYTES, FRAME_HEADER_BYTES = 32, 24
"""https://www.sqlite.org/fileformat2.html#the_write_ahead_log"""


@pytest.mark.timeout(180)
def test_kill_at_random_moments(fault: Fault) -> None:
    """SIGKILL at moments that have nothing to do with what otelbee does, its start and its recovery included."""
    chance = random.Random(20)
    collector = fault.collector()
    storage = fault.folder / "storage"
    otelbee = fault.run(collector.endpoint, storage=storage)
    sender = fault.sender(rate=3000, concurrency=16, per_request=25)
    for kill in range(KILLS):
        # Every fifth while it starts, the others while it works.
        if kill % 5:
            sender.acknowledged(chance.randrange(1, 1500))
        time.sleep(chance.uniform(0, 0.3 if kill % 5 else 1.2))  # the moment is the point
        fault.kill_otelbee()
        otelbee.launch()
    otelbee.until(otelbee.ready, "it is ready after the last kill")
    fault.arrives(1000)
    fault.survived(f"kill -9 of otelbee at {KILLS} random moments (storage)", restarted=True)


def test_killed_without_a_collector_all_is_stored(fault: Fault) -> None:
    """What was acknowledged lies in the database of the dead process, and is sent by the next one."""
    collector = fault.collector()
    collector.kill()
    storage = fault.folder / "storage"
    otelbee = fault.run(collector.endpoint, storage=storage)
    sender = fault.sender(rate=4000)
    sender.acknowledged(4000)
    fault.kill_otelbee()
    known = set(sender.ledger.acknowledged)
    assert known <= queued(storage)
    otelbee.start()
    collector.start()
    fault.arrives(len(known))
    fault.survived("kill -9 without a Collector (storage)", restarted=True)


@pytest.mark.timeout(90)
def test_orderly_restarts_and_reloads(fault: Fault) -> None:
    """SIGTERM and SIGHUP under load cost nothing either."""
    collector = fault.collector()
    storage = fault.folder / "storage"
    otelbee = fault.run(collector.endpoint, storage=storage)
    sender = fault.sender(rate=2000)
    for number in range(1, 6):
        sender.acknowledged(500)
        fault.reload(number)
        sender.acknowledged(500)
        assert fault.stop_otelbee() == 0
        otelbee.start()
    fault.arrives(1000)
    fault.survived("SIGTERM and start, SIGHUP, five times each (storage)", restarted=True)


@pytest.fixture
def small_disk(tmp_path: Path, root: None) -> Iterator[Path]:  # noqa: ARG001 - mounting needs it
    """A file system of 48 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "otelbee-test", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_queue_fills_the_disk(small_disk: Path, fault: Fault) -> None:
    """A disk smaller than the queue may be: senders are told to wait, and go on when the Collector is back."""
    collector = fault.collector()
    collector.kill()
    otelbee = fault.run(collector.endpoint, storage=small_disk / "storage", queue={"queue_size": "256MiB"})
    sender = fault.sender(rate=20_000, body_bytes=2000)
    otelbee.until(lambda: otelbee.metric("otelbee_receiver_refused_requests", reason="busy"), "senders are refused")
    until(lambda: not otelbee.ready(), "it is not ready")
    stored = sender.ledger.acknowledged.copy()
    assert stored
    collector.start()
    until(lambda: stored <= fault.delivered(), "what was stored is delivered")
    sender.acknowledged(2000)
    fault.survived("disk full, by the queue (48 MiB)")


def test_others_fill_the_disk(small_disk: Path, fault: Fault) -> None:
    """Another program takes every byte: what was acknowledged before is delivered, what comes goes on when it can."""
    collector = fault.collector()
    otelbee = fault.run(collector.endpoint, storage=small_disk / "storage")
    sender = fault.sender(rate=2000, body_bytes=500)
    fault.arrives(2000)
    collector.kill()
    sender.acknowledged(2000)
    _fill(small_disk / "foreign")
    otelbee.until(lambda: otelbee.metric("otelbee_receiver_refused_requests", reason="busy"), "senders are refused")
    stored = sender.ledger.acknowledged.copy()
    collector.start()
    until(lambda: stored <= fault.delivered(), "what was stored is delivered while the disk is full")
    (small_disk / "foreign").unlink()
    until(otelbee.ready, "it is ready")
    sender.acknowledged(2000)
    fault.survived("disk full, by another program")


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096):
            try:
                while file.write(bytes(size)) == size:
                    continue
            except OSError:
                continue


@pytest.mark.parametrize("torn", ["the last page of the database", "the last frame of the log"])
def test_torn_last_page(fault: Fault, torn: str) -> None:
    """Power fails in the middle of a write: what was acknowledged before is whole, and is delivered."""
    collector = fault.collector()
    collector.kill()
    storage = fault.folder / "storage"
    otelbee = fault.run(collector.endpoint, storage=storage)
    fault.sender(rate=8000, body_bytes=1000, count=8000).finish()
    fault.kill_otelbee()
    _tear(storage / "otelbee.sqlite3", torn)
    otelbee.start()
    collector.start()
    fault.arrives(8000)
    fault.survived(f"torn: {torn}", restarted=True)


def _tear(database: Path, torn: str) -> None:
    """Leave what a loss of power can leave where each commit waits for the disk (``fsync``).

    A frame of the log is torn before its commit is acknowledged. A page of the database is torn while the log is written
    back into it, page by page, and the log still has it.
    """
    log = database.with_name(f"{database.name}-wal")
    if torn.endswith("log"):
        with log.open("ab") as file:
            file.write(random.Random(1).randbytes(9000))
        return
    pages = sorted(_logged(log.read_bytes()).items())
    with database.open("r+b") as file:
        for number, page in pages[:-1]:
            file.seek((number - 1) * len(page))
            file.write(page)
        number, page = pages[-1]
        file.seek((number - 1) * len(page))
        file.write(page[: len(page) // 2])
        file.truncate()


def _logged(log: bytes) -> dict[int, bytes]:
    """The pages in the committed frames of a log, by number."""
    (page_bytes,) = struct.unpack(">I", log[8:12])
    pages: dict[int, bytes] = {}
    pending: dict[int, bytes] = {}
    for frame in range(WAL_HEADER_BYTES, len(log), FRAME_HEADER_BYTES + page_bytes):
        number, committed = struct.unpack(">II", log[frame : frame + 8])
        if log[frame + 8 : frame + 16] != log[16:24]:  # of an earlier use of the file
            break
        begin = frame + FRAME_HEADER_BYTES
        pending[number] = log[begin : begin + page_bytes]
        if committed:
            pages |= pending
            pending.clear()
    return pages
