"""A source as ``otelbee run`` would run it, until it says how it is; what it reads is not taken."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from receiver import parent
from receiver.doctor.findings import Finding, failure
from receiver.errors import OtelbeeError
from receiver.sources import bpf

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from receiver.fields import Section
    from receiver.types import Outcome, Source
    from translators.batch import Origin

_BTF = Path("/sys/kernel/btf/vmlinux")
_WAIT_S = 8.0
"""Longer than any source takes to say that its peer does not answer."""


class Listening:
    """An intake that takes nothing and keeps the first state."""

    def __init__(self) -> None:
        """Nothing was said yet."""
        self.address: str | None = None
        self.said: tuple[bool, str] | None = None
        self.settled = asyncio.Event()

    def started(self, address: str | None) -> None:
        """Keep where the source listens."""
        self.address = address

    def state(self, up: bool, reason: str) -> None:  # noqa: FBT001 - the seam's own wording
        """Keep the first state."""
        self.said = self.said or (up, reason)
        self.settled.set()

    def backlog(self, waiting_bytes: Callable[[], int], capacity_bytes: int) -> None:
        """Not looked at."""

    async def emit(self, kind: str, records: Sequence[bytes], origin: Origin, *, wait: bool) -> Outcome:
        """Keep the source waiting: what is not taken is not lost."""
        del kind, records, origin, wait
        await asyncio.Event().wait()
        raise AssertionError  # nobody sets it

    def check(self) -> None:
        """Refuse nothing; there is no time for anything to be pushed."""

    def refused(self, reason: str, peer: str) -> None:
        """Not looked at."""

    def count(self, name: str, n: int) -> None:
        """Not looked at."""

    def losses(self, known: Mapping[str, float] | None) -> None:
        """Not looked at."""

    async def event(self, name: str, attributes: Mapping[str, str | int | float | bool]) -> None:
        """Not looked at."""


async def examine(name: str, section: Section, build: Callable[[], Source], *, runs_already: bool) -> Finding:
    """Run one source for a moment; with ``runs_already`` another otelbee may have what it needs."""
    check = f"sources::{name}"
    if isinstance(section, bpf.Config) and parent.why_not() is None:
        return await _bpf(check)
    intake = Listening()
    task = asyncio.create_task(build().run(intake))
    try:
        task.add_done_callback(lambda _: intake.settled.set())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_WAIT_S):
                await intake.settled.wait()
        if intake.said is not None:
            up, reason = intake.said
            if up:
                return Finding(check, "ok", f"listens on {intake.address}" if intake.address else reason or "is up")
            return failure(check, reason)
        if task.done() and (error := task.exception()) is not None:
            finding = failure(check, str(error) if isinstance(error, OtelbeeError) else f"fails: {error!r}")
            if runs_already and "another process" in finding.cause:
                return finding._replace(verdict="note", remedy="nothing to do if that is the otelbee that runs here")
            return finding
        return Finding(check, "note", f"said nothing within {_WAIT_S:g} s", "run it and look at /ready")
    finally:
        task.cancel()
        await asyncio.wait({task})


async def _bpf(check: str) -> Finding:
    """What root's ``otelbee run`` needs to start the bpf process."""
    if shutil.which("setpriv") is None:
        return failure(check, "setpriv is missing, which takes privileges away", "install util-linux")
    asked = await asyncio.create_subprocess_exec(parent.SYSTEM_PYTHON, "-I", "-c", _HAS_BCC)
    if await asked.wait():
        remedy = "install python3-bpfcc (Debian, Ubuntu) or python3-bcc (Fedora)"
        return failure(check, f"{parent.SYSTEM_PYTHON} has no bcc, which compiles the kernel programs", remedy)
    if not await asyncio.to_thread(_BTF.exists):
        return failure(check, f"the kernel has no {_BTF}", "take a kernel that is built with CONFIG_DEBUG_INFO_BTF")
    return Finding(check, "ok", "root starts the bpf process; bcc and the kernel's type information are there")


_HAS_BCC = "import importlib.util, sys; sys.exit(importlib.util.find_spec('bcc') is None)"
