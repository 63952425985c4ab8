"""Finds tracefs, mounts it where it is not mounted and we may, and reads tracepoint formats."""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path

_FOLDERS = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))
_FIELD = re.compile(r"^\s*field:(?P<declaration>[^;]+);\s*offset:\d+;\s*size:(?P<size>\d+);", re.MULTILINE)
_NAME = re.compile(r"(\w+)(?:\[[^]]*\])*\s*$")


class TracefsError(Exception):
    """Tracepoints cannot be read here; the text says what to do."""


def find() -> Path:
    """Return where tracefs is mounted, after mounting it when it is not."""
    folder = _mounted()
    if folder is None:
        mount()
        folder = _mounted()
    if folder is None:
        raise TracefsError(f"{_FOLDERS[0]}: mounted, but it has no events; the kernel needs CONFIG_EVENT_TRACING")
    return folder


def mount() -> None:
    """Mount tracefs at its usual place, unless it is there; needs CAP_SYS_ADMIN."""
    if _mounted() is not None:
        return
    target = _FOLDERS[0]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tracefs", os.fsencode(target), b"tracefs", 0, None) != 0:
        raise TracefsError(
            f"{target}: tracefs is not mounted, and mounting it failed: {os.strerror(ctypes.get_errno())}; run "
            f"'mount -t tracefs tracefs {target}' as root, or mount the host's {target} into the container"
        )


def _mounted() -> Path | None:
    for folder in _FOLDERS:
        try:
            if (folder / "events/sched").is_dir():
                return folder
        except PermissionError as error:
            raise TracefsError(f"{folder}: {error.strerror}; tracefs is for root (uid 0)") from error
    return None


def fields(text: str) -> dict[str, int]:
    """Return the fields of a tracepoint's ``format`` file and their sizes in bytes, without the common ones."""
    found: dict[str, int] = {}
    for match in _FIELD.finditer(text):
        name = _NAME.search(match["declaration"])
        if name and not name[1].startswith("common_"):
            found[name[1]] = int(match["size"])
    return found


def read_format(folder: Path, category: str, event: str) -> dict[str, int]:
    """Return a tracepoint's fields; raises TracefsError where this kernel has no such tracepoint."""
    path = folder / "events" / category / event / "format"
    try:
        return fields(path.read_text(encoding="ascii", errors="replace"))
    except OSError as error:
        raise TracefsError(f"{path}: {error.strerror}; this kernel lacks the tracepoint {category}:{event}") from error
