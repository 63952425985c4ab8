"""Exec, exit and loader: what they say depends on the processes in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.unknown_fields import UnknownFieldSet

from translators import attributes as key
from translators import wire
from translators.pb import tetragon_lazy_pb2 as lazy
from translators.tetragon import names
from translators.tetragon.cache import Cache
from translators.tetragon.detail import Detail
from translators.tetragon.hooks import ANCESTORS
from translators.tetragon.kinds import EXEC, EXIT, INFO2, INFO3, LOADER, WARN, severity_field
from translators.tetragon.text import printable

if TYPE_CHECKING:
    from translators.tetragon.process import Process, Processes
    from translators.tetragon.redaction import Redaction

_REPLACED = wire.Key("tetragon.process.replaced_exec_id")
_SOURCE = wire.Key("tetragon.process.source")
_PROCFS, _EXECVE = _SOURCE.text("procfs"), _SOURCE.text("execve")
_EXIT_CODE = wire.Key(key.PROCESS_EXIT_CODE)
_EXIT_TIME = wire.Key(key.PROCESS_EXIT_TIME)
_EXIT_SIGNAL = wire.Key("tetragon.process.exit.signal")
_DURATION = wire.Key("tetragon.process.duration_ns")
_LONG_TIME, _SHORT_TIME = b"\x2a\x0c", b"\x2a\x0b"
"""Tag and length of ``ProcessExit.time``: seconds take six bytes until 2106, nanoseconds six, or five below 2**28."""
_read_instant = lazy.Timestamp.FromString
_ERROR_TYPE = wire.Key(key.ERROR_TYPE)
_FILE_PATH = wire.Key(key.FILE_PATH)
_GNU_BUILD_ID = wire.Key(key.PROCESS_EXECUTABLE_BUILD_ID_GNU)
_BUILD_ID = wire.Key("tetragon.loader.build_id")

_CRASHES = frozenset({"SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE", "SIGSYS"})
_INFO = severity_field(EXEC.severity)
_INFO2, _INFO3, _WARN = severity_field(INFO2), severity_field(INFO3), severity_field(WARN)
_DEBUG = severity_field(LOADER.severity)
_OUTCOMES, _OUTCOME_BYTES, _BYTES = 1_024, 1_024, 1 << 20
_EXEC_WORD, _EXIT_WORD, _LOADER_WORD = EXEC.word.encode(), EXIT.word.encode(), LOADER.word.encode()


def _ancestors(message: lazy.ProcessExec | lazy.ProcessExit | lazy.ProcessLoader, processes: Processes) -> bytes:
    if not message.ancestors:
        return b""
    return ANCESTORS.any(wire.any_array(processes.ancestors(message.ancestors)))


def read_exec(data: bytes, processes: Processes) -> Detail:
    """Read the rest of an exec event. Raises DecodeError."""
    message = lazy.ProcessExec.FromString(data)
    unknown = len(UnknownFieldSet(message)) if data else 0
    return Detail(
        attributes=_ancestors(message, processes),
        severity=_INFO,
        word=_EXEC_WORD,
        tail=b"",
        fingerprint=b"",
        process=message.process,
        parent=message.parent,
        unknown_fields=unknown,
    )


def exec_attributes(process: Process, parent: Process) -> bytes:
    """Say how the process came to be: found in /proc, or executed, and then in whose place."""
    if process.procfs:
        return _PROCFS
    # An exec without a fork: the parent is the image that was replaced, and its exec_id never gets an exit event.
    if parent.exec_id and not process.clone and parent.pid == process.pid is not None:
        return _EXECVE + _REPLACED.text(parent.exec_id)
    return _EXECVE


def exec_severity(process: Process) -> bytes:
    """INFO, or INFO3 where the exec raised privileges."""
    return _INFO3 if process.privileged else _INFO


class Exits:
    """Reads the rest of exit events: each has a time of its own, and how processes end repeats."""

    def __init__(self, processes: Processes) -> None:
        """Start with nothing known."""
        self._processes = processes
        self._known: Cache[bytes, Detail] = Cache(_OUTCOMES, _BYTES)

    def read(self, data: bytes, start_ns: int) -> Detail:
        """Read the exit of a process that started at ``start_ns`` (0: unknown). Raises DecodeError."""
        at = len(data) - len(_LONG_TIME) - _LONG_TIME[-1]
        if data[at : at + 2] != _LONG_TIME:
            at += 1
        if at < 0 or data[at : at + 2] not in (_LONG_TIME, _SHORT_TIME):
            return self._parse(data, start_ns)
        outcome = self._known.get(data[:at], at)
        if outcome is None:
            # What only looked like a time was the end of a longer field: what stands before it cannot be read.
            message = lazy.ProcessExit.FromString(data[:at])
            if message.HasField("time"):
                return self._parse(data, start_ns)
            outcome = _outcome(message, self._processes)
            self._known.put(data[:at], outcome, _OUTCOME_BYTES)
        return _timed(outcome, _read_instant(data[at + 2 :]), start_ns)

    def _parse(self, data: bytes, start_ns: int) -> Detail:
        message = lazy.ProcessExit.FromString(data)
        outcome = _outcome(message, self._processes)
        return _timed(outcome, message.time, start_ns) if message.HasField("time") else outcome


def _outcome(message: lazy.ProcessExit, processes: Processes) -> Detail:
    """Read all but the time."""
    signal, status = message.signal, message.status
    parts = [_ancestors(message, processes)] if message.ancestors else []
    severity = _INFO
    if signal:
        # The status of a killed process is 0 and means nothing.
        outcome = signal
        parts.append(_EXIT_SIGNAL.text(signal))
        severity = _WARN if signal in _CRASHES else _INFO2 if signal == "SIGKILL" else _INFO
    else:
        outcome = str(status)
    if status or not signal:
        parts.append(_EXIT_CODE.integer(status))
    if signal or status:
        parts.append(_ERROR_TYPE.text(outcome))
    attributes = b"".join(parts)
    return Detail(
        attributes=attributes,
        fingerprint=attributes,
        severity=severity,
        word=_EXIT_WORD,
        tail=b" " + printable(outcome).encode(),
        process=message.process,
        parent=message.parent,
        unknown_fields=len(UnknownFieldSet(message)),
    )


def _timed(outcome: Detail, end: lazy.Timestamp, start_ns: int) -> Detail:
    """Add when it ended, and how long it ran where that is known."""
    seconds, nanos = end.seconds, end.nanos
    attributes = outcome.attributes + _EXIT_TIME.text(names.instant(seconds, nanos))
    end_ns = names.unix_ns(seconds, nanos)
    if start_ns and end_ns >= start_ns:
        attributes += _DURATION.integer(end_ns - start_ns)
    _, severity, word, tail, _, process, parent, unknown_fields, _ = outcome
    return Detail(attributes, severity, word, tail, attributes, process, parent, unknown_fields)


def read_loader(data: bytes, processes: Processes, redaction: Redaction) -> Detail:
    """Read the rest of a loader event. Raises DecodeError."""
    message = lazy.ProcessLoader.FromString(data)
    parts = [_ancestors(message, processes)]
    path, build_id = redaction.text(message.path), message.buildid.hex()
    if path:
        parts.append(_FILE_PATH.text(path))
    return Detail(
        attributes=b"".join(parts),
        fingerprint=f"{path}\0{build_id}".encode(),
        severity=_DEBUG,
        word=_LOADER_WORD,
        tail="".join(f" {part}" for part in (build_id, printable(path)) if part).encode(),
        process=message.process,
        parent=message.parent,
        unknown_fields=len(UnknownFieldSet(message)),
        mapped=(message.path, _GNU_BUILD_ID.text(build_id), _BUILD_ID.text(build_id)) if build_id else None,
    )


def loader_attributes(detail: Detail, process: Process) -> bytes:
    """Say whose build id it is: the convention's key is only for that of the process's own executable."""
    if detail.mapped is None:
        return b""
    path, own, other = detail.mapped
    return own if path == process.path else other
