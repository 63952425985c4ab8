"""Refuses to run with privilege from files that others may change.

Whoever may write one of our files, or rename a folder above them, runs code as root. Trusted are root and the user
behind sudo, who could run anything as root anyway, and that user's private group, which many distributions let write.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class UnsafeError(Exception):
    """A file or folder of the installation may be written by others; the text names it and the remedy."""


def check(folder: Path, trusted_uids: frozenset[int]) -> None:
    """Raise UnsafeError when others than ``trusted_uids`` may change ``folder``, what is in it or what is above it."""
    folder = folder.resolve()
    for above in folder.parents:
        # In a sticky folder (/tmp) only the owner of an entry may rename it.
        if not above.stat().st_mode & stat.S_ISVTX:
            _check_path(above, trusted_uids)
    for path in (folder, *folder.rglob("*")):
        if path.is_symlink():
            raise UnsafeError(f"{path}: is a symbolic link, and this folder has none; remove it")
        _check_path(path, trusted_uids)


def _check_path(path: Path, trusted: frozenset[int]) -> None:
    status = path.stat()
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid not in trusted:
        raise UnsafeError(
            f"{path}: belongs to uid {status.st_uid}, who could change what runs as root; install as root"
        )
    if mode & stat.S_IWOTH or (mode & stat.S_IWGRP and not _private(status.st_gid, trusted)):
        raise UnsafeError(f"{path}: others may write it (mode {mode:04o}); run 'chmod go-w {path}'")


def trusted_uids() -> frozenset[int]:
    """Root, and the user behind sudo ($SUDO_UID)."""
    behind_sudo = os.environ.get("SUDO_UID", "")
    return frozenset({0, int(behind_sudo)} if behind_sudo.isdecimal() else {0})


def _private(gid: int, trusted: frozenset[int]) -> bool:
    """Whether a group is root's, or that of a trusted user and nobody else is in it."""
    users = pwd.getpwall()
    names = {user.pw_name for user in users if user.pw_uid in trusted}
    primary = {user.pw_name for user in users if user.pw_gid == gid}
    try:
        members = set(grp.getgrgid(gid).gr_mem)
    except KeyError:
        members = set()
    return gid == 0 or (bool(primary) and primary | members <= names)
