"""A growing log file, followed over rotation by rename and by truncation, from a position that survives a restart.

The agent's writer (lumberjack) renames the full file to ``NAME-TIMESTAMP.EXT`` beside it and begins a new one; logrotate
renames to ``NAME.EXT.1``, or with ``copytruncate`` copies the file and truncates the original. A file is known by its
inode and by a hash of its first bytes: inodes are reused, and a copy has another one.
"""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

HEAD_BYTES = 1024
BLOCK_BYTES = 256 * 1024
MAX_LINE_BYTES = 16 * 1024 * 1024


class Position(NamedTuple):
    """Up to where a file was read; what a checkpoint keeps."""

    inode: int
    head_bytes: int
    head_sha256: str
    """Of the file's first ``head_bytes`` bytes."""
    offset: int
    """Bytes from the start of the file, always behind a line."""


class Lines(NamedTuple):
    """Whole lines without their ends, and the position behind them."""

    lines: list[bytes]
    position: Position


class _File(NamedTuple):
    path: Path
    inode: int
    modified_ns: int


class Follower:
    """Reads lines from ``path`` and from the files that it was rotated to. Not for concurrent use.

    Every method may raise ``OSError``: the file is missing, or may not be read.
    """

    def __init__(self, path: Path) -> None:
        """Follow ``path``; nothing is opened yet."""
        self._path = path
        name, stem, suffix = (re.escape(part) for part in (path.name, path.stem, path.suffix))
        self._rotated = re.compile(rf"{stem}-\d.*{suffix}|{name}[.-]\d+")
        self._fd = -1
        self._inode = 0
        self._offset = 0  # of the first byte that no returned line covers
        self._tail = b""  # the half-written line that begins there
        self._head = b""
        self._skipping = False
        self.oversized = 0
        """Lines that were longer than :data:`MAX_LINE_BYTES` and were skipped."""

    @property
    def is_open(self) -> bool:
        """Whether there is a file to read."""
        return self._fd >= 0

    @property
    def position(self) -> Position:
        """Behind the last line that was returned; there must be an open file."""
        return Position(self._inode, len(self._head), hashlib.sha256(self._head).hexdigest(), self._offset)

    def open(self, *, at_end: bool) -> None:
        """Open the current file at its start, or behind its last whole line."""
        self._switch(self._path)
        if at_end:
            self._offset = _behind_last_line(self._fd)
            self._head = os.pread(self._fd, min(HEAD_BYTES, self._offset), 0)

    def resume(self, position: Position) -> bool:
        """Open the file that ``position`` is in, rotated or not; False when it is gone, and nothing is open then."""
        for file in sorted(self._files(), key=lambda file: file.inode != position.inode):
            with suppress(FileNotFoundError):
                self._switch(file.path)
                self._head = os.pread(self._fd, position.head_bytes, 0)
                self._offset = position.offset
                if self.position == position._replace(inode=self._inode) and self._size() >= position.offset:
                    return True
        self.close()
        return False

    def read(self) -> Lines | None:
        """Return the next lines, from at most :data:`BLOCK_BYTES` of the file; None when there are none yet."""
        self._notice_truncation()
        while True:
            block = os.pread(self._fd, BLOCK_BYTES, self._offset + len(self._tail))
            if block:
                lines = self._cut(block)
            else:
                successor = self._successor()
                if successor is None:
                    return None
                if os.pread(self._fd, 1, self._offset + len(self._tail)):
                    continue  # written between the last read and the rotation
                lines = [self._tail] if self._tail else []  # the file ended in half a line: nothing will complete it
                self._switch(successor)
            if lines:
                return Lines(lines, self.position)

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def _cut(self, block: bytes) -> list[bytes]:
        lines = (self._tail + block).split(b"\n")
        if len(self._head) < HEAD_BYTES:
            self._head = os.pread(self._fd, HEAD_BYTES, 0)
        whole = len(self._tail) + len(block) - len(lines[-1])
        self._offset += whole
        self._tail = lines.pop()
        if self._skipping and lines:
            del lines[0]
            self._skipping = False
        if len(self._tail) > MAX_LINE_BYTES:
            self._offset += len(self._tail)
            self._tail = b""
            self.oversized += not self._skipping
            self._skipping = True
        self._head = self._head[: min(HEAD_BYTES, self._offset)]
        return [line for line in lines if line]

    def _size(self) -> int:
        return os.fstat(self._fd).st_size

    def _switch(self, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.close()
        self._fd, self._inode = fd, os.fstat(fd).st_ino
        self._offset, self._tail, self._head, self._skipping = 0, b"", b"", False

    def _notice_truncation(self) -> None:
        """Go on in the copy that ``copytruncate`` left, where there is one, else at the start of the emptied file."""
        if self._size() >= self._offset + len(self._tail) and os.pread(self._fd, len(self._head), 0) == self._head:
            return
        if not self.resume(self.position):
            self._switch(self._path)

    def _successor(self) -> Path | None:
        """The file that continues the open one: the next in order of last writes, the current file being the last."""
        files = self._files()
        if not files or files[-1].inode == self._inode:
            return None
        written_ns = os.fstat(self._fd).st_mtime_ns
        inodes = [file.inode for file in files]
        if self._inode in inodes:
            return files[inodes.index(self._inode) + 1].path
        return next((file.path for file in files if file.modified_ns >= written_ns), self._path)

    def _files(self) -> list[_File]:
        """The rotated files in order of their last writes, then the current one; uncompressed ones only."""
        files = []
        for entry in os.scandir(self._path.parent):
            with suppress(FileNotFoundError):
                if self._rotated.fullmatch(entry.name) and entry.is_file():
                    status = entry.stat()
                    files.append(_File(self._path.with_name(entry.name), status.st_ino, status.st_mtime_ns))
        files.sort(key=lambda file: (file.modified_ns, file.path.name))
        with suppress(FileNotFoundError):
            status = self._path.stat()
            files.append(_File(self._path, status.st_ino, status.st_mtime_ns))
        return files


def _behind_last_line(fd: int) -> int:
    end = os.fstat(fd).st_size
    while end:
        start = max(0, end - BLOCK_BYTES)
        newline = os.pread(fd, end - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0
