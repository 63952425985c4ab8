"""What becomes of a database that was torn, cut off or overwritten: it is set aside, and what can be read of it lives."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from receiver.storage import Storage
from receiver.storage.config import Config
from receiver.storage.recovery import _rows
from receiver.storage.schema import PAGE_BYTES
from tests.receiver.storage.rows import FILE, append, fill, found, numbered, row, stored

if TYPE_CHECKING:
    from pathlib import Path

ROWS = 60
SIZE = 40_000  # a chain of five pages each


@pytest.fixture
def data(tmp_path: Path) -> list[bytes]:
    """What is stored when the damage happens."""
    data = [numbered(number, SIZE) for number in range(ROWS)]
    fill(tmp_path, data)
    assert not (tmp_path / f"{FILE}-wal").exists()
    return data


def aside(directory: Path) -> list[Path]:
    """What was set aside."""
    return sorted(directory.glob(f"{FILE}.damaged-*"))


def overwrite(path: Path, offset: int, content: bytes) -> None:
    """Damage a file in place."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def cut(path: Path, size: int) -> None:
    """Cut a file off."""
    with path.open("r+b") as file:
        file.truncate(size)


def recovered(directory: Path, data: list[bytes], caplog: pytest.LogCaptureFixture) -> int:
    """Open the damaged storage; gives how many rows it still has, all of which must be whole and in order."""
    caplog.clear()
    left, checkpoint = found(directory)
    assert left == [each for each in data if each in set(left)]
    assert checkpoint == b"here"
    assert len(aside(directory)) >= 1
    (record,) = (record for record in caplog.records if record.name.startswith("receiver.storage"))
    assert str(aside(directory)[0]) in record.getMessage()
    assert f"{len(left)} batches with {len(left)} items could be read" in record.getMessage()
    # What was recovered is a database like any other.
    caplog.clear()
    assert found(directory) == (left, b"here")
    assert not caplog.records
    return len(left)


@pytest.mark.parametrize("kept", [1, PAGE_BYTES // 2, PAGE_BYTES - 1])
def test_torn_last_page(tmp_path: Path, data: list[bytes], caplog: pytest.LogCaptureFixture, kept: int) -> None:
    """The last page was written in part: at most the one row it belongs to is lost."""
    path = tmp_path / FILE
    cut(path, path.stat().st_size - PAGE_BYTES + kept)
    assert recovered(tmp_path, data, caplog) >= ROWS - 1


def test_half_a_page_of_zeros(tmp_path: Path, data: list[bytes]) -> None:
    """A page that was written in part, which SQLite does not notice: the row is known by its checksum."""
    path = tmp_path / FILE
    overwrite(path, path.read_bytes().index(data[7][20_000:20_100]), bytes(100))

    async def intact() -> list[bool]:
        async with Storage(Config(directory=tmp_path)) as storage:
            return [each.is_intact for each in await stored(storage)]

    assert asyncio.run(intact()) == [number != 7 for number in range(ROWS)]


@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
def test_truncated_file(tmp_path: Path, data: list[bytes], caplog: pytest.LogCaptureFixture, share: float) -> None:
    """Rows whose pages are still there come back."""
    path = tmp_path / FILE
    cut(path, int(path.stat().st_size * share) // PAGE_BYTES * PAGE_BYTES)
    assert recovered(tmp_path, data, caplog) >= ROWS * share - 4


@pytest.mark.parametrize("length", [16, 100, PAGE_BYTES])
def test_garbage_header(tmp_path: Path, data: list[bytes], caplog: pytest.LogCaptureFixture, length: int) -> None:
    """The first bytes, or all of the first page, were overwritten: every row comes back, and the page is kept."""
    path = tmp_path / FILE
    garbage = b"\xa5" * length
    overwrite(path, 0, garbage)
    assert recovered(tmp_path, data, caplog) == ROWS
    (page,) = tmp_path.glob(f"{FILE}.damaged-*.page1")
    assert page.read_bytes().startswith(garbage)


def test_garbage_in_the_middle(tmp_path: Path, data: list[bytes], caplog: pytest.LogCaptureFixture) -> None:
    """A page in the middle of it costs the rows that it belongs to, not those behind it."""
    path = tmp_path / FILE
    pages = path.stat().st_size // PAGE_BYTES
    overwrite(path, pages // 2 * PAGE_BYTES, b"\xa5" * PAGE_BYTES)
    assert recovered(tmp_path, data, caplog) >= ROWS - 25  # at worst a leaf of the tree


def test_every_page_in_turn(tmp_path: Path) -> None:
    """Whichever page is overwritten, every start ends with a database that works."""
    source = tmp_path / "source"
    fill(source, [numbered(number, SIZE) for number in range(6)])
    for page in range((source / FILE).stat().st_size // PAGE_BYTES):
        directory = tmp_path / str(page)
        shutil.copytree(source, directory)
        overwrite(directory / FILE, page * PAGE_BYTES, b"\xa5" * PAGE_BYTES)
        left, _ = found(directory)
        assert found(directory)[0] == left


def test_nothing_but_garbage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file of noise is set aside, and work begins with an empty database."""
    (tmp_path / FILE).write_bytes(b"\xa5" * 100_000)
    assert found(tmp_path) == ([], None)
    assert "0 batches" in caplog.text
    assert len(aside(tmp_path)) == 2


def killed(directory: Path, into: Path, data: list[bytes]) -> None:
    """What a kill leaves: a database and a log that was not written back."""

    async def run() -> None:
        async with Storage(Config(directory=directory)) as storage:
            for each in data:
                await append(storage, row(each))
            shutil.copytree(directory, into)

    asyncio.run(run())
    assert (into / f"{FILE}-wal").stat().st_size > 0


def test_log_is_missing(tmp_path: Path) -> None:
    """Without the log, what was written back before is there."""
    data = [numbered(number, 400_000) for number in range(30)]
    killed(tmp_path / "alive", tmp_path / "killed", data)
    (tmp_path / "killed" / f"{FILE}-wal").unlink()
    left, _ = found(tmp_path / "killed")
    assert left == data[: len(left)]
    assert len(left) >= 20


def test_torn_log(tmp_path: Path) -> None:
    """A log that was written in part: what was committed before the torn page is there."""
    data = [numbered(number) for number in range(30)]
    killed(tmp_path / "alive", tmp_path / "killed", data)
    log = tmp_path / "killed" / f"{FILE}-wal"
    cut(log, log.stat().st_size // 2)
    left, _ = found(tmp_path / "killed")
    assert left == data[: len(left)]
    assert len(left) >= 5


def test_recovery_that_was_killed(tmp_path: Path, data: list[bytes]) -> None:
    """Between its two renames, the next start finishes it; before them, it begins again."""
    path = tmp_path / FILE
    path.rename(tmp_path / f"{FILE}.recovering")
    killed(tmp_path / "alive", tmp_path / "killed", [b"what the damaged one had"])
    (tmp_path / "killed" / f"{FILE}-wal").rename(tmp_path / f"{FILE}-wal")
    assert found(tmp_path)[0] == data
    (tmp_path / f"{FILE}.recovering").write_bytes(b"half of it")
    overwrite(path, 0, b"\xa5" * 100)
    assert found(tmp_path)[0] == data


def test_rows_are_read_from_both_sides_of_the_damage(tmp_path: Path, data: list[bytes]) -> None:
    """Two damaged chains: all other rows are found, those between them one by one."""
    path = tmp_path / FILE
    content = path.read_bytes()
    for number in (20, 40):
        # The second page of a row's chain, found by what it holds.
        page = content.index(data[number][20_000:20_100]) // PAGE_BYTES
        overwrite(path, page * PAGE_BYTES, b"\xff" * 4)
    with closing(sqlite3.connect(path)) as database:
        numbers = sorted(int(each[7][:8]) for each in _rows(database))
    assert numbers == [number for number in range(ROWS) if number not in {20, 40}]
