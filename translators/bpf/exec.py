"""``exec_record`` of bpf/programs/records.h to ``otelbee.process.exec``."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from translators import attributes as key
from translators import wire
from translators.bpf import process
from translators.bpf.records import (
    HAS_ARGS,
    HAS_EUID,
    HAS_IDENTITY,
    HAS_PARENT_IDENTITY,
    HAS_PARENT_PID,
    HEADER_FORMAT,
    IDENTITY_FORMAT,
    Cgroup,
    Identity,
    MalformedError,
    cut,
)

if TYPE_CHECKING:
    from translators.bpf.process import Context

EVENT_NAME = "otelbee.process.exec"

_FIXED = struct.Struct(HEADER_FORMAT + 2 * IDENTITY_FORMAT + "6I6H4x")

_EXECUTABLE_PATH = wire.Key(key.PROCESS_EXECUTABLE_PATH)
_EXECUTABLE_NAME = wire.Key(key.PROCESS_EXECUTABLE_NAME)
_COMMAND = wire.Key("process.command")
_COMMAND_ARGS = wire.Key(key.PROCESS_COMMAND_ARGS)
_ARGS_TRUNCATED = wire.Key("otelbee.process.args_truncated")
_ARGS_SIZE = wire.Key("otelbee.process.args_size")
_ARGS_ESCAPED = wire.Key("otelbee.process.args_escaped")
_OLD_THREAD_ID = wire.Key("otelbee.process.old_thread_id")


class Exec(NamedTuple):
    """A decoded record; None where the kernel did not tell."""

    time_ns: int
    identity: Identity | None
    parent: Identity | None
    pid: int
    parent_pid: int | None
    uid: int
    euid: int | None
    old_thread_id: int
    args_size: int
    """Bytes that the process was given; more than are in ``args`` where they were cut."""
    path: bytes
    cgroup: Cgroup
    parent_cgroup: Cgroup
    args: bytes | None
    """NUL-terminated strings, one after the other; the last one may be cut."""


class Command(NamedTuple):
    """What an exec says of the program that it started, which its exit repeats."""

    attributes: bytes
    line: str
    """Path and arguments, for people."""


def read(data: bytes) -> Exec:
    """Decode a record. Raises MalformedError."""
    try:
        _, _, has, time_ns, *numbers = _FIXED.unpack_from(data)
    except struct.error as error:
        raise MalformedError(f"it has {len(data)} bytes, an exec record at least {_FIXED.size}") from error
    start_ns, execs, parent_start_ns, parent_execs, pid, parent_pid, uid, euid, thread_id, args_size = numbers[:10]
    path_length, args_length, *name_lengths = numbers[10:]
    path, name, above, parent_name, parent_above, args = cut(
        data, _FIXED.size, (path_length, *name_lengths, args_length)
    )
    if has & HAS_ARGS and len(args) > args_size:
        raise MalformedError(f"it holds {len(args)} bytes of arguments out of {args_size}")
    return Exec(
        time_ns,
        Identity(start_ns, execs) if has & HAS_IDENTITY else None,
        Identity(parent_start_ns, parent_execs) if has & HAS_PARENT_IDENTITY else None,
        pid,
        parent_pid if has & HAS_PARENT_PID else None,
        uid,
        euid if has & HAS_EUID else None,
        thread_id,
        args_size,
        path,
        Cgroup(name, above),
        Cgroup(parent_name, parent_above),
        args if has & HAS_ARGS else None,
    )


def command(record: Exec, context: Context) -> Command:
    """Encode path and arguments, redacted."""
    path = context.text(record.path)
    parts = [_EXECUTABLE_PATH.text(path), _EXECUTABLE_NAME.text(path.rpartition("/")[2] or path)] if path else []
    args: list[str] = []
    if record.args is not None:
        raw = record.args.removesuffix(b"\0").split(b"\0") if record.args else []
        args = [process.decoded(item) for item in raw]
        if context.redactor is not None:
            args = context.redactor.argv(args)
        if args:
            parts += [_COMMAND.text(args[0]), _COMMAND_ARGS.texts(args)]
        if record.args_size > len(record.args):
            parts += [_ARGS_TRUNCATED.true, _ARGS_SIZE.integer(record.args_size)]
        if not _is_utf8(record.args):
            parts.append(_ARGS_ESCAPED.true)
    line = " ".join(process.shown(text) for text in (path, *args[1:]))
    return Command(b"".join(parts), line)


def attributes(record: Exec, program: Command, context: Context) -> bytes:
    """Encode what an exec says of the process."""
    parts = [
        *process.whose(record.pid, record.parent_pid, record.uid, record.euid),
        program.attributes,
        *process.exec_id(record.identity, record.pid, context),
        *parentage(record, context),
        *process.cgroup_names(record.cgroup),
        *process.parent_cgroup_names(record.parent_cgroup, record.cgroup),
    ]
    if record.identity is not None:
        parts.append(process.CREATION_TIME.text(context.instant(record.identity.start_ns)))
    if record.old_thread_id != record.pid:
        parts.append(_OLD_THREAD_ID.integer(record.old_thread_id))
    return b"".join(parts)


def log_record(record: Exec, program: Command, said: bytes, context: Context, now_ns: int) -> bytes:
    """Encode the log record of an exec; ``said`` are its attributes, and its span's ids."""
    return process.log_record(
        EVENT_NAME,
        context.wall_ns(record.time_ns),
        now_ns,
        severity=process.INFO,
        body=f"exec {program.line}",
        said=said,
    )


def parentage(record: Exec, context: Context) -> list[bytes]:
    """Encode the parent's identity."""
    if record.parent_pid is None:
        return []
    return process.exec_id(record.parent, record.parent_pid, context, process.PARENT_EXEC_ID)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        # A character that the cut went through is no surprise: only what stands before the end counts.
        return error.reason == "unexpected end of data"
    return True
