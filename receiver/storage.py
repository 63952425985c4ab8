"""What survives a restart: a SQLite database in the directory that ``storage`` names.

Every statement runs in one thread of its own, so that a slow disk never holds up the event loop.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import AfterValidator

from receiver.errors import StartError
from receiver.fields import Section

if TYPE_CHECKING:
    from collections.abc import Callable

FORMAT = 1
"""Stored as SQLite's ``user_version``; a database of a newer format is left alone."""

_FILE = "otelbee.sqlite3"
_SCHEMA = "CREATE TABLE IF NOT EXISTS checkpoint (source TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID"


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError(f"'{path}' is no absolute path; write for example /var/lib/otelbee")
    return path


class Config(Section):
    """Where queues and checkpoints survive a restart."""

    directory: Annotated[Path, AfterValidator(_absolute)]
    """Made when it is missing, for its owner only."""
    fsync: bool = False
    """Also survive a loss of power: each commit waits until the disk has it."""


class Storage:
    """The database of one running otelbee; an async context manager."""

    def __init__(self, config: Config) -> None:
        """Keep the database where ``config`` says."""
        self._path = config.directory / _FILE
        self._fsync = config.fsync
        self._thread = ThreadPoolExecutor(1, "storage")
        self._database: sqlite3.Connection

    async def __aenter__(self) -> Self:
        """Open the database. Raises :class:`~receiver.errors.StartError` with what to do."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._open)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the database."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._database.close)
        self._thread.shutdown()

    def checkpoint(self, source: str) -> Checkpoint:
        """The checkpoint of the source instance ``source``."""
        return Checkpoint(source, self._thread, lambda: self._database)

    def _open(self) -> None:
        directory = self._path.parent
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            database = sqlite3.connect(self._path, isolation_level=None)
            (found,) = database.execute("PRAGMA user_version").fetchone()
            if found > FORMAT:
                database.close()
                raise StartError(
                    f"storage: {self._path} has format {found}, this otelbee writes format {FORMAT}: it was written by a newer"
                    " version. Run that version, or name another directory; nothing was changed"
                )
            database.execute("PRAGMA journal_mode = WAL")
            database.execute(f"PRAGMA synchronous = {'FULL' if self._fsync else 'NORMAL'}")
            database.execute(_SCHEMA)
            database.execute(f"PRAGMA user_version = {FORMAT}")
        except (OSError, sqlite3.Error) as error:
            raise StartError(
                f"storage: cannot open {self._path}: {error}; otelbee needs to write to this directory"
            ) from error
        self._database = database


class Checkpoint:
    """Where one source left off: one value, replaced as a whole."""

    def __init__(self, source: str, thread: ThreadPoolExecutor, database: Callable[[], sqlite3.Connection]) -> None:
        """Belong to ``source``."""
        self._source = source
        self._thread = thread
        self._database = database

    async def load(self) -> bytes | None:
        """Return what was saved last, None when nothing ever was."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._load)

    async def save(self, value: bytes) -> None:
        """Replace the value; it is in the database when this returns."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._save, value)

    def _load(self) -> bytes | None:
        row = self._database().execute("SELECT value FROM checkpoint WHERE source = ?", (self._source,)).fetchone()
        return row[0] if row else None

    def _save(self, value: bytes) -> None:
        self._database().execute("INSERT OR REPLACE INTO checkpoint VALUES (?, ?)", (self._source, value))
