"""Files that may be replaced while otelbee runs: certificates, keys, tokens."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_EVERY_S = 1.0

_State = tuple[tuple[int, int, int] | None, ...]


class Watch:
    """Notices when one of some files was replaced or rewritten. Safe to use from several threads."""

    def __init__(self, paths: Sequence[Path], clock_s: Callable[[], float] = time.monotonic) -> None:
        """Begin with the files as they are now; ``clock_s`` gives seconds."""
        self._paths = tuple(paths)
        self._clock_s = clock_s
        self._state = self._look()
        self._next_s = clock_s() + _EVERY_S

    def changed(self) -> bool:
        """Whether a file is another than at the last True, or at the beginning; looks once a second at most."""
        now_s = self._clock_s()
        if now_s < self._next_s:
            return False
        self._next_s = now_s + _EVERY_S
        state = self._look()
        changed, self._state = state != self._state, state
        return changed

    def _look(self) -> _State:
        return tuple(_stat(path) for path in self._paths)


def _stat(path: Path) -> tuple[int, int, int] | None:
    """What changes with a file's content; kubelet and certificate tools replace files by rename."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
