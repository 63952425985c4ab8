"""What has to be written: the storage's directory and the files of exporters. Nothing is made."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from receiver.doctor.findings import Finding, failure
from receiver.storage.directory import Directory
from receiver.storage.schema import FORMAT, format_of, open_read_only

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MIB = 1 << 20


def examine_storage(directory: Path, queue_bytes: int, *, runs_already: bool) -> Iterator[Finding]:
    """Whether the directory can be used, has room for queues of ``queue_bytes`` and what is in it can be read."""
    check = "storage"
    existing = next(folder for folder in (directory, *directory.parents) if folder.exists())
    if (finding := _writable(check, existing, directory)) is not None:
        yield finding
        return
    free_bytes = shutil.disk_usage(existing).free
    room = f"{free_bytes // _MIB} MiB free, queues of up to {queue_bytes // _MIB} MiB"
    if free_bytes < queue_bytes:
        remedy = "give it more space, or lower sending_queue.queue_size; a full disk refuses senders, it loses nothing"
        yield Finding(check, "note", f"{directory}: {room}", remedy)
    else:
        yield Finding(check, "ok", f"{directory} can be written; {room}")
    files = Directory(directory)
    if _is_locked(directory):
        cause = f"{directory} is in use by another otelbee"
        if runs_already:
            yield Finding(check, "note", cause, "nothing to do if that is the otelbee that runs here")
        else:
            yield failure(check, cause, "stop that one, or name another directory")
        return
    if files.database.exists() and (finding := _format(check, files.database)) is not None:
        yield finding


def examine_file(check: str, path: Path) -> Finding:
    """Whether a file can be written."""
    if path.exists():
        problem = None if path.is_file() or path.is_char_device() else f"{path} is no file"
        if problem is None and not os.access(path, os.W_OK):
            problem = f"{path} may not be written by uid {os.geteuid()}"
        if problem is not None:
            return failure(check, problem, "correct path, or the file's owner and mode")
    elif not path.parent.is_dir():
        return failure(check, f"the folder {path.parent} does not exist", "make it, or correct path")
    elif (finding := _writable(check, path.parent, path.parent)) is not None:
        return finding
    return Finding(check, "ok", f"{path} can be written")


def _writable(check: str, existing: Path, wanted: Path) -> Finding | None:
    if not existing.is_dir():
        return failure(check, f"{existing} is no directory", "remove it, or name another path")
    if os.access(existing, os.W_OK | os.X_OK):
        return None
    remedy = f"make {wanted} and give it to that user, or name another path"
    return failure(check, f"uid {os.geteuid()} may not write to {existing}", remedy)


def _is_locked(directory: Path) -> bool:
    try:
        fd = os.open(directory / "otelbee.lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _format(check: str, path: Path) -> Finding | None:
    try:
        with closing(open_read_only(path)) as database:
            found = format_of(database)
    except sqlite3.Error as error:
        remedy = "look at its log after the start: what can be read is recovered, the rest is set aside"
        return Finding(check, "note", f"{path} cannot be read ({error})", remedy)
    if found <= FORMAT:
        return None
    cause = f"{path} has format {found}, which a newer otelbee wrote; this one writes format {FORMAT}"
    return failure(check, cause, "run that version, or name another directory")
