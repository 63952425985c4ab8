"""Tetragon's export file through otelbee into the real Collector: rotation under load, kill -9, restart, bad lines."""

from __future__ import annotations

import gzip
import os
import random
from typing import TYPE_CHECKING, Any

import pytest
from peers.processes import Collector, Otelbee, open_to_others, translated
from peers.records import own_events, uids

from receiver.sources.tetragon_file.follow import BLOCK_BYTES, MAX_LINE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Log:
    """The agent's side: writes lines and rotates as lumberjack does, keeping five old files."""

    def __init__(self, folder: Path) -> None:
        """Start with an empty file."""
        folder.mkdir()
        self.path = folder / "tetragon.log"
        self._rotations = 0
        self.path.touch()

    def write(self, lines: list[bytes]) -> None:
        """Append lines in writes that end anywhere."""
        data = b"".join(line + b"\n" for line in lines)
        cut = len(data) // 2
        with self.path.open("ab", buffering=0) as file:
            file.write(data[:cut])
            file.write(data[cut:])

    def rotate(self) -> None:
        """Rename the file and begin a new one."""
        self._rotations += 1
        self.path.rename(self.path.with_name(f"tetragon-2026-11-23T00-00-{self._rotations:02}.000.log"))
        self.path.touch()


@pytest.fixture
def lines(shared_data: Callable[..., Path]) -> list[bytes]:
    """Some thousand real lines."""
    with gzip.open(shared_data("tetragon", "recordings", "highvol.jsonl.gz")) as file:
        return [next(file).rstrip(b"\n") for _ in range(6000)]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """The agent's export file."""
    return Log(tmp_path / "export")


@pytest.fixture
def collector(tmp_path: Path, peers: None) -> Iterator[Collector]:  # noqa: ARG001 - the fixture that builds it
    """The real Collector."""
    with Collector(tmp_path) as running:
        yield running


def otelbee(tmp_path: Path, log: Log, collector: Collector, **source: Any) -> Otelbee:
    """Otelbee that follows the file, with its checkpoint in a storage."""
    return Otelbee(
        tmp_path,
        {
            "sources": {
                "tetragon_file": {"path": str(log.path), "start_at": "beginning", "exclude_self": False, **source}
            },
            "storage": str(tmp_path / "storage"),
            "exporter": {"otlp_grpc": {"endpoint": collector.endpoint, "tls": {"insecure": True}}},
        },
    )


def expected_uids(tmp_path: Path, lines: list[bytes]) -> set[str]:
    """The ids that the lines have however they come."""
    path = tmp_path / "expected.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return set(uids(translated(path)))


@pytest.mark.timeout(120)
def test_rotation_and_kills_lose_nothing(tmp_path: Path, log: Log, collector: Collector, lines: list[bytes]) -> None:
    """Four kills without a chance to do anything, rotations before, between and during: every event arrives."""
    expected = expected_uids(tmp_path, lines)
    chance = random.Random(4)
    with otelbee(tmp_path, log, collector) as running:
        # Only from its first look at the file on is it owed every line.
        running.until(lambda: running.source("tetragon_file")["up"], "it follows the file")
        for start in range(0, len(lines), 300):
            log.write(lines[start : start + 300])
            if chance.random() < 0.5:
                log.rotate()
            if start in {900, 2100, 3300, 4500}:
                collector.received(start // 2)
                running.kill()
                log.rotate()
                running.start()
        collector.until(lambda: set(uids(collector.records())) >= expected, "it has every event")
        assert set(uids(collector.records())) == expected
        assert not own_events(collector.records(), "otelbee.source.gap")
        assert running.stop() == 0


def test_a_clean_restart_sends_nothing_twice(
    tmp_path: Path, log: Log, collector: Collector, lines: list[bytes]
) -> None:
    """What was delivered before a stop is behind the checkpoint."""
    log.write(lines[:500])
    with otelbee(tmp_path, log, collector) as running:
        collector.received(500)
        assert running.stop() == 0
        log.write(lines[500:600])
        running.start()
        collector.received(600)
        assert len(uids(collector.records())) == 600
        assert set(uids(collector.records())) == expected_uids(tmp_path, lines[:600])


def test_a_file_that_is_gone_is_a_reported_gap(
    tmp_path: Path, log: Log, collector: Collector, lines: list[bytes]
) -> None:
    """When rotation has removed what was not read yet, one record says so and reading goes on."""
    log.write(lines[:100])
    with otelbee(tmp_path, log, collector) as running:
        collector.received(100)
        assert running.stop() == 0
        log.path.unlink()
        log.write(lines[100:200])
        running.start()
        collector.received(201)
        (gap,) = own_events(collector.records(), "otelbee.source.gap")
        assert "no longer beside" in gap["otelbee.gap.reason"]


def test_lines_that_are_no_json_are_counted(tmp_path: Path, log: Log, collector: Collector, lines: list[bytes]) -> None:
    """Never fatal, and the neighbours arrive."""
    log.write([lines[0], b"{ no json", b"\xff\xfe", b"[]", lines[1]])
    with otelbee(tmp_path, log, collector) as running:
        assert set(uids(collector.received(2))) == expected_uids(tmp_path, lines[:2])
        assert running.metric("otelbee_source_rejected_records", receiver="tetragon_file", reason="malformed") == 3


def test_a_line_that_is_too_long_is_counted(tmp_path: Path, log: Log, collector: Collector, lines: list[bytes]) -> None:
    """It is skipped and reported, its neighbours arrive."""
    log.write([lines[0], b"x" * (MAX_LINE_BYTES + 2 * BLOCK_BYTES), lines[1]])
    with otelbee(tmp_path, log, collector) as running:
        assert set(uids(collector.received(3))) == expected_uids(tmp_path, lines[:2])
        (loss,) = own_events(collector.records(), "otelbee.source.loss")
        assert loss["otelbee.loss.reason"] == "line_too_long"
        assert running.metric("otelbee_source_lost_records", receiver="tetragon_file", reason="line_too_long") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to run otelbee as a user who may not read the file")
def test_a_file_for_root_only_names_the_remedy(tmp_path: Path, log: Log, collector: Collector) -> None:
    """The agent's file is 0600: the state says what to change, and reading begins by itself once that is done."""
    log.path.chmod(0o600)
    running = otelbee(open_to_others(tmp_path), log, collector)
    (tmp_path / "storage").mkdir()
    os.chown(tmp_path / "storage", 65534, 65534)
    running.as_user(65534)
    with running:
        running.until(lambda: running.source("tetragon_file")["reason"], "it says what is wrong")
        assert "--export-file-perm" in running.source("tetragon_file")["reason"]
        log.path.chmod(0o644)
        running.until(lambda: running.source("tetragon_file")["up"], "it reads the file")


def test_a_file_that_appears_later_is_read_from_its_start(
    tmp_path: Path, log: Log, collector: Collector, lines: list[bytes]
) -> None:
    """``start_at: end`` is about what was there before us."""
    log.path.unlink()
    with otelbee(tmp_path, log, collector, start_at="end") as running:
        running.until(lambda: "does not exist yet" in running.source("tetragon_file")["reason"], "it misses the file")
        log.write(lines[:10])
        assert set(uids(collector.received(10))) == expected_uids(tmp_path, lines[:10])
