"""The last guard: this process's resident memory. Near its limit senders are refused until the queues have made room.

Queues and requests on their way in are bounded by bytes; this is for what those bytes cost beside themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, model_validator

from receiver.errors import TryLater
from receiver.fields import Section

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_log = logging.getLogger(__name__)

_MIB = 1 << 20
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_CHECK_S = 1.0
_TRIM_S = 30.0
"""How often memory is given back where that alone cannot help."""
_RETRY_AFTER_S = 5.0
_UNLIMITED = 1 << 60
"""cgroup v1 writes "no limit" as the largest multiple of a page."""


class Config(Section):
    """When senders are refused; the keys are those of the Collector's memory_limiter."""

    limit_mib: Annotated[int, Field(ge=64)] | None = None
    """Resident MiB of this process. Unset: ``limit_percentage`` of the container's limit, and none without one."""
    limit_percentage: Annotated[int, Field(ge=10, le=100)] = 80
    """Of the memory limit of the container (cgroup), where there is one and ``limit_mib`` is unset."""
    spike_limit_mib: Annotated[int, Field(ge=1)] | None = None
    """Senders are refused from so many MiB below the limit on. Unset: a fifth of it."""

    @model_validator(mode="after")
    def _spike_fits(self) -> Self:
        if self.limit_mib is not None and self.spike_limit_mib is not None and self.spike_limit_mib >= self.limit_mib:
            raise ValueError("spike_limit_mib must be smaller than limit_mib")
        return self

    def soft_limit_bytes(self, container_bytes: int | None) -> int | None:
        """From where on senders are refused; None is never. ``container_bytes`` is the limit of the container."""
        if self.limit_mib is not None:
            limit = self.limit_mib * _MIB
        elif container_bytes is not None:
            limit = container_bytes * self.limit_percentage // 100
        else:
            return None
        spike = limit // 5 if self.spike_limit_mib is None else self.spike_limit_mib * _MIB
        return max(limit - spike, 0)


class MemoryGuard:
    """An async context manager that looks once a second.

    It refuses only while queues hold something: where they are empty, waiting frees nothing.
    """

    def __init__(
        self,
        soft_limit_bytes: int | None,
        held_bytes: Callable[[], int],
        *,
        resident_bytes: Callable[[], int] | None = None,
        check_s: float = _CHECK_S,
    ) -> None:
        """Refuse above ``soft_limit_bytes`` (None: never); ``held_bytes`` tells what all queues hold."""
        self._soft = soft_limit_bytes
        self._held_bytes = held_bytes
        self._resident_bytes = resident_bytes or resident
        self._check_s = check_s
        self._room = asyncio.Event()
        self._room.set()
        self._above = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Begin to look."""
        if self._soft is not None:
            self._task = asyncio.create_task(self._watch(self._soft), name="memory guard")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop; nobody waits any more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._room.set()

    @property
    def refusing(self) -> bool:
        """Whether senders are refused now."""
        return not self._room.is_set()

    def check(self) -> None:
        """Raise ``TryLater`` while senders are refused."""
        if self.refusing:
            raise TryLater("memory is short here", _RETRY_AFTER_S)

    async def room(self) -> None:
        """Wait while senders are refused."""
        await self._room.wait()

    async def _watch(self, soft: int) -> None:
        loop = asyncio.get_running_loop()
        next_trim_s = 0.0
        while True:
            now_s = loop.time()
            size = self._resident_bytes()
            if size > soft and (self.refusing or now_s >= next_trim_s):
                await asyncio.to_thread(trim)
                next_trim_s = now_s + _TRIM_S
                size = self._resident_bytes()
            self._judge(size, soft)
            await asyncio.sleep(self._check_s)

    def _judge(self, size: int, soft: int) -> None:
        above, held = size > soft, self._held_bytes()
        figures = f"{size // _MIB} MiB resident, {soft // _MIB} MiB allowed, {held // _MIB} MiB queued"
        if above and held and not self.refusing:
            self._room.clear()
            _log.warning("Memory is short: senders are refused (%s)", figures)
        elif self.refusing and not (above and held):
            self._room.set()
            _log.info("Memory is no longer short: senders are let in (%s)", figures)
        if above and not held and not self._above:
            _log.warning("More memory is used than allowed, but nothing is queued; raise limit_mib (%s)", figures)
        self._above = above and not held


def resident() -> int:
    """Resident bytes of this process (proc(5), ``/proc/self/statm``)."""
    with Path("/proc/self/statm").open("rb", buffering=0) as statm:
        return int(statm.read(128).split()[1]) * _PAGE_BYTES


def trim() -> None:
    """Give freed memory back to the system: glibc keeps it otherwise. Does nothing with another C library."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def container_limit(cgroup: Path = Path("/sys/fs/cgroup"), proc: Path = Path("/proc")) -> int | None:
    """The memory limit of this process's cgroup in bytes, that of a parent included; None without one."""
    limits: list[int] = []
    for line in _lines(proc / "self/cgroup"):
        number, controllers, path = line.split(":", 2)
        if number == "0":
            root, name = cgroup, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = cgroup / "memory", "memory.limit_in_bytes"
        else:
            continue
        inside = Path(path.lstrip("/"))
        for folder in (root / inside, *(root / parent for parent in inside.parents), root):
            limits += (int(text) for text in _lines(folder / name)[:1] if text.isdigit())
    return min((limit for limit in limits if limit < _UNLIMITED), default=None)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
