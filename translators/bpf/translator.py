"""The translator of the ``bpf`` source: kernel records to OTLP, and what execs say remembered for their exits."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from translators import event, spans, wire
from translators.batch import Batch, Part, Rejection, Signal, Translation
from translators.bpf import exec as exec_records
from translators.bpf import exit as exit_records
from translators.bpf.lives import Lives
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
    from translators.lineage import Placement
    from translators.redact import Redactor

BOOT_ID = "boot_id"
HOST_NAME = "host_name"
"""Labels of an Origin: what the bpf process said in its hello."""

_REPLACED_BY = wire.Key("otelbee.process.replaced_by")

_PROGRAMS = 16_384
_PROGRAMS_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class Options:
    """What the user chose."""

    resource: ResourceOptions = field(default_factory=ResourceOptions)
    redactor: Redactor | None = None
    """None leaves arguments as they are."""
    process_spans: bool | spans.Selection = False
    """Whether processes become spans: none, all, or a selection."""


class _Started(NamedTuple):
    """What is kept of the last exec of a process until its exit."""

    exec_count: int
    program: Command
    parent_pid: int | None
    parent: Identity | None
    life: _Life | None
    """None where it has no span."""


class _Life(NamedTuple):
    """What the span of an image needs when another one replaces it."""

    placement: Placement
    began_ns: int
    """CLOCK_MONOTONIC: of the fork, and of its exec where an image replaced another."""
    name: str
    said: bytes
    """The attributes of its exec."""
    place: Place


class _Call:
    """What one call of ``translate`` has made so far, by Resource."""

    def __init__(self) -> None:
        self.logs: dict[bytes, list[bytes]] = {}
        self.spans: dict[bytes, list[bytes]] = {}
        self.newest_ns = 0
        self.excluded = 0


class _Running:
    """The programs of running processes, by start and pid; the longest running are forgotten first."""

    def __init__(self) -> None:
        self._started: OrderedDict[tuple[int, int], _Started] = OrderedDict()
        self._size = 0

    def find(self, identity: Identity, pid: int) -> _Started | None:
        """Return the last exec of a process."""
        return self._started.get((identity.start_ns, pid))

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
    said = len(started.life.said) if started.life is not None else 0
    return len(started.program.attributes) + len(started.program.line) + said


class Translator:
    """Translates records of kind ``exec`` and ``exit``; see :class:`translators.batch.Translator`."""

    blocking: ClassVar[bool] = False

    def __init__(self, options: Options) -> None:
        """Start with no process known."""
        self._options = options
        self._running = _Running()
        self._lives = Lives(options.process_spans) if options.process_spans else None
        self._resources: dict[tuple[Place, str], bytes] = {}
        self._scope = event.scope({})

    def translate(self, kind: str, records: Sequence[bytes], origin: Origin, now_ns: int) -> Translation:
        """Translate records; their times are CLOCK_MONOTONIC, which ``origin.clock_offset_ns`` turns into Unix time."""
        context = Context(origin.labels.get(BOOT_ID, ""), origin.clock_offset_ns, self._options.redactor)
        call = _Call()
        rejected: list[Rejection] = []
        for index, data in enumerate(records):
            try:
                record = self._read(kind, data)
            except MalformedError as error:
                rejected.append(Rejection(index, "malformed", f"{kind}: {error}"))
                continue
            if isinstance(record, exec_records.Exec):
                self._exec(record, context, origin, now_ns, call)
            else:
                self._exit(record, context, origin, now_ns, call)
        counts = {"excluded_self": call.excluded} if call.excluded else {}
        if self._options.redactor is not None and (redacted := sum(self._options.redactor.take_counts().values())):
            counts["redacted"] = redacted
        items = sum(map(len, call.logs.values()))
        if not items:
            return Translation((), tuple(rejected), counts)
        data = b"".join(event.resource_logs(resource, self._scope, logs) for resource, logs in call.logs.items())
        logs = Batch(Signal.LOGS, items, data, (Part("", items, call.newest_ns),))
        derived = (spans.batch(call.spans.items(), self._scope, call.newest_ns),) if call.spans else ()
        return Translation((logs,), tuple(rejected), counts, derived)

    def _read(self, kind: str, data: bytes) -> Exec | Exit:
        if kind == "exec":
            return exec_records.read(data)
        if kind == "exit":
            return exit_records.read(data)
        raise MalformedError(f"there is no program {kind!r}")

    def _exec(self, record: Exec, context: Context, origin: Origin, now_ns: int, call: _Call) -> None:
        place = place_of(record.cgroup)
        excluded = _is_excluded(record.pid, place, origin.exclude)
        program = exec_records.command(record, context)
        said = exec_records.attributes(record, program, context)
        before = self._running.find(record.identity, record.pid) if record.identity is not None else None
        life = self._begin(record, before, said, context, excluded=excluded)
        if record.identity is not None:
            started = _Started(record.identity.exec_count, program, record.parent_pid, record.parent, life)
            self._running.start(record.identity, record.pid, started)
        if excluded:
            call.excluded += 1
            return
        trace = spans.context(life.placement) if life is not None else b""
        log_record = exec_records.log_record(record, program, said + trace, context, now_ns)
        self._add(call.logs, place, origin, log_record)
        call.newest_ns = max(call.newest_ns, context.wall_ns(record.time_ns))
        if before is not None and before.life is not None and record.identity is not None:
            by = _REPLACED_BY.text(record.identity.text(context.boot_id, record.pid))
            ended = _ended(before.life, context, record.time_ns, before.life.said + by)
            self._add(call.spans, before.life.place, origin, spans.span(before.life.placement, ended))

    def _begin(
        self, record: Exec, before: _Started | None, said: bytes, context: Context, *, excluded: bool
    ) -> _Life | None:
        """Place the image that an exec starts; ``before`` is the last exec of the same process."""
        if self._lives is None or record.identity is None:
            return None
        place = place_of(record.cgroup)
        replaced = record.identity._replace(exec_count=before.exec_count) if before is not None else None
        placement = self._lives.executed(record, replaced, place, context, excluded=excluded)
        if placement is None:
            return None
        name = context.text(record.path).rpartition("/")[2]
        began_ns = record.identity.start_ns if before is None else record.time_ns
        return _Life(placement, began_ns, name, said, place)

    def _exit(self, record: Exit, context: Context, origin: Origin, now_ns: int, call: _Call) -> None:
        """Translate an exit. It tells the program and the parent of the exec that it ends."""
        place = place_of(record.cgroup)
        excluded = _is_excluded(record.pid, place, origin.exclude)
        started = self._running.end(record.identity, record.pid) if record.identity is not None else None
        life = started.life if started is not None else self._found(record, place, context, excluded=excluded)
        program = None
        if started is not None:
            program = started.program
            if started.parent_pid is not None:
                record = record._replace(parent_pid=started.parent_pid, parent=started.parent)
        if excluded:
            call.excluded += 1
            return
        said = exit_records.attributes(record, program, context)
        trace = spans.context(life.placement) if life is not None else b""
        log_record = exit_records.log_record(record, program, said + trace, context, now_ns)
        self._add(call.logs, place, origin, log_record)
        call.newest_ns = max(call.newest_ns, context.wall_ns(record.time_ns))
        if life is not None:
            ending = exit_records.ending_of(record.status)
            ended = _ended(life, context, record.time_ns, said)
            ended = ended._replace(failed=ending.failed or bool(ending.signal), reason=ending.signal)
            self._add(call.spans, place, origin, spans.span(life.placement, ended))

    def _found(self, record: Exit, place: Place, context: Context, *, excluded: bool) -> _Life | None:
        """Place a process whose exec was not seen when it ends."""
        if self._lives is None or record.identity is None:
            return None
        placement = self._lives.ended(record, place, context, excluded=excluded)
        if placement is None:
            return None
        return _Life(placement, record.identity.start_ns, context.text(record.comm or b""), b"", place)

    def _add(self, to: dict[bytes, list[bytes]], place: Place, origin: Origin, encoded: bytes) -> None:
        to.setdefault(self._resource(place, origin), []).append(encoded)

    def _resource(self, place: Place, origin: Origin) -> bytes:
        host_name = origin.labels.get(HOST_NAME, "")
        resource = self._resources.get((place, host_name))
        if resource is None:
            if len(self._resources) >= _PROGRAMS:
                self._resources.clear()
            resource = build(place.observed(host_name), self._options.resource)
            self._resources[place, host_name] = resource
        return resource


def _ended(life: _Life, context: Context, time_ns: int, said: bytes) -> spans.Ended:
    return spans.Ended(life.name, context.wall_ns(life.began_ns), context.wall_ns(time_ns), said)


def _is_excluded(pid: int, place: Place, exclude: Exclude) -> bool:
    return pid in exclude.pids or place.container_id in exclude.container_ids or place.pod_uid in exclude.pod_uids
