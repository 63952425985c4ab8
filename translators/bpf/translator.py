"""The translator of the ``bpf`` source: kernel records to OTLP, and what execs say remembered for their exits."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from translators import event
from translators.batch import Batch, Part, Rejection, Signal, Translation
from translators.bpf import exec as exec_records
from translators.bpf import exit as exit_records
from translators.bpf.place import place_of
from translators.bpf.process import Context
from translators.bpf.records import Identity, MalformedError
from translators.resource import ResourceOptions, build

if TYPE_CHECKING:
    from collections.abc import Sequence

    from translators.batch import Exclude, Origin
    from translators.bpf.exec import Command, Exec
    from translators.bpf.exit import Exit
    from translators.bpf.place import Place
    from translators.redact import Redactor

BOOT_ID = "boot_id"
HOST_NAME = "host_name"
"""Labels of an Origin: what the bpf process said in its hello."""

_PROGRAMS = 16_384
_PROGRAMS_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class Options:
    """What the user chose."""

    resource: ResourceOptions = field(default_factory=ResourceOptions)
    redactor: Redactor | None = None
    """None leaves arguments as they are."""


class _Started(NamedTuple):
    """What is kept of the last exec of a process until its exit."""

    exec_count: int
    program: Command
    parent_pid: int | None
    parent: Identity | None


class _Running:
    """The programs of running processes, by start and pid; the longest running are forgotten first."""

    def __init__(self) -> None:
        self._started: OrderedDict[tuple[int, int], _Started] = OrderedDict()
        self._size = 0

    def start(self, identity: Identity, pid: int, started: _Started) -> None:
        """Remember an exec; it replaces the process's earlier one."""
        self.end(identity, pid)
        self._started[identity.start_ns, pid] = started
        self._size += _size(started)
        while len(self._started) > _PROGRAMS or self._size > _PROGRAMS_BYTES:
            self._size -= _size(self._started.popitem(last=False)[1])

    def end(self, identity: Identity, pid: int) -> _Started | None:
        """Forget a process; return its last exec if that is the image that ``identity`` names."""
        started = self._started.pop((identity.start_ns, pid), None)
        if started is None:
            return None
        self._size -= _size(started)
        return started if started.exec_count == identity.exec_count else None


def _size(started: _Started) -> int:
    return len(started.program.attributes) + len(started.program.line)


class Translator:
    """Translates records of kind ``exec`` and ``exit``; see :class:`translators.batch.Translator`."""

    blocking: ClassVar[bool] = False

    def __init__(self, options: Options) -> None:
        """Start with no process known."""
        self._options = options
        self._running = _Running()
        self._resources: dict[tuple[Place, str], bytes] = {}
        self._scope = event.scope({})

    def translate(self, kind: str, records: Sequence[bytes], origin: Origin, now_ns: int) -> Translation:
        """Translate records; their times are CLOCK_MONOTONIC, which ``origin.clock_offset_ns`` turns into Unix time."""
        context = Context(origin.labels.get(BOOT_ID, ""), origin.clock_offset_ns, self._options.redactor)
        by_resource: dict[bytes, list[bytes]] = {}
        rejected: list[Rejection] = []
        excluded = newest_ns = 0
        for index, data in enumerate(records):
            try:
                record = self._read(kind, data)
            except MalformedError as error:
                rejected.append(Rejection(index, "malformed", f"record {index} ({kind}): {error}"))
                continue
            place = place_of(record.cgroup)
            log_record = self._log_record(record, context, now_ns)
            if _is_excluded(record.pid, place, origin.exclude):
                excluded += 1
                continue
            newest_ns = max(newest_ns, context.wall_ns(record.time_ns))
            by_resource.setdefault(self._resource(place, origin), []).append(log_record)
        counts = {"excluded_self": excluded} if excluded else {}
        if self._options.redactor is not None and (redacted := sum(self._options.redactor.take_counts().values())):
            counts["redacted"] = redacted
        items = sum(map(len, by_resource.values()))
        if not items:
            return Translation((), tuple(rejected), counts)
        data = b"".join(event.resource_logs(resource, self._scope, logs) for resource, logs in by_resource.items())
        return Translation((Batch(Signal.LOGS, items, data, (Part("", items, newest_ns),)),), tuple(rejected), counts)

    def _read(self, kind: str, data: bytes) -> Exec | Exit:
        if kind == "exec":
            return exec_records.read(data)
        if kind == "exit":
            return exit_records.read(data)
        raise MalformedError(f"there is no program {kind!r}")

    def _log_record(self, record: Exec | Exit, context: Context, now_ns: int) -> bytes:
        """Encode a record. An exit tells the program and the parent of the exec that it ends."""
        if isinstance(record, exec_records.Exec):
            program = exec_records.command(record, context)
            if record.identity is not None:
                started = _Started(record.identity.exec_count, program, record.parent_pid, record.parent)
                self._running.start(record.identity, record.pid, started)
            return exec_records.log_record(record, program, context, now_ns)
        started_by = self._running.end(record.identity, record.pid) if record.identity is not None else None
        if started_by is None:
            return exit_records.log_record(record, None, context, now_ns)
        if started_by.parent_pid is not None:
            record = record._replace(parent_pid=started_by.parent_pid, parent=started_by.parent)
        return exit_records.log_record(record, started_by.program, context, now_ns)

    def _resource(self, place: Place, origin: Origin) -> bytes:
        host_name = origin.labels.get(HOST_NAME, "")
        resource = self._resources.get((place, host_name))
        if resource is None:
            if len(self._resources) >= _PROGRAMS:
                self._resources.clear()
            resource = build(place.observed(host_name), self._options.resource)
            self._resources[place, host_name] = resource
        return resource


def _is_excluded(pid: int, place: Place, exclude: Exclude) -> bool:
    return pid in exclude.pids or place.container_id in exclude.container_ids or place.pod_uid in exclude.pod_uids
