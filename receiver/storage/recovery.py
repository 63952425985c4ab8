"""What becomes of a database that is damaged: what can be read of it moves to a new one, and it is set aside.

A kill at any moment of this leaves either the damaged database, which is recovered again, or the new one.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import zlib
from contextlib import closing, suppress
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING

from receiver.storage.schema import PAGE_BYTES, connect, is_damage, open_read_only
from receiver.storage.statements import COLUMNS, insert

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_log = logging.getLogger(__name__)

_Columns = tuple[int, str, str, int, int, int, bytes, bytes, int]
_CHUNK_ROWS = 64
_MAX_MISSES = 100_000
"""How many ids without a row end the search above the last readable one: more than one damaged page can hide."""


def recover(path: Path, why: str) -> None:
    """Move what can be read of the damaged database at ``path`` to a new one in its place, and set the old one aside.

    Raises:
        OSError: there is no space for it, for example; likewise ``sqlite3.Error``.
    """
    new = _in_progress(path)
    _remove(new)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    with closing(connect(new)) as target:
        if not _has_schema(path):
            target.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            _replace_first_page(path, new, aside.with_name(f"{aside.name}.page1"))
        batches, items = _salvage(path, target)
    path.rename(aside)
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size:
        log.rename(aside.with_name(f"{aside.name}-wal"))
    finish(path)
    _log.error(
        "storage: the database was damaged (%s). It is kept as %s; %d batches with %d items could be read and are"
        " delivered, the rest is lost. Remove that file when nobody needs it",
        why,
        aside,
        batches,
        items,
    )


def finish(path: Path) -> None:
    """Put the recovered database in its place, where a recovery was interrupted just before that."""
    if not path.exists() and _in_progress(path).exists():
        _remove(path)  # SQLite would take the other one's log for its own
        _in_progress(path).rename(path)


def _in_progress(path: Path) -> Path:
    return path.with_name(f"{path.name}.recovering")


def _remove(path: Path) -> None:
    for suffix in ("", "-journal", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _has_schema(path: Path) -> bool:
    try:
        with closing(open_read_only(path)) as database:
            return database.execute("SELECT 1 FROM sqlite_master WHERE name = 'batch'").fetchone() is not None
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        return False


def _replace_first_page(path: Path, template: Path, saved: Path) -> None:
    """Give a database without a readable header that of a new one: their tables begin at the same pages.

    The header (https://www.sqlite.org/fileformat2.html#the_database_header) has the number of pages at offset 28.
    """
    first = bytearray(template.read_bytes()[:PAGE_BYTES])
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        pages = os.fstat(fd).st_size // PAGE_BYTES
        first[28:32] = pages.to_bytes(4, "big")
        kept = os.open(saved, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(kept, os.pread(fd, PAGE_BYTES, 0))
        finally:
            os.close(kept)
        os.pwrite(fd, first, 0)
    finally:
        os.close(fd)


def _salvage(path: Path, target: sqlite3.Connection) -> tuple[int, int]:
    """Copy all that can be read; returns how many batches and items."""
    batches = items = 0
    with closing(open_read_only(path)) as damaged:
        for table in ("checkpoint", "delivered"):
            with suppress(sqlite3.DatabaseError):
                for row in damaged.execute(f"SELECT * FROM {table}"):  # noqa: S608 - a constant
                    target.execute(f"INSERT OR REPLACE INTO {table} VALUES (?, ?)", row)  # noqa: S608 - a constant
        rows = _rows(damaged)
        while chunk := list(islice(rows, _CHUNK_ROWS)):
            for statement, values in insert(chunk):
                target.execute(statement, values)
            batches += len(chunk)
            items += sum(row[3] for row in chunk)
    return batches, items


def _rows(damaged: sqlite3.Connection) -> Iterator[_Columns]:
    """Every row that is whole: up to the first damage, from the end back to the last, and one by one between them."""
    whole = "typeof(data) = 'blob' AND typeof(parts) IN ('blob', 'text')"
    select = f"SELECT {COLUMNS} FROM batch WHERE {whole} AND id"  # noqa: S608 - constants
    last, above = 0, None
    with suppress(sqlite3.DatabaseError):
        for row in damaged.execute(f"{select} > 0 ORDER BY id"):
            last = row[0]
            if _is_intact(row):
                yield row
        return
    with suppress(sqlite3.DatabaseError):
        for row in damaged.execute(f"{select} > ? ORDER BY id DESC", (last,)):
            above = row[0]
            if _is_intact(row):
                yield row
    number, misses = last + 1, 0
    while number < above if above is not None else misses < _MAX_MISSES:
        row = None
        with suppress(sqlite3.DatabaseError):
            row = damaged.execute(f"{select} = ?", (number,)).fetchone()
        misses = misses + 1 if row is None else 0
        if row is not None and _is_intact(row):
            yield row
        number += 1


def _is_intact(row: _Columns) -> bool:
    return zlib.crc32(row[7]) == row[8]
