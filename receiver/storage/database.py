"""The SQLite database, blocking; everything here runs in the one thread of :class:`~receiver.storage.Storage`."""

from __future__ import annotations

import sqlite3
import zlib
from contextlib import suppress
from itertools import accumulate
from typing import TYPE_CHECKING

from receiver.errors import StartError
from receiver.storage import statements
from receiver.storage.directory import Directory
from receiver.storage.recovery import finish, recover
from receiver.storage.rows import Backlog, Committed, Group, Numbered, Row
from receiver.storage.schema import connect, is_damage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from receiver.storage.config import Config

_LOG_BYTES = 4 << 20
"""The write-ahead log is written back into the database when it has grown by so much."""
COMPACT_FROM_BYTES = 64 << 20
COMPACT_BELOW_BYTES = 4 << 20
"""A database file of the first size that holds less than the second is rewritten, which returns the space."""
_ROW_BYTES = 256
"""What a row takes beside its data, about."""
_COMMIT_PAGES = 4
_SPARE_PAGES = 32
"""What a commit touches beside the pages of its rows, usually and at most."""


class Database:
    """One open database."""

    def __init__(self, config: Config) -> None:
        """Open, and recover where needed, what is in the directory of ``config``.

        Raises:
            StartError: another process has it, it is of a newer format, or it cannot be opened; says what to do.
        """
        self._directory = Directory(config.directory)
        self._log_bytes = 0
        try:
            self._directory.acquire()
            try:
                self._connection = self._opened(fsync=config.fsync)
            except BaseException:
                self._directory.release()
                raise
        except (OSError, sqlite3.Error) as error:
            raise StartError(
                f"storage: cannot open {self._directory.database}: {error}; otelbee needs to write to this directory"
            ) from error
        self._page_bytes = self._pragma("page_size")
        self._directory.has_reserve()
        found = self._connection.execute(
            "SELECT signal, source, count(*), sum(items), sum(length(data)), max(newest_event_ns), max(id)"
            " FROM batch GROUP BY signal, source"
        ).fetchall()
        self.backlog = [Backlog(*each[:-1]) for each in found]
        self.backlog_last_id: int = max((each[-1] for each in found), default=0)
        self._last_id = self.backlog_last_id
        self.delivered: dict[str, int] = dict(self._connection.execute("SELECT source, event_ns FROM delivered"))
        for each in self.backlog:
            self.delivered[each.source] = max(self.delivered.get(each.source, 0), each.newest_event_ns)

    def close(self) -> None:
        """Close the database and let others have the directory."""
        with suppress(sqlite3.Error):
            self._connection.close()
        self._directory.has_reserve()  # the next start may be on a disk that others have filled
        self._directory.release()

    def commit(self, group: Group) -> Committed:
        """Store a group: all of it where there is space, else what needs little."""
        first_ids: list[int | None] = []
        rows: list[tuple[statements.Value, ...]] = []
        data_bytes = 0
        try:
            fitting = self._fitting(group.appends) if group.appends else []
            for append, fits in zip(group.appends, fitting, strict=True):
                first = self._last_id + 1 + len(rows)
                first_ids.append(first if fits else None)
                if fits:
                    data_bytes += sum(len(row.data) for row in append)
                    rows += ((first + n, *row, zlib.crc32(row.data)) for n, row in enumerate(append))
            self._transact_again(group, rows, data_bytes)
        except (sqlite3.Error, OSError) as error:
            rest = self._stored_without_appends(group)
            return Committed([None] * len(group.appends), rest, str(error), self._is_log_long)
        self._last_id += len(rows)
        problem = "" if all(fitting) else "no space is left on its file system"
        return Committed(first_ids, True, problem, self._is_log_long)  # noqa: FBT003 - a record of four

    def tidy(self) -> None:
        """Write the log back into the database, and return its space where most of it is unused."""
        self._write_back()
        with suppress(OSError, sqlite3.Error):
            if self._directory.database.stat().st_size > COMPACT_FROM_BYTES:
                used_pages = self._pragma("page_count") - self._pragma("freelist_count")
                if used_pages * self._page_bytes < COMPACT_BELOW_BYTES:
                    self._connection.execute("VACUUM")
                    self._write_back()

    def load(self, signal: str, after: int, until: int, max_bytes: int) -> list[Numbered]:
        """Read the rows of a signal with ids in (after, until], in order: at least one, then up to ``max_bytes``."""
        rows = self._connection.execute(
            f"SELECT {statements.COLUMNS} FROM batch WHERE id > ? AND id <= ? AND signal = ? ORDER BY id",  # noqa: S608 - a constant
            (after, until, signal),
        )
        loaded: list[Numbered] = []
        size = 0
        for number, *columns, crc32 in rows:
            row = Row(*columns)
            loaded.append(Numbered(number, row, zlib.crc32(row.data) == crc32))
            size += len(row.data)
            if size >= max_bytes:
                break
        rows.close()
        return loaded

    def checkpoint(self, source: str) -> bytes | None:
        """What was saved for ``source`` last."""
        row = self._connection.execute("SELECT value FROM checkpoint WHERE source = ?", (source,)).fetchone()
        return row[0] if row else None

    @property
    def _is_log_long(self) -> bool:
        return self._log_bytes > _LOG_BYTES

    def _opened(self, *, fsync: bool) -> sqlite3.Connection:
        path = self._directory.database
        finish(path)
        try:
            return connect(path, fsync=fsync)
        except (sqlite3.Error, OSError) as error:
            if isinstance(error, sqlite3.Error) and is_damage(error):
                recover(path, str(error))
            else:
                self._directory.release_reserve()  # where the disk is full, that is what it is for
        return connect(path, fsync=fsync)

    def _fitting(self, appends: Sequence[Sequence[Row]]) -> list[bool]:
        """Which appends can be stored so that the log can still be written back, whatever others do to the disk."""
        if self._is_log_long and not self._write_back():
            return [False] * len(appends)
        size = sum(_size(append) for append in appends)
        # Once for the log, once for the database, which has still to get what the log has already.
        if self._directory.has_reserve() and self._directory.free_bytes > 2 * size + self._log_bytes:
            return [True] * len(appends)
        # Nothing but pages that the database has already and does not use.
        pages = accumulate(sum(len(row.data) // (self._page_bytes - 4) + 2 for row in append) for append in appends)
        spare_pages = self._pragma("freelist_count") - _SPARE_PAGES
        return [needed_pages <= spare_pages for needed_pages in pages]

    def _transact(self, group: Group, rows: Sequence[tuple[statements.Value, ...]], data_bytes: int = 0) -> None:
        database, todo = self._connection, statements.of(group, rows)
        try:
            if len(todo) > 1:
                todo = [("BEGIN IMMEDIATE", ()), *todo, ("COMMIT", ())]
            for statement, values in todo:
                database.execute(statement, values)
        except BaseException:
            with suppress(sqlite3.Error):
                if database.in_transaction:  # SQLite ends it by itself in some cases
                    database.execute("ROLLBACK")
            raise
        self._log_bytes += _COMMIT_PAGES * self._page_bytes + data_bytes + _ROW_BYTES * len(rows)

    def _transact_again(self, group: Group, rows: Sequence[tuple[statements.Value, ...]], data_bytes: int = 0) -> None:
        """Try once more with the log begun anew: where the disk is full, its file is the space there is."""
        try:
            self._transact(group, rows, data_bytes)
        except (sqlite3.Error, OSError):
            if not self._write_back():
                raise
            self._transact(group, rows, data_bytes)

    def _stored_without_appends(self, group: Group) -> bool:
        if not group.deletions and not group.checkpoints:
            return True
        self._directory.release_reserve()
        try:
            self._transact_again(group, ())
        except (sqlite3.Error, OSError):
            return False
        return True

    def _write_back(self) -> bool:
        """Write the log back into the database, so that it begins anew; uses up the reserve where that is needed."""
        for _ in range(2):
            try:
                busy, logged, written = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            except sqlite3.Error:
                self._directory.release_reserve()
            else:
                if not busy and logged == written:
                    self._log_bytes = 0
                    return True
        return False

    def _pragma(self, name: str) -> int:
        (value,) = self._connection.execute(f"PRAGMA {name}").fetchone()
        return int(value)


def _size(rows: Iterable[Row]) -> int:
    return sum(_ROW_BYTES + len(row.data) for row in rows)
