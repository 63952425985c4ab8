"""Compiles, loads and attaches kernel programs, and reads what they write. The only importer of bcc.

All programs are one BCC module with one buffer: records keep their order across programs (an exit never overtakes its
exec), and the compiler, most of the memory here, runs once.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layout import PROGRAMS, LayoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_FOLDER = Path(__file__).parent
SOURCES = _FOLDER / "programs"
RECORDS = SOURCES / "records.h"
_PERF_BUFFER_PAGES = 64
"""Per CPU, a power of two."""


class LoadError(Exception):
    """The programs cannot run here; the text says why and what to do."""


class Loaded:
    """Attached programs. ``fds`` become readable when there are records; :meth:`consume` then hands them over."""

    def __init__(self, bpf: Any, receive: Callable[[bytes], bool]) -> None:
        """Open the module's buffer; ``receive`` gets each record and returns whether it wants more in this turn."""
        self._bpf = bpf
        self._receive = receive
        table = bpf["records"]
        self._ring = hasattr(table, "open_ring_buffer")
        if self._ring:
            table.open_ring_buffer(self._from_ring)
            self.fds: tuple[int, ...] = (table.map_fd,)  # pollable itself: readable while it holds records
            return
        from bcc.libbcc import lib  # type: ignore[import-not-found]  # noqa: PLC0415 - as in load()

        table.open_perf_buffer(self._from_perf, page_cnt=_PERF_BUFFER_PAGES)
        self.fds = tuple(lib.perf_reader_fd(reader) for reader in bpf.perf_buffers.values())

    def consume(self) -> None:
        """Hand over what the buffer holds; of a ring buffer, no more than ``receive`` wants."""
        if self._ring:
            self._bpf.ring_buffer_consume()
        else:
            # perf_buffer_poll(0) would deliver nothing: whoever polled the fd has taken its wake-up already.
            self._bpf.perf_buffer_consume()

    def lost(self) -> dict[int, int]:
        """Return by program number how many records the buffer had no room for since the start."""
        table = self._bpf["lost"]
        return {program.number: sum(table[table.Key(program.number)]) for program in PROGRAMS.values()}

    def close(self) -> None:
        """Detach the programs and free the buffer."""
        self._bpf.cleanup()

    def _from_ring(self, _context: object, data: int, size: int) -> int:
        # libbpf stops consuming when a callback returns a negative number; what it took counts as consumed.
        return 0 if self._receive(ctypes.string_at(data, size)) else -1

    def _from_perf(self, _cpu: int, data: int, size: int) -> None:
        # A perf sample is padded to 8 bytes; a record begins with its own size.
        record = ctypes.string_at(data, size)
        self._receive(record[: int.from_bytes(record[:4], sys.byteorder)])


def source(programs: Sequence[str]) -> str:
    """Return one translation unit of these programs; BCC rewrites only code in the main file, so they are joined."""
    files = ["task.h", *(PROGRAMS[name].source for name in programs)]
    return "\n".join((SOURCES / file).read_text(encoding="utf-8") for file in files)


def missing_fields(programs: Sequence[str], formats: Mapping[tuple[str, str], Mapping[str, int]]) -> None:
    """Raise LayoutError where a tracepoint lacks a field that a program cannot do without."""
    for name in programs:
        for tracepoint, needed in PROGRAMS[name].tracepoints.items():
            missing = [field for field in needed if field not in formats[tracepoint]]
            if missing:
                raise LayoutError(f"{name}: this kernel's {':'.join(tracepoint)} lacks {', '.join(missing)}")


def load(programs: Sequence[str], flags: Sequence[str], receive: Callable[[bytes], bool]) -> Loaded:
    """Compile, load and attach programs with the flags of :mod:`layout`; raises LoadError."""
    os.environ["BCC_KERNEL_SOURCE"] = str(_FOLDER / "kernel")
    try:
        import bcc  # type: ignore[import-not-found]  # noqa: PLC0415 - 70 MB; belongs to the distribution's Python
    except ImportError as error:
        raise LoadError(
            f"this Python has no bcc ({error}); install the distribution's package (python3-bpfcc on Debian and "
            "Ubuntu, python3-bcc on Fedora) and run with its /usr/bin/python3"
        ) from error
    try:
        bpf = bcc.BPF(text=source(programs), cflags=[f"-I{SOURCES}", *flags])
        return Loaded(bpf, receive)
    except Exception as error:  # bcc raises plain Exception; what the compiler or the verifier said is on stderr
        raise LoadError(
            f"the kernel or the compiler refused the programs: {error}; their own words are above. Needed are uid 0 "
            "with CAP_BPF and CAP_PERFMON (CAP_SYS_ADMIN before Linux 5.8), and lockdown not at 'confidentiality'"
        ) from error
