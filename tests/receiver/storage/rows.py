"""Rows to store, and ways to look at and to damage what is stored."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from receiver.storage import Config, Numbered, Row, Storage

if TYPE_CHECKING:
    from pathlib import Path

FILE = "otelbee.sqlite3"


def row(data: bytes = b"x", *, signal: str = "logs", source: str = "test", newest_event_ns: int = 0) -> Row:
    """One item."""
    return Row(signal, source, 1, newest_event_ns, 17, b'[["test",1,0]]', data)


def numbered(number: int, size: int = 3000) -> bytes:
    """Data that can be told apart, of one size."""
    return f"{number:08}".encode() + os.urandom(size - 8)


async def append(storage: Storage, *rows: Row, wait: bool = False) -> int:
    """Store rows; gives the id of the first."""
    return await storage.append(rows, wait=wait)


async def stored(storage: Storage, signal: str = "logs") -> list[Numbered]:
    """Every row of a signal."""
    return await storage.load(signal, 0, 1 << 60, 1 << 60)


def fill(directory: Path, data: list[bytes]) -> None:
    """Store some data and end."""

    async def run() -> None:
        async with Storage(Config(directory=directory)) as storage:
            await asyncio.gather(*(append(storage, row(each)) for each in data))
            await storage.checkpoint("file").save(b"here")

    asyncio.run(run())


def found(directory: Path) -> tuple[list[bytes], bytes | None]:
    """Open what is there, recover it where that is needed; gives all data and the checkpoint."""

    async def run() -> tuple[list[bytes], bytes | None]:
        async with Storage(Config(directory=directory)) as storage:
            return [each.row.data for each in await stored(storage)], await storage.checkpoint("file").load()

    return asyncio.run(run())


def execute(directory: Path, *statements: str) -> None:
    """Change the database by hand."""
    with closing(sqlite3.connect(directory / FILE)) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()
