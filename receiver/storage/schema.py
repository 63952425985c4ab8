"""What the database looks like, and how the format before it becomes this one.

Format 0 was never released: it stands for the format of one minor version back, so that reading it is tested.
"""

from __future__ import annotations

import os
import sqlite3
import zlib
from typing import TYPE_CHECKING

from receiver.errors import StartError

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = 1
"""Stored as SQLite's ``user_version``. A newer one is left alone, the one before is migrated."""

PAGE_BYTES = 8192
"""Large enough that a batch of a megabyte is a short chain, small enough that a commit of one record is cheap."""

_LOG_FILE_BYTES = 8 << 20
"""The file of the write-ahead log keeps up to so much when it begins anew: space that a full disk cannot refuse."""

# What stands before the data is read without it.
_TABLES = (
    """CREATE TABLE IF NOT EXISTS batch (
        id INTEGER PRIMARY KEY,
        signal TEXT NOT NULL,
        source TEXT NOT NULL,
        items INTEGER NOT NULL,
        newest_event_ns INTEGER NOT NULL,
        arrived_ns INTEGER NOT NULL,
        parts BLOB NOT NULL,
        data BLOB NOT NULL,
        crc32 INTEGER NOT NULL
    )""",
    "CREATE TABLE IF NOT EXISTS delivered (source TEXT PRIMARY KEY, event_ns INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS checkpoint (source TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
)

# In format 0 a batch had no source, times or checksum of its own, and its parts were [[source, items], ...].
_FROM_0 = (
    "ALTER TABLE batch RENAME TO batch_0",
    _TABLES[0],
    """INSERT INTO batch SELECT id, signal, coalesce(json_extract(parts, '$[0][0]'), ''), items, 0, 0,
        CAST((SELECT json_group_array(json_array(value ->> 0, value ->> 1, 0)) FROM json_each(parts)) AS BLOB),
        data, crc32(data) FROM batch_0""",
    "DROP TABLE batch_0",
)


class Damage(sqlite3.DatabaseError):
    """SQLite could open the database, but found it damaged."""


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the database itself is at fault, and not its disk or its permissions."""
    if isinstance(error, Damage):
        return True
    return getattr(error, "sqlite_errorname", "").startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB"))


def connect(path: Path, *, fsync: bool = False) -> sqlite3.Connection:
    """Open the database at ``path``, check it, and make it one of this format; it is made where there is none.

    Raises:
        StartError: it is of a newer format; nothing was changed.
        sqlite3.Error: it cannot be opened; see :func:`is_damage`.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    new = path.stat().st_size == 0
    if not new:
        _refuse_newer(path)
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        # The directory is locked, so no other connection comes: the index of the log needs no file.
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA temp_store = MEMORY")
        if new:
            database.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        else:
            _check(database, path)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute(f"PRAGMA synchronous = {'FULL' if fsync else 'NORMAL'}")
        database.execute("PRAGMA wal_autocheckpoint = 0")
        database.execute(f"PRAGMA journal_size_limit = {_LOG_FILE_BYTES}")
        _migrate(database)
    except BaseException:
        database.close()
        raise
    return database


def open_read_only(path: Path) -> sqlite3.Connection:
    """Open what is there, and leave it as it is."""
    return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None)


def format_of(database: sqlite3.Connection) -> int:
    """The format of an open database; 0 also where it is empty."""
    (found,) = database.execute("PRAGMA user_version").fetchone()
    return int(found)


def _refuse_newer(path: Path) -> None:
    # Through a connection that may not write: another one would write the log back into the database when it is closed.
    database = open_read_only(path)
    try:
        found = format_of(database)
    except sqlite3.OperationalError:
        return  # not even an index of the log can be made on this disk
    finally:
        database.close()
    if found > FORMAT:
        raise StartError(
            f"storage: {path} has format {found}, this otelbee writes format {FORMAT}: it was written by a newer"
            " version. Run that version, or name another directory; nothing was changed"
        )


def _check(database: sqlite3.Connection, path: Path) -> None:
    (page_bytes,) = database.execute("PRAGMA page_size").fetchone()
    if path.stat().st_size % page_bytes:
        raise Damage("the last page is torn")
    (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise Damage(verdict.replace("\n", "; "))


def _migrate(database: sqlite3.Connection) -> None:
    tables = database.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'").fetchone()[0]
    if format_of(database) == FORMAT and tables >= len(_TABLES):
        return  # without a write, for which a full disk has no room
    older = format_of(database) == 0 and tables
    if older:
        database.create_function("crc32", 1, zlib.crc32, deterministic=True)
    database.execute("BEGIN IMMEDIATE")
    try:
        for statement in (*(_FROM_0 if older else ()), *_TABLES, f"PRAGMA user_version = {FORMAT}"):
            database.execute(statement)
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise
