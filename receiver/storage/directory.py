"""The directory of the storage: one otelbee at a time, files for their owner only, and a reserve of space."""

from __future__ import annotations

import fcntl
import logging
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from receiver.errors import StartError

if TYPE_CHECKING:
    from pathlib import Path

_log = logging.getLogger(__name__)

PREFIX = "otelbee."
RESERVE_BYTES = 8 << 20
"""Kept free on a disk that others fill, so that what was delivered can always be deleted: SQLite needs space to delete.
More than the write-ahead log may hold of pages that the database file has no place for yet."""


class Directory:
    """A directory that belongs to this process alone while it is held."""

    def __init__(self, path: Path) -> None:
        """Name the directory; nothing is opened yet."""
        self.path = path
        self.database = path / f"{PREFIX}sqlite3"
        self._reserve = path / f"{PREFIX}reserve"
        self._lock_fd = -1

    def acquire(self) -> None:
        """Make the directory where it is missing, and keep other processes out.

        Raises:
            StartError: another process holds it.
            OSError: it cannot be made or written.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(self.path / f"{PREFIX}lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(fd, 32).decode(errors="replace").strip()
            os.close(fd)
            raise StartError(
                f"storage: {self.path} is in use by another otelbee (process {holder or 'unknown'}): two cannot share a"
                " directory. Stop that one, or name another directory"
            ) from None
        os.truncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._lock_fd = fd
        self._restrict()

    def release(self) -> None:
        """Let others in. The reserve stays: the next start may be on a full disk."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    @property
    def free_bytes(self) -> int:
        """What an unprivileged process may still write to the file system."""
        status = os.statvfs(self.path)
        return status.f_bavail * status.f_frsize

    def has_reserve(self) -> bool:
        """Whether space is set aside; tries to set it aside where it is not."""
        with suppress(OSError):
            if self._reserve.stat().st_size == RESERVE_BYTES:
                return True
        try:
            fd = os.open(self._reserve, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(fd, 0, RESERVE_BYTES)
            finally:
                os.close(fd)
        except OSError:
            self.release_reserve()
            return False
        return True

    def release_reserve(self) -> None:
        """Give the space that was set aside to who writes next."""
        with suppress(OSError):
            self._reserve.unlink()

    def _restrict(self) -> None:
        """Close the directory to others, unless it is more than ours."""
        status = self.path.stat()
        if not stat.S_IMODE(status.st_mode) & 0o077:
            return
        if status.st_uid == os.geteuid() and all(entry.name.startswith(PREFIX) for entry in self.path.iterdir()):
            self.path.chmod(0o700)
            return
        _log.warning("storage: others may list %s; what otelbee keeps there is readable for its user only", self.path)
