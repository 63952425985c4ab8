"""``exit_record`` of bpf/programs/records.h to ``otelbee.process.exit``."""

from __future__ import annotations

import signal
import struct
from typing import TYPE_CHECKING, NamedTuple

from translators import attributes as key
from translators import wire
from translators.bpf import process
from translators.bpf.records import (
    HAS_COMM,
    HAS_EUID,
    HAS_IDENTITY,
    HAS_PARENT_IDENTITY,
    HAS_PARENT_PID,
    HAS_STATUS,
    HEADER_FORMAT,
    IDENTITY_FORMAT,
    Cgroup,
    Identity,
    MalformedError,
    cut,
)

if TYPE_CHECKING:
    from translators.bpf.exec import Command
    from translators.bpf.process import Context

EVENT_NAME = "otelbee.process.exit"

_FIXED = struct.Struct(HEADER_FORMAT + 2 * IDENTITY_FORMAT + "5I2H16s")

_EXIT_CODE = wire.Key(key.PROCESS_EXIT_CODE)
_EXIT_TIME = wire.Key(key.PROCESS_EXIT_TIME)
_EXIT_SIGNAL = wire.Key("otelbee.process.exit.signal")
_CORE_DUMPED = wire.Key("otelbee.process.exit.core_dumped")
_DURATION_NS = wire.Key("otelbee.process.duration_ns")
_COMM = wire.Key("otelbee.process.comm")
_ERROR_TYPE = wire.Key("error.type")

_CRASHES = frozenset(("SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE", "SIGSYS"))
_SIGRTMIN = 34
"""As C libraries count: they keep the kernel's first two real-time signals to themselves."""


class Exit(NamedTuple):
    """A decoded record; None where the kernel did not tell."""

    time_ns: int
    identity: Identity | None
    parent: Identity | None
    """Of the process that forked this one."""
    pid: int
    parent_pid: int | None
    uid: int
    euid: int | None
    status: int | None
    """As wait(2) tells it."""
    comm: bytes | None
    cgroup: Cgroup


class Ending(NamedTuple):
    """How a process ended."""

    severity: int
    outcome: str
    """Signal or exit code, for people."""
    attributes: list[bytes]
    signal: str = ""
    failed: bool = False
    """Whether the exit code was another than 0."""


def read(data: bytes) -> Exit:
    """Decode a record. Raises MalformedError."""
    try:
        _, _, has, time_ns, *numbers, name_length, above_length, comm = _FIXED.unpack_from(data)
    except struct.error as error:
        raise MalformedError(f"it has {len(data)} bytes, an exit record at least {_FIXED.size}") from error
    start_ns, execs, parent_start_ns, parent_execs, pid, parent_pid, uid, euid, status = numbers
    name, above = cut(data, _FIXED.size, (name_length, above_length))
    return Exit(
        time_ns,
        Identity(start_ns, execs) if has & HAS_IDENTITY else None,
        Identity(parent_start_ns, parent_execs) if has & HAS_PARENT_IDENTITY else None,
        pid,
        parent_pid if has & HAS_PARENT_PID else None,
        uid,
        euid if has & HAS_EUID else None,
        status if has & HAS_STATUS else None,
        comm.partition(b"\0")[0] if has & HAS_COMM else None,
        Cgroup(name, above),
    )


def signal_name(number: int) -> str:
    """Name a signal as ``kill -l`` does."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - _SIGRTMIN}" if number > _SIGRTMIN else f"SIG{number}"


def attributes(record: Exit, program: Command | None, context: Context) -> bytes:
    """Encode what an exit says; ``program`` is what the process's last exec said, where it was seen."""
    parts = process.whose(record.pid, record.parent_pid, record.uid, record.euid)
    if program is not None:
        parts.append(program.attributes)
    if record.comm:
        parts.append(_COMM.text(context.text(record.comm)))
    parts += process.exec_id(record.identity, record.pid, context)
    if record.parent_pid is not None:
        parts += process.exec_id(record.parent, record.parent_pid, context, process.PARENT_EXEC_ID)
    parts += process.cgroup_names(record.cgroup)
    if record.identity is not None:
        parts.append(process.CREATION_TIME.text(context.instant(record.identity.start_ns)))
        parts.append(_DURATION_NS.integer(max(0, record.time_ns - record.identity.start_ns)))
    parts.append(_EXIT_TIME.text(context.instant(record.time_ns)))
    return b"".join(parts + ending_of(record.status).attributes)


def log_record(record: Exit, program: Command | None, said: bytes, context: Context, now_ns: int) -> bytes:
    """Encode the log record of an exit; ``said`` are its attributes, and its span's ids."""
    ending = ending_of(record.status)
    name = program.line if program is not None else process.shown(context.text(record.comm or b""))
    return process.log_record(
        EVENT_NAME,
        context.wall_ns(record.time_ns),
        now_ns,
        severity=ending.severity,
        body=f"exit {name} {ending.outcome}".rstrip(),
        said=said,
    )


def ending_of(status: int | None) -> Ending:
    """Say what a wait(2) status means."""
    if status is None:
        return Ending(process.INFO, "", [])
    if number := status & 0x7F:
        name = signal_name(number)
        parts = [_EXIT_SIGNAL.text(name), _ERROR_TYPE.text(name)]
        if status & 0x80:
            parts.append(_CORE_DUMPED.true)
        severity = process.WARN if name in _CRASHES else process.INFO2 if name == "SIGKILL" else process.INFO
        return Ending(severity, name, parts, signal=name)
    code = status >> 8 & 0xFF
    parts = [_EXIT_CODE.integer(code)]
    if code:
        parts.append(_ERROR_TYPE.text(str(code)))
    return Ending(process.INFO, str(code), parts, failed=code != 0)
