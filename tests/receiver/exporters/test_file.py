"""The file exporter writes what the Collector's does."""

from __future__ import annotations

import json
import resource
import signal as signals
import stat
import struct
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from receiver.errors import Held, StartError
from receiver.exporters.file import Config, Exporter, Rotation
from tests.receiver.exporters.otlp_server import request
from translators.batch import Batch, Signal

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from pathlib import Path


async def test_json_lines(tmp_path: Path) -> None:
    """A request per line, private to its owner."""
    path = tmp_path / "out.jsonl"
    exporter = Exporter(Config(path=path))
    await exporter.export(request())
    await exporter.export(request(Signal.TRACES))
    lines = path.read_text().splitlines()  # before the file is closed: nothing is left in a buffer
    await exporter.close()
    assert [next(iter(json.loads(line))) for line in lines] == ["resourceLogs", "resourceSpans"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_proto_frames(tmp_path: Path) -> None:
    """Four bytes of length, most significant first, and the request."""
    path = tmp_path / "out.pb"
    exporter = Exporter(Config(path=path, format="proto"))
    batches = [request(records=3), request(Signal.METRICS)]
    for batch in batches:
        await exporter.export(batch)
    await exporter.close()
    assert path.read_bytes() == b"".join(struct.pack(">I", len(batch.data)) + batch.data for batch in batches)


@pytest.mark.parametrize(("append", "kept"), [(True, b"before\n"), (False, b"")])
async def test_append_decides_what_stays(tmp_path: Path, *, append: bool, kept: bytes) -> None:
    """A file is emptied at start unless it is to be appended to."""
    path = tmp_path / "out"
    path.write_bytes(b"before\n")
    await Exporter(Config(path=path, append=append)).close()
    assert path.read_bytes() == kept


def stats(folder: Path) -> list[os.stat_result]:
    """What is in a folder, by name: ``out-...`` comes before ``out.pb``."""
    return [path.stat() for path in sorted(folder.iterdir())]


async def test_rotation_keeps_the_newest(tmp_path: Path) -> None:
    """A file that would grow beyond its size is set aside whole, and the oldest of those are removed."""
    path = tmp_path / "out.pb"
    exporter = Exporter(Config(path=path, format="proto", rotation=Rotation(max_megabytes=1, max_backups=2)))
    sizes = [700_000 + index for index in range(5)]
    for size in sizes:
        await exporter.export(Batch(Signal.LOGS, 1, bytes(size), ()))
    await exporter.close()
    found = stats(tmp_path)
    assert [each.st_size - 4 for each in found] == sizes[-3:]
    assert {stat.S_IMODE(each.st_mode) for each in found} == {0o600}


async def test_rotations_in_one_moment(tmp_path: Path) -> None:
    """Two files that are set aside in the same millisecond both stay."""
    path = tmp_path / "out.pb"
    config = Config(path=path, format="proto", rotation=Rotation(max_megabytes=1))
    exporter = Exporter(config, now=lambda: datetime(2026, 1, 2, 3, 4, 5, 6000, tzinfo=UTC))
    for size in (700_001, 700_002, 700_003):
        await exporter.export(Batch(Signal.LOGS, 1, bytes(size), ()))
    await exporter.close()
    assert {name: size - 4 for name, size in sizes_of(tmp_path).items()} == {
        "out-2026-01-02T03-04-05.006-size.pb": 700_001,
        "out-2026-01-02T03-04-05.007-size.pb": 700_002,
        "out.pb": 700_003,
    }


def sizes_of(folder: Path) -> dict[str, int]:
    """Bytes of what is in a folder."""
    return {path.name: path.stat().st_size for path in folder.iterdir()}


async def test_rotation_survives_a_file_that_is_gone(tmp_path: Path) -> None:
    """When somebody else removed the file, rotation begins a new one."""
    path = tmp_path / "out.pb"
    exporter = Exporter(Config(path=path, format="proto", rotation=Rotation(max_megabytes=1)))
    batch = Batch(Signal.LOGS, 1, bytes(700_000), ())
    await exporter.export(batch)
    path.unlink()
    await exporter.export(batch)
    await exporter.close()
    assert path.stat().st_size == 700_004


@pytest.fixture
def small_files() -> Iterator[None]:
    """This process may not write files beyond 64 KiB, as on a disk that is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signals.signal(signals.SIGXFSZ, signals.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signals.signal(signals.SIGXFSZ, previous)


@pytest.mark.usefixtures("small_files")
async def test_full_disk_leaves_whole_frames(tmp_path: Path) -> None:
    """A frame that does not fit is refused and leaves no torn rest; a smaller one still goes in."""
    path = tmp_path / "out.pb"
    exporter = Exporter(Config(path=path, format="proto"))
    await exporter.export(Batch(Signal.LOGS, 1, bytes(1000), ()))
    with pytest.raises(Held, match=r"out.pb cannot be written: File too large"):
        await exporter.export(Batch(Signal.LOGS, 1, bytes(100_000), ()))
    await exporter.export(Batch(Signal.LOGS, 1, bytes(2000), ()))
    await exporter.close()
    await exporter.close()
    assert path.stat().st_size == 1004 + 2004


def test_file_that_cannot_be_opened(tmp_path: Path) -> None:
    """A missing folder is a start error that names the path."""
    with pytest.raises(StartError, match=r"missing/out cannot be opened for writing: No such file"):
        Exporter(Config(path=tmp_path / "missing" / "out"))


def test_append_and_rotation_exclude_each_other(tmp_path: Path) -> None:
    """As in the Collector."""
    with pytest.raises(ValidationError, match="exclude each other"):
        Config(path=tmp_path / "out", append=True, rotation=Rotation())
