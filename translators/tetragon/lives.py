"""Processes of Tetragon's events as spans: what the rules of lineage need to know of each, and when one is over."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any, NamedTuple

from translators import lineage, spans, wire
from translators.pb import tetragon_lazy_pb2 as lazy
from translators.tetragon import names

if TYPE_CHECKING:
    from translators.tetragon.kinds import Kind
    from translators.tetragon.options import Options
    from translators.tetragon.process import Process, Processes
    from translators.tetragon.redaction import Redaction

_REPLACED_BY = wire.Key("tetragon.process.replaced_by")
_PROCFS_TICK_NS = 10_000_000
"""The agent reads the start of what it finds in /proc in clock ticks; a process seen live starts at no such round time
but once in ten million."""
_UNKNOWN_PID = 1 << 32
"""No process has it."""
_DOCKER = 31
"""Digits of a container id that ``docker`` has; without the Kubernetes API there are no more."""


class ExecId(NamedTuple):
    """What is in an exec_id: standard base64 of ``node:ktime:pid`` (Tetragon, pkg/process/process_id_linux.go)."""

    ktime_ns: int
    """Since boot; 0 where the agent knew nothing of the process but its pid."""
    pid: int

    @property
    def preexisting(self) -> bool:
        """Whether it was found in /proc."""
        return self.ktime_ns > 0 and self.ktime_ns % _PROCFS_TICK_NS == 0


def read_exec_id(exec_id: str) -> ExecId | None:
    """Take an exec_id apart; None where it is no such thing."""
    try:
        _, ktime, pid = base64.b64decode(exec_id, validate=True).rsplit(b":", 2)
        found = ExecId(int(ktime), int(pid))
    except (binascii.Error, ValueError):
        return None
    return found if found.ktime_ns >= 0 and found.pid >= 0 else None


class Lives:
    """Gives processes their place in a trace, and a span when they are over. One per translator with process_spans."""

    def __init__(self, options: Options, processes: Processes, redaction: Redaction) -> None:
        """Start with no process known."""
        self._processes = processes
        self._redaction = redaction
        self._selector = spans.Selector(options.process_spans)
        self._max_bytes = options.max_record_bytes
        self._lineage = lineage.Lineage(self._skeleton)

    def remember(self, data: bytes) -> None:
        """Learn a process from a dump of the agent's cache. Raises DecodeError."""
        process = self._processes.find(data)
        if process.exec_id:
            self._lineage.remember(self._kin(process, ""))

    def place(self, process: Process, parent: Process, kind: Kind, rest: bytes) -> None:
        """Place the process of an event, whose message without its processes is ``rest``. Raises DecodeError."""
        if process.exec_id:
            kin = self._kin(process, parent.exec_id)
            ancestors = self._ancestors(parent, kind, rest)
            if kin.selected:
                process.placement = self._lineage.place(kin, ancestors)
                process.context = spans.context(process.placement)
            else:
                for one in (*ancestors, kin):
                    self._lineage.remember(one)
        process.is_placed = True

    def exited(self, process: Process, rest: bytes, time_ns: int, attributes: bytes) -> bytes | None:
        """Encode the span of a process that ended, at ``time_ns`` if its event does not say; None where it has none."""
        if process.placement is None:
            return None
        message = lazy.ProcessExit.FromString(rest)
        end_ns = names.unix_ns(message.time.seconds, message.time.nanos) if message.HasField("time") else time_ns
        ended = spans.Ended(
            name=self._name(process),
            start_ns=process.start_ns,
            end_ns=end_ns,
            attributes=process.attributes + attributes,
            failed=bool(message.signal or message.status),
            reason=message.signal,
        )
        return spans.span(process.placement, ended, self._max_bytes)

    def replaced(self, process: Process, parent: Process, kind: Kind, rest: bytes, time_ns: int) -> bytes | None:
        """Encode the span of the image that an exec replaced; None where it has none.

        An exec without a fork has that image as its parent, with the same pid; there is no exit event for it.
        """
        if not parent.exec_id or process.procfs or _pid(parent) is None or _pid(parent) != _pid(process):
            return None
        if not parent.completed:
            self._processes.complete(parent)
        if not parent.is_placed:
            self.place(parent, self._processes.absent, kind, rest)
        if parent.placement is None:
            return None
        ended = spans.Ended(
            name=self._name(parent),
            start_ns=parent.start_ns,
            end_ns=process.start_ns or time_ns,
            attributes=parent.attributes + _REPLACED_BY.text(process.exec_id),
        )
        return spans.span(parent.placement, ended, self._max_bytes)

    def _ancestors(self, parent: Process, kind: Kind, rest: bytes) -> list[lineage.Process]:
        message: Any = kind.message.FromString(rest)
        relatives = (parent, *map(self._processes.find, message.ancestors))
        return [self._kin(relative, "") for relative in relatives if relative.exec_id]

    def _kin(self, process: Process, parent_exec_id: str) -> lineage.Process:
        """Say of a process what the rules ask for; field filters may leave little more than its exec_id."""
        if process.kin is not None and (process.kin.parent_identity or not parent_exec_id):
            return process.kin
        known = read_exec_id(process.exec_id)
        pid = _pid(process)
        namespace = process.place.observed.kubernetes.namespace
        process.kin = lineage.Process(
            identity=process.exec_id,
            parent_identity=process.parent_exec_id or parent_exec_id,
            pid=_UNKNOWN_PID if pid is None else pid,
            started_ns=known.ktime_ns if known else 0,
            container=process.place.container_id[:_DOCKER],
            preexisting=process.procfs or (known is not None and known.preexisting),
            kernel=pid == 0,
            selected=self._selector.selects(process.path, namespace) and not self._processes.is_excluded(process),
        )
        return process.kin

    def _skeleton(self, exec_id: str) -> lineage.Process | None:
        """Say what an exec_id alone tells: where there is a selection, only of what is a boundary whoever it selects."""
        known = read_exec_id(exec_id)
        if known is None or known.ktime_ns == 0:
            return None
        if not self._selector.everything and not known.preexisting and known.pid > lineage.KTHREADD_PID:
            return None
        return lineage.Process(
            identity=exec_id,
            parent_identity="",
            pid=known.pid,
            started_ns=known.ktime_ns,
            container=None,
            preexisting=known.preexisting,
            kernel=known.pid == 0,
            selected=self._selector.everything,
        )

    def _name(self, process: Process) -> str:
        return self._redaction.text(process.path.rpartition("/")[2] or process.path)


def _pid(process: Process) -> int | None:
    if process.pid is not None:
        return process.pid
    known = read_exec_id(process.exec_id)
    return None if known is None else known.pid
