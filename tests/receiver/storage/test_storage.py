"""What is stored stays, one otelbee at a time, in one commit for many."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from receiver.errors import QueueFull, StartError
from receiver.storage import Config, Storage, writer
from receiver.storage.schema import FORMAT
from tests.receiver.storage.rows import FILE, append, execute, fill, found, numbered, row, stored

pytestmark = pytest.mark.timeout(30)


async def test_rows_come_back_in_order(tmp_path: Path) -> None:
    """Every column of every row, after a restart too; a load is bounded by ids, signal and bytes."""
    rows = [row(bytes([number]) * 10, source="a" if number % 2 else "b", newest_event_ns=number) for number in range(9)]
    async with Storage(Config(directory=tmp_path)) as storage:
        assert await append(storage, *rows[:4]) == 1
        assert await append(storage, row(b"other", signal="traces")) == 5
        assert await append(storage, *rows[4:]) == 6
    async with Storage(Config(directory=tmp_path)) as storage:
        assert [each.row for each in await stored(storage)] == rows
        assert all(each.is_intact for each in await stored(storage))
        assert [each.id for each in await storage.load("logs", 2, 6, 1 << 20)] == [3, 4, 6]
        assert [each.id for each in await storage.load("logs", 2, 100, 20)] == [3, 4]
        assert [each.id for each in await storage.load("logs", 2, 100, 1)] == [3]
        assert storage.backlog_last_id == 10
        assert sorted(
            (each.signal, each.source, each.rows, each.items, each.size_bytes) for each in storage.backlog
        ) == [
            ("logs", "a", 4, 4, 40),
            ("logs", "b", 5, 5, 50),
            ("traces", "test", 1, 1, 5),
        ]


async def test_deleted_is_gone(tmp_path: Path) -> None:
    """In any order, and ids are not used again while rows are left."""
    async with Storage(Config(directory=tmp_path)) as storage:
        await append(storage, *(row(numbered(number)) for number in range(10)))
        await asyncio.gather(storage.delete([3, 1, 2, 9], 0, {}), storage.delete([5], 0, {}))
        assert [each.id for each in await stored(storage)] == [4, 6, 7, 8, 10]
        assert await append(storage, row()) == 11


async def test_newest_event_outlives_its_row(tmp_path: Path) -> None:
    """The time of a source's newest event is that of stored rows, and stays when they are delivered."""
    async with Storage(Config(directory=tmp_path)) as storage:
        await append(storage, row(newest_event_ns=70), row(newest_event_ns=50), row(source="b", newest_event_ns=9))
        assert storage.newest_event_ns("test") == 70
        await storage.delete([1], 0, {"test": 70})
        await storage.delete([2], 0, {"test": 50})
    async with Storage(Config(directory=tmp_path)) as storage:
        assert [storage.newest_event_ns(source) for source in ("test", "b", "c")] == [70, 9, 0]


async def test_checkpoints(tmp_path: Path) -> None:
    """A checkpoint is its source's own, replaced as a whole, and outlives a restart."""
    async with Storage(Config(directory=tmp_path)) as storage:
        first, second = storage.checkpoint("a"), storage.checkpoint("b")
        assert await first.load() is None
        await asyncio.gather(first.save(b"1"), second.save(b"2"))
        await first.save(b"3")
    async with Storage(Config(directory=tmp_path)) as storage:
        assert [await storage.checkpoint(source).load() for source in "ab"] == [b"3", b"2"]


async def test_many_puts_are_one_commit(tmp_path: Path) -> None:
    """What is asked for while a commit is under way is committed together: far fewer commits than puts."""
    async with Storage(Config(directory=tmp_path)) as storage:
        commits = 0
        commit = storage._database.commit

        def counted(group: object) -> object:
            nonlocal commits
            commits += 1
            return commit(group)  # type: ignore[arg-type] # handed on

        storage._database.commit = counted  # type: ignore[assignment,method-assign] # counts, and does the same
        await asyncio.gather(*(append(storage, row(numbered(number, 300))) for number in range(500)))
        assert commits <= 3


async def test_a_put_does_not_wait_for_company(tmp_path: Path) -> None:
    """The commit of a put that comes alone begins at once: it takes less than 20 ms, as a rule far less."""
    async with Storage(Config(directory=tmp_path)) as storage:
        took_s = []
        for number in range(100):
            began_s = time.perf_counter()
            await append(storage, row(numbered(number, 1000)))
            took_s.append(time.perf_counter() - began_s)
        assert sorted(took_s)[50] < 0.02


async def test_what_waits_for_its_commit_is_bounded(tmp_path: Path) -> None:
    """Where the disk is slower than what comes, more is refused, and taken again later; who waits is not refused."""
    async with Storage(Config(directory=tmp_path)) as storage:
        data = bytes(writer.MAX_WAITING_BYTES // 4)
        asked = [storage.append([row(data)], wait=False) for _ in range(5)]
        waiting = storage.append([row(data)], wait=True)
        assert asked[4].done()
        with pytest.raises(QueueFull):
            await asked[4]
        await asyncio.gather(*asked[:4], waiting)
        await append(storage, row(data))


@pytest.mark.parametrize("fsync", [False, True])
async def test_fsync_is_sqlites(tmp_path: Path, *, fsync: bool) -> None:
    """With fsync each commit is synchronous (FULL), without only what a crash of the machine could tear apart."""
    async with Storage(Config(directory=tmp_path, fsync=fsync)) as storage:
        await append(storage, row())
        assert await storage._in_thread(storage._database._pragma, "synchronous") == (2 if fsync else 1)


async def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    """0600 in 0700, whatever the umask says."""
    directory = tmp_path / "new" / "storage"
    before = os.umask(0)
    try:
        async with Storage(Config(directory=directory)) as storage:
            await append(storage, row())
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
    finally:
        os.umask(before)
    assert modes.keys() >= {FILE, f"{FILE}-wal", "otelbee.lock", "otelbee.reserve"}
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


async def test_a_directory_of_ours_is_closed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One that holds nothing but our files is closed to others; one that holds more is left open, with a warning."""
    ours, shared = tmp_path / "ours", tmp_path / "shared"
    for directory in (ours, shared):
        directory.mkdir()
        directory.chmod(0o755)
    (shared / "theirs").touch()
    for directory in (ours, shared):
        async with Storage(Config(directory=directory)):
            pass
    assert [stat.S_IMODE(directory.stat().st_mode) for directory in (ours, shared)] == [0o700, 0o755]
    assert [record.getMessage() for record in caplog.records] == [
        f"storage: others may list {shared}; what otelbee keeps there is readable for its user only"
    ]


def test_two_cannot_share_a_directory(tmp_path: Path) -> None:
    """The second start says which process has it and what to do; when that one is gone, it works."""
    program = (
        "import asyncio, sys; from pathlib import Path; from receiver.storage import Config, Storage\n"
        "async def run():\n"
        "    async with Storage(Config(directory=Path(sys.argv[1]))):\n"
        "        print('open', flush=True); sys.stdin.readline()\n"
        "asyncio.run(run())\n"
    )
    command, root = [sys.executable, "-c", program, str(tmp_path)], Path(__file__).parents[3]
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(StartError, match=rf"{tmp_path} is in use by another otelbee \(process {other.pid}\).*name"):
            found(tmp_path)
        other.kill()
    found(tmp_path)


async def test_two_cannot_share_it_in_one_process_either(tmp_path: Path) -> None:
    """Not even this process opens it twice."""
    async with Storage(Config(directory=tmp_path)):
        with pytest.raises(StartError, match=f"process {os.getpid()}"):
            await Storage(Config(directory=tmp_path)).__aenter__()


async def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    """The error names the path and the reason."""
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match=f"storage: cannot open {tmp_path}/file/.*Not a directory"):
        await Storage(Config(directory=tmp_path / "file" / "x")).__aenter__()


async def test_something_else_is_no_storage(tmp_path: Path) -> None:
    """Another program's database of the same name is left alone."""
    with closing(sqlite3.connect(tmp_path / FILE)) as database:
        database.execute("CREATE TABLE batch (mine)")
    with pytest.raises(StartError, match="cannot open"):
        await Storage(Config(directory=tmp_path)).__aenter__()
    with closing(sqlite3.connect(tmp_path / FILE)) as database:
        assert database.execute("SELECT name FROM sqlite_master").fetchall() == [("batch",)]


class TestFormats:
    """``user_version`` is the format."""

    def test_a_newer_one_is_left_alone(self, tmp_path: Path) -> None:
        """Every start says what to do and changes no byte, not even where the last run was killed."""
        fill(tmp_path, [b"a"])
        # A log that was never written back, as a kill leaves it.
        database = sqlite3.connect(tmp_path / FILE)
        database.execute(f"PRAGMA user_version = {FORMAT + 1}")
        database.execute("DELETE FROM batch")
        database.commit()
        copies = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.suffix != ".sqlite3-shm"}
        database.close()
        for name, content in copies.items():
            (tmp_path / name).write_bytes(content)
        del copies["otelbee.lock"]
        copies = {name: content for name, content in copies.items() if not name.endswith("-shm")}
        assert f"{FILE}-wal" in copies
        for _ in range(2):
            with pytest.raises(StartError, match=rf"has format {FORMAT + 1}, this otelbee writes format {FORMAT}"):
                found(tmp_path)
            assert copies == {name: (tmp_path / name).read_bytes() for name in copies}

    def test_the_one_before_is_read(self, tmp_path: Path) -> None:
        """Format 0 had no times and no sources of its own; its batches and checkpoints are this format's now."""
        execute(
            tmp_path,
            "CREATE TABLE batch (id INTEGER PRIMARY KEY, signal TEXT, items INTEGER, parts TEXT, data BLOB)",
            "CREATE TABLE checkpoint (source TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
            """INSERT INTO batch VALUES (7, 'logs', 3, '[["tetragon",2],["tetragon",1]]', x'0102')""",
            "INSERT INTO batch VALUES (9, 'traces', 1, '[]', x'03')",
            "INSERT INTO checkpoint VALUES ('file', x'68657265')",
        )

        async def run() -> None:
            async with Storage(Config(directory=tmp_path)) as storage:
                (logs,), (traces,) = await stored(storage), await stored(storage, "traces")
                assert logs.row == ("logs", "tetragon", 3, 0, 0, b'[["tetragon",2,0],["tetragon",1,0]]', b"\1\2")
                assert traces.row == ("traces", "", 1, 0, 0, b"[]", b"\3")
                assert logs.is_intact
                assert traces.is_intact
                assert await append(storage, row()) == 10

        asyncio.run(run())
        assert found(tmp_path) == ([b"\1\2", b"x"], b"here")
        with closing(sqlite3.connect(tmp_path / FILE)) as database:
            assert database.execute("PRAGMA user_version").fetchone() == (FORMAT,)


async def test_a_fault_of_ours_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be stored for a reason that nobody thought of is refused; what comes later is stored."""
    async with Storage(Config(directory=tmp_path)) as storage:
        with pytest.raises(QueueFull):
            await append(storage, row(newest_event_ns=1 << 70))
        assert "OverflowError" in caplog.text
        assert await append(storage, row(), wait=True) == 1
