"""The ``tetragon_file`` source: follows the file, and moves its checkpoint when what it read is delivered."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from asyncinotify import Inotify, Mask

from receiver import own_events
from receiver.identity import boot_ns
from receiver.sources.tetragon_file.follow import Follower, Position
from translators.batch import Origin

if TYPE_CHECKING:
    from pathlib import Path

    from receiver.sources.tetragon_file.config import Config
    from receiver.types import Checkpoint, Intake

FALLBACK_S = 1.0
"""How soon the file is looked at where inotify says nothing: on network file systems, or out of watches."""
RARELY_S = 8.0
"""How seldom, at most, where each look was in vain: every one in vain doubles the time to the next."""

SETTLE_S = 2.0
"""How long a stop waits for what was read last to be delivered."""

_CHANGES = Mask.MODIFY | Mask.CREATE | Mask.MOVE | Mask.ATTRIB


class _Sent(NamedTuple):
    position: Position
    delivered: asyncio.Future[None]


class Source:
    """Reads the export file and what it was rotated to."""

    def __init__(self, config: Config, checkpoint: Checkpoint | None) -> None:
        """Follow ``config.path``; without a ``checkpoint`` each start begins where ``start_at`` says."""
        self._config = config
        self._checkpoint = checkpoint
        self._follower = Follower(config.path)
        self._origin = Origin(exclude=config.excluded(), boot_ns=boot_ns())
        self._sent: deque[_Sent] = deque()
        self._has_sent = asyncio.Event()
        self._oversized = 0
        self._at_end = config.start_at == "end"

    async def run(self, intake: Intake) -> None:
        """Follow the file until cancelled."""
        intake.started(None)
        changes = _Changes(self._config.path.parent)
        committer = asyncio.create_task(self._commit_each_second())
        try:
            while True:
                try:
                    if not self._follower.is_open:
                        await self._open(intake)
                        intake.state(up=True, reason="")
                    while await self._emit(intake):
                        changes.found()
                except OSError as error:
                    self._follower.close()
                    intake.state(up=False, reason=self._explain(error))
                await changes.wait()
        finally:
            changes.close()
            committer.cancel()
            await self._settle()
            self._follower.close()

    async def _open(self, intake: Intake) -> None:
        """Go on where the checkpoint says, else where the configuration says."""
        saved = await self._checkpoint.load() if self._checkpoint else None
        if saved is not None:
            if self._follower.resume(Position(*json.loads(saved))):
                return
            self._follower.open(at_end=False)
            await intake.event(
                own_events.GAP,
                {"otelbee.gap.reason": f"the file that was read last is no longer beside {self._config.path}"},
            )
            return
        try:
            self._follower.open(at_end=self._at_end)
        finally:
            # A file that appears, or may be read, only later is read whole: what it holds came while we waited for it.
            self._at_end = False
        # From here on a restart is owed every line, even one before the first delivery.
        await self._save(self._follower.position)

    async def _emit(self, intake: Intake) -> bool:
        read = self._follower.read()
        if skipped := self._follower.oversized - self._oversized:
            await intake.event(
                own_events.LOSS, {own_events.LOSS_REASON: "line_too_long", own_events.LOSS_RECORDS: skipped}
            )
            self._oversized += skipped
        if read is None:
            return False
        outcome = await intake.emit("json", read.lines, self._origin, wait=True)
        self._sent.append(_Sent(read.position, outcome.delivered))
        self._has_sent.set()
        return True

    async def _commit_each_second(self) -> None:
        while True:
            await self._has_sent.wait()
            await asyncio.sleep(FALLBACK_S)
            await self._commit()
            if not self._sent:
                self._has_sent.clear()

    async def _commit(self) -> None:
        """Move the checkpoint over what was delivered, in the order in which it was read."""
        position = None
        while self._sent and _is_delivered(self._sent[0].delivered):
            position = self._sent.popleft().position
        if position is not None:
            await self._save(position)

    async def _save(self, position: Position) -> None:
        if self._checkpoint is not None:
            await self._checkpoint.save(json.dumps(position).encode())

    async def _settle(self) -> None:
        """Before a stop, give what was read a moment to be delivered: what is, is not read again."""
        if self._checkpoint is not None:
            if self._sent:
                await asyncio.wait([sent.delivered for sent in self._sent], timeout=SETTLE_S)
            await self._commit()

    def _explain(self, error: OSError) -> str:
        path = self._config.path
        if isinstance(error, PermissionError):
            return (
                f"may not read {path}: the agent writes it for root only. Let it write the file group-readable"
                " (--export-file-perm 640; Helm: tetragon.exportFilePerm) and run otelbee in that group, or run otelbee as"
                " the file's owner"
            )
        if isinstance(error, FileNotFoundError):
            return f"{path} does not exist yet; the agent writes it with --export-filename {path}"
        return f"cannot read {path}: {error.strerror or error}"


class _Changes:
    """Wakes when something in a directory changes, and without a word after :data:`FALLBACK_S` and more."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._inotify = Inotify()
        self._watches = False
        self._fallback_s = FALLBACK_S

    def found(self) -> None:
        """Note that there was something to read: there may soon be more."""
        self._fallback_s = FALLBACK_S

    async def wait(self) -> None:
        """Return when there may be something new."""
        if not self._watches:
            with suppress(OSError):  # no such directory yet, or out of watches: the fallback serves
                self._inotify.add_watch(self._directory, _CHANGES)
                self._watches = True
        try:
            async with asyncio.timeout(self._fallback_s):
                await self._inotify.get()
        except TimeoutError:
            if self._watches:
                self._fallback_s = min(2 * self._fallback_s, RARELY_S)

    def close(self) -> None:
        """Stop watching."""
        self._inotify.close()


def _is_delivered(delivered: asyncio.Future[None]) -> bool:
    return delivered.done() and not delivered.cancelled() and delivered.exception() is None
