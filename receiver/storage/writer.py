"""The asynchronous side of the database: what is asked for together is committed together.

Every statement runs in one thread of its own, so that a slow disk never holds up the event loop. A commit begins as soon
as the thread is free, with what was asked for until then, so nothing waits for company.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple, Self, TypeVar

from receiver.errors import QueueFull
from receiver.storage.database import COMPACT_BELOW_BYTES, COMPACT_FROM_BYTES, Database
from receiver.storage.rows import Committed, Group

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from receiver.storage.config import Config
    from receiver.storage.rows import Backlog, Numbered, Row

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

MAX_WAITING_BYTES = 32 << 20
"""What may wait for its commit in memory: where the disk is slower than what comes, more is refused."""
_GROUP_BYTES = 4 << 20
"""A commit takes no more appends when it has so much: the first must not wait for the last."""
RETRY_S = 1.0
"""How long after a disk refused it is asked again, and what refused senders are told to wait."""


_STEADY_S = 10.0
"""A disk that refuses now and then is one problem, until it takes everything for so long."""


class _Append(NamedTuple):
    rows: Sequence[Row]
    size: int
    wait: bool
    first_id: asyncio.Future[int]


class _Deletion(NamedTuple):
    ids: Sequence[int]
    size: int
    newest_event_ns: Mapping[str, int]
    done: asyncio.Future[None]


class _Save(NamedTuple):
    source: str
    value: bytes
    done: asyncio.Future[None]


class Storage:
    """The database of one running otelbee; an async context manager."""

    def __init__(self, config: Config, *, steady_s: float = _STEADY_S) -> None:
        """Keep the database where ``config`` says; a disk works again when it took everything for ``steady_s``."""
        self._steady_s = steady_s
        self._recovered: asyncio.TimerHandle | None = None
        self.problem = ""
        """Why the disk takes nothing now; empty when all is well."""
        self._config = config
        self._thread = ThreadPoolExecutor(1, "otelbee-storage")
        self._database: Database
        self._writer: asyncio.Task[None]
        self._newest_event_ns: dict[str, int] = {}
        self._appends: deque[_Append] = deque()
        self._waiting_bytes = 0
        self._deletions: list[_Deletion] = []
        self._stored_bytes = 0
        self._most_stored_bytes = 0
        """Since the database file was small."""
        self._saves: list[_Save] = []
        self._retry: asyncio.TimerHandle | None = None
        self._postponed: list[_Append] = []
        self._work = asyncio.Event()
        self._closing = False

    async def __aenter__(self) -> Self:
        """Open the database. Raises :class:`~receiver.errors.StartError` with what to do."""
        try:
            self._database = await self._in_thread(Database, self._config)
        except Exception:
            self._thread.shutdown()
            raise
        self._newest_event_ns = dict(self._database.delivered)
        self._stored_bytes = self._most_stored_bytes = sum(each.size_bytes for each in self.backlog)
        self._writer = asyncio.create_task(self._write(), name="storage")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Store what was asked for, as far as the disk lets us, and close the database."""
        self._closing = True
        self._work.set()
        await self._writer
        for timer in (self._retry, self._recovered):
            if timer is not None:
                timer.cancel()
        for append in (*self._postponed, *self._appends):
            _refuse(append)
        for deletion in self._deletions:
            deletion.done.cancel()
        await self._in_thread(self._database.close)
        self._thread.shutdown()

    @property
    def backlog(self) -> Sequence[Backlog]:
        """What an earlier run left in the queues, by signal and source."""
        return self._database.backlog

    @property
    def backlog_last_id(self) -> int:
        """The newest id in the backlog; 0 where it is empty."""
        return self._database.backlog_last_id

    def newest_event_ns(self, source: str) -> int:
        """Unix time, in nanoseconds, of the newest event of ``source`` that was ever stored; 0 where unknown."""
        return self._newest_event_ns.get(source, 0)

    def refuses(self, size: int) -> bool:
        """Whether an append of so many bytes that does not wait would be refused at once."""
        return self._retry is not None or (self._waiting_bytes > 0 and self._waiting_bytes + size > MAX_WAITING_BYTES)

    def append(self, rows: Sequence[Row], *, wait: bool) -> asyncio.Future[int]:
        """Store rows, all or none; gives the id of the first when they are stored, and the others follow it.

        Where the disk has no room this fails with :class:`~receiver.errors.QueueFull`, or waits for room with ``wait``,
        until the storage is closed.
        """
        size = sum(len(row.data) for row in rows)
        append = _Append(rows, size, wait, asyncio.get_running_loop().create_future())
        if self._closing or (not wait and self.refuses(size)):
            _refuse(append)
        else:
            self._waiting_bytes += size
            self._appends.append(append)
            self._work.set()
        return append.first_id

    def delete(self, ids: Sequence[int], size: int, newest_event_ns: Mapping[str, int]) -> asyncio.Future[None]:
        """Forget rows of ``size`` bytes that were delivered, and remember when each source's newest event was.

        Done when they are gone, which may be when the disk works again; cancelled when the storage is closed before.
        """
        deletion = _Deletion(ids, size, newest_event_ns, asyncio.get_running_loop().create_future())
        self._deletions.append(deletion)
        self._work.set()
        return deletion.done

    async def load(self, signal: str, after: int, until: int, max_bytes: int) -> list[Numbered]:
        """Read the rows of a signal with ids in (after, until], in order: at least one, then up to ``max_bytes``.

        Where the disk fails this asks it again until it does not.
        """
        said = False
        while True:
            try:
                return await self._in_thread(self._database.load, signal, after, until, max_bytes)
            except (sqlite3.Error, OSError) as error:
                if not said:
                    _log.error(
                        "storage: %s cannot be read, and is asked again: %s. A restart recovers what can be read of a"
                        " damaged database",
                        self._config.directory,
                        error,
                    )
                said = True
                await asyncio.sleep(RETRY_S)

    def checkpoint(self, source: str) -> Checkpoint:
        """The checkpoint of the source instance ``source``."""
        return Checkpoint(source, self)

    async def load_checkpoint(self, source: str) -> bytes | None:
        """Return what was saved for ``source`` last, None when nothing ever was."""
        return await self._in_thread(self._database.checkpoint, source)

    def save_checkpoint(self, source: str, value: bytes) -> asyncio.Future[None]:
        """Replace the value of ``source``; done when that was tried. On a disk that refuses it the old one stays."""
        save = _Save(source, value, asyncio.get_running_loop().create_future())
        self._saves.append(save)
        self._work.set()
        return save.done

    async def _in_thread(self, function: Callable[..., _T], *arguments: object) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    async def _write(self) -> None:
        """Commit what is asked for, group after group, until the storage is closed."""
        while True:
            await self._work.wait()
            self._work.clear()
            while self._appends or self._deletions or self._saves:
                if not await self._commit():
                    break
            if self._closing:
                return

    async def _commit(self) -> bool:
        """Commit one group; returns whether more can be tried at once."""
        appends, deletions, saves = self._take_appends(), self._deletions, self._saves
        self._deletions, self._saves = [], []
        newest: dict[str, int] = {}
        for deletion in deletions:
            for source, event_ns in deletion.newest_event_ns.items():
                newest[source] = max(event_ns, newest.get(source, 0))
        ids = [one for deletion in deletions for one in deletion.ids]
        group = Group([each.rows for each in appends], ids, newest, {each.source: each.value for each in saves})
        committed = await self._committed(group)
        if appends or committed.problem:  # that something could be deleted says nothing about room
            self._report(committed.problem)
        self._settle(appends, committed)
        for done in [each.done for each in saves] + [each.done for each in deletions if committed.rest]:
            if not done.done():
                done.set_result(None)
        if committed.rest and deletions:
            self._stored_bytes -= sum(each.size for each in deletions)
            self._try_again()  # what was deleted has made room
        elif not committed.rest:
            self._deletions[:0] = deletions
        if committed.is_log_long or self._is_mostly_unused():
            await self._in_thread(self._database.tidy)
        return committed.rest

    async def _committed(self, group: Group) -> Committed:
        try:
            return await self._in_thread(self._database.commit, group)
        except Exception as error:  # noqa: BLE001 - a fault of ours must not stop every sender
            if not self.problem:
                _log.exception("storage: a commit failed")
            return Committed([None] * len(group.appends), rest=False, problem=repr(error), is_log_long=False)

    def _is_mostly_unused(self) -> bool:
        """Whether the database file is large for what it holds; once, when that is so."""
        self._most_stored_bytes = max(self._most_stored_bytes, self._stored_bytes)
        if self._most_stored_bytes < COMPACT_FROM_BYTES or self._stored_bytes >= COMPACT_BELOW_BYTES:
            return False
        self._most_stored_bytes = 0
        return True

    def _take_appends(self) -> list[_Append]:
        taken: list[_Append] = []
        size = 0
        while self._appends and (not taken or size + self._appends[0].size <= _GROUP_BYTES):
            taken.append(self._appends.popleft())
            size += taken[-1].size
        self._waiting_bytes -= size
        return taken

    def _settle(self, appends: Sequence[_Append], committed: Committed) -> None:
        for append, first_id in zip(appends, committed.first_ids, strict=True):
            if first_id is not None:
                self._stored_bytes += append.size
                for row in append.rows:
                    newest_ns = max(row.newest_event_ns, self._newest_event_ns.get(row.source, 0))
                    self._newest_event_ns[row.source] = newest_ns
                if not append.first_id.cancelled():
                    append.first_id.set_result(first_id)
            elif append.wait and not self._closing:
                self._postponed.append(append)
            else:
                _refuse(append)

    def _report(self, problem: str) -> None:
        """Note what the disk says; logged when it begins and when it ends."""
        if problem and self._recovered is not None:
            self._recovered.cancel()
            self._recovered = None
        elif problem and not self.problem:
            _log.error("storage: %s takes nothing new until this ends: %s", self._config.directory, problem)
        elif self.problem and not problem:
            self._recovered = asyncio.get_running_loop().call_later(self._steady_s, self._say_recovered)
        self.problem = problem
        if problem and self._retry is None and not self._closing:
            self._retry = asyncio.get_running_loop().call_later(RETRY_S, self._try_again)

    def _say_recovered(self) -> None:
        self._recovered = None
        _log.info("storage: %s works again", self._config.directory)

    def _try_again(self) -> None:
        """Ask the disk once more for what it refused, and let others ask."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self._appends.extendleft(reversed(self._postponed))
        self._waiting_bytes += sum(append.size for append in self._postponed)
        self._postponed.clear()
        if self.problem and not self._appends and not self._closing:
            # Nobody asks: do so ourselves, or who waits for us to be ready would wait for ever.
            self.append((), wait=False)
            self.save_checkpoint("", b"")
        self._work.set()


class Checkpoint:
    """Where one source left off: one value, replaced as a whole."""

    def __init__(self, source: str, storage: Storage) -> None:
        """Belong to ``source``."""
        self._source = source
        self._storage = storage

    async def load(self) -> bytes | None:
        """Return what was saved last, None when nothing ever was."""
        return await self._storage.load_checkpoint(self._source)

    async def save(self, value: bytes) -> None:
        """Replace the value; it is in the database when this returns. On a disk that refuses it the old one stays."""
        await self._storage.save_checkpoint(self._source, value)


def _refuse(append: _Append) -> None:
    if not append.first_id.done():
        append.first_id.set_exception(QueueFull(RETRY_S))
        append.first_id.exception()  # its owner may be gone
