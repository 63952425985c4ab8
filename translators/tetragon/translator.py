"""Tetragon events in, OTLP log records out.

The hot path: an event is read as deep as its kind; the kind's message stays bytes and begins, as the agent's serialiser
writes it, with the process and its parent. Those two and the rest are looked up as bytes in caches of what was made of
them, and the record is joined from the pieces. Messages are only parsed when their bytes are new.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from google.protobuf.message import DecodeError

from translators import spans, wire
from translators.batch import Batch, Part, Rejection, Signal, Translation
from translators.event import resource_logs, scope
from translators.pb import tetragon_pb2 as full
from translators.tetragon import names
from translators.tetragon.cache import Cache
from translators.tetragon.doubt import BEFORE_BOOT, FUTURE, plausible_ns
from translators.tetragon.envelope import Envelopes
from translators.tetragon.field_filters import FieldFilters
from translators.tetragon.hooks import Hooks
from translators.tetragon.json_body import json_body
from translators.tetragon.json_lines import MalformedLine, encode_line
from translators.tetragon.json_parts import JsonParts
from translators.tetragon.kinds import EXEC, EXIT, KINDS, LOADER, UNKNOWN, Kind
from translators.tetragon.lifecycle import (
    Exits,
    exec_attributes,
    exec_severity,
    loader_attributes,
    read_exec,
    read_loader,
)
from translators.tetragon.lives import Lives
from translators.tetragon.options import Options
from translators.tetragon.place import resource
from translators.tetragon.process import Process, Processes
from translators.tetragon.record import body_head, record_head, uid
from translators.tetragon.redaction import Redaction
from translators.tetragon.splitting import reorder, split
from translators.tetragon.without_process import read_rate_limit, read_test, read_throttle, unknown_kind
from translators.truncation import truncate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from translators.batch import Origin
    from translators.tetragon.detail import Detail
    from translators.tetragon.envelope import Envelope
    from translators.tetragon.place import Node

_TIME = wire.Key("tetragon.time")
"""Only of an event whose time does not fit into ``time_unix_nano`` (1970 to 2554)."""
_TIME_MISSING = wire.Key("tetragon.time_missing").true
_AGGREGATED = wire.Key("tetragon.aggregation.count")

_DETAILS = 8_192
_RESOURCES = 4_096
_BYTES = 8 * 1024 * 1024
_SHARE = 4
"""A decoded value takes about this many times the bytes that it was read from."""


class _Call:
    """What one call of ``translate`` has made so far."""

    __slots__ = ("counts", "earliest_ns", "groups", "latest_ns", "newest_ns", "now", "now_ns", "rejected", "spans")

    def __init__(self, origin: Origin, now_ns: int) -> None:
        self.now_ns = now_ns
        self.now = now_ns.to_bytes(8, "little")
        self.groups: dict[tuple[Node, bytes], list[bytes]] = {}
        """Records by Resource; the first item is the Resource, then come what stands before a record, and the record."""
        self.spans: dict[tuple[Node, bytes], list[bytes]] = {}
        """Spans in the same way."""
        self.counts: dict[str, int] = {}
        self.rejected: list[Rejection] = []
        self.newest_ns = 0
        self.earliest_ns, self.latest_ns = plausible_ns(origin, now_ns)

    def count(self, name: str, number: int = 1) -> None:
        self.counts[name] = self.counts.get(name, 0) + number

    def doubt(self, time_ns: int, time: bytes) -> tuple[bytes, bytes]:
        """The time of a record whose event has none or an impossible one, and the attribute that says so."""
        if time_ns == 0:
            return self.now, _TIME_MISSING
        if time_ns > self.latest_ns:
            self.count("time_in_future")
            return time, FUTURE
        self.count("time_before_boot")
        return time, BEFORE_BOOT


class Translator:
    """Turns GetEventsResponse messages (kind ``protobuf``) or the agent's JSON lines (``json``) into log records."""

    blocking: ClassVar[bool] = False

    def __init__(self, options: Options | None = None) -> None:
        """Start with empty caches; they hold at most a few tens of thousands of processes and 100 MiB or so."""
        self._options = options or Options()
        self._has_uid = self._options.log_record_uid
        self._max_bytes = self._options.max_record_bytes
        self._json = self._options.body == "json"
        self._redaction = Redaction(self._options.redactor)
        self._filters = FieldFilters(self._options.field_filters)
        self._filtered = bool(self._filters)
        self._processes = Processes(self._options, self._redaction)
        self._exits = Exits(self._processes)
        self._hooks = Hooks(self._options, self._redaction, self._processes)
        self._lives = Lives(self._options, self._processes, self._redaction) if self._options.process_spans else None
        self._details: dict[str, Cache[bytes, Detail]] = {name: Cache(_DETAILS, _BYTES) for name in KINDS}
        self._envelopes = Envelopes()
        self._parts = JsonParts()
        self._resources: Cache[tuple[Node, bytes], bytes] = Cache(_RESOURCES, _BYTES)

    def translate(self, kind: str, records: Sequence[bytes], origin: Origin, now_ns: int) -> Translation:
        """Translate records that were read at ``now_ns``; see :class:`translators.batch.Translator`."""
        call = _Call(origin, now_ns)
        self._processes.exclude(origin.exclude)
        readers: dict[str, Callable[[bytes, _Call], None]] = {
            "protobuf": self._message,
            "json": self._line,
            "processes": self._remember,
        }
        one = readers[kind]
        for index, record in enumerate(records):
            try:
                one(record, call)
            except (DecodeError, MalformedLine) as error:
                call.rejected.append(Rejection(index, "malformed", str(error)))
        if self._processes.unknown_fields:
            call.count("unknown_fields", self._processes.unknown_fields)
            self._processes.unknown_fields = 0
        redacted = self._redaction.take_count()
        if redacted:
            call.count("redacted", redacted)
        batches, derived = self._batches(call, origin.peer_version)
        return Translation(batches, tuple(call.rejected), call.counts, derived)

    def _remember(self, process: bytes, _: _Call) -> None:
        if self._lives is not None:
            self._lives.remember(process)

    def _line(self, line: bytes, call: _Call) -> None:
        # Filters and the JSON body work on whole messages.
        by_parts = not self._filtered and not self._json
        if by_parts and (envelope := self._parts.read(line)) is not None:
            self._event(envelope, b"", b"", call)
            return
        encoded = encode_line(line)
        if encoded.unknown_fields:
            call.count("unknown_fields", encoded.unknown_fields)
        self._message(encoded.raw, call, line, encoded.kind)
        if by_parts:
            self._parts.learn(line, self._envelopes.parse(encoded.raw)[1])

    def _message(self, raw: bytes, call: _Call, source: bytes | None = None, unknown_name: str = "") -> None:
        """Translate one event; ``source`` is what it came as, where that was not ``raw``."""
        if self._filtered:
            source = source or raw
            raw = self._filters.apply(raw)
        own = b""
        envelope = self._envelopes.read(raw)
        if envelope is None:
            envelope, own = self._parse(raw, raw if source is None else source, unknown_name, call)
            if envelope[2] is UNKNOWN:
                return
        body = json_body(raw, self._redaction, self._options.environment) if self._json else b""
        self._event(envelope, own, body, call)

    def _event(self, envelope: Envelope, own: bytes, body: bytes, call: _Call) -> None:
        """Translate an event that was taken apart; ``own`` are attributes of its envelope."""
        node, time_ns, kind, process_data, parent_data, rest = envelope
        aliases = self._processes.aliases.young
        process = aliases.get(process_data) or self._processes.find(process_data)
        detail = self._details[kind.name].young.get(rest) or self._detail(kind, rest, process)
        if detail.process or detail.parent:
            # Another serialiser, with another order of fields.
            process_data, parent_data, rest = reorder(process_data, parent_data, rest, kind)
            process = self._processes.find(process_data)
            detail = self._detail(kind, rest, process)
        if not process.completed:
            self._processes.complete(process)
        if process.excluded:
            call.count("excluded_self")
            return
        if detail.unknown_fields:
            call.count("unknown_fields", detail.unknown_fields)
        parent = aliases.get(parent_data) or self._processes.find(parent_data)
        if self._lives is not None:
            self._live((kind, rest), time_ns, node, (process, parent, detail), call)
        self._record((kind, node, time_ns), (process, parent, detail), own, body, call)

    def _parse(self, raw: bytes, source: bytes, unknown_name: str, call: _Call) -> tuple[Envelope, bytes]:
        """Parse an event; its envelope, and attributes of its own. One of an unknown kind is recorded at once."""
        event, node = self._envelopes.parse(raw)
        name = event.WhichOneof("event")
        seconds, nanos = event.time.seconds, event.time.nanos
        time_ns = names.unix_ns(seconds, nanos)
        own = b""
        if event.aggregation_info:
            own += _AGGREGATED.integer(full.AggregationInfo.FromString(event.aggregation_info).count)
        if time_ns != seconds * 1_000_000_000 + nanos:
            own += _TIME.text(names.instant(seconds, nanos))
        if name is None:
            withheld = self._redaction.redactor is not None or self._filtered
            detail = unknown_kind(event, source, unknown_name, withheld=withheld)
            call.count("unknown_kind")
            absent = self._processes.absent
            self._record((UNKNOWN, node, time_ns), (absent, absent, detail), own, b"", call)
            return (node, time_ns, UNKNOWN, b"", b"", b""), b""
        kind = KINDS[name]
        return (node, time_ns, kind, *split(getattr(event, name), kind)), own

    def _detail(self, kind: Kind, rest: bytes, process: Process) -> Detail:
        if kind is EXIT:  # each carries its own time
            return self._exits.read(rest, process.start_ns)
        size = _SHARE * len(rest)
        detail = self._details[kind.name].get(rest, size)
        if detail is None:
            detail = self._read(kind, rest)
            self._details[kind.name].put(rest, detail, size)
        return detail

    def _read(self, kind: Kind, rest: bytes) -> Detail:
        match kind.name:
            case "process_exec":
                return read_exec(rest, self._processes)
            case "process_loader":
                return read_loader(rest, self._processes, self._redaction)
            case "process_throttle":
                return read_throttle(rest)
            case "rate_limit_info":
                return read_rate_limit(rest)
            case "test":
                return read_test(rest)
            case _:
                return self._hooks.read(kind, rest)

    def _record(
        self,
        event: tuple[Kind, Node, int],
        what: tuple[Process, Process, Detail],
        own: bytes,
        line: bytes,
        call: _Call,
    ) -> None:
        """Join one record and put it with those of the same Resource; ``line`` is the body where it is not empty."""
        kind, node, time_ns = event
        process, parent, detail = what
        severity, who = detail.severity, process.who
        if kind is EXIT:
            who = process.who_line
        elif kind is EXEC:
            severity, who, own = exec_severity(process), process.who_line, exec_attributes(process, parent) + own
        elif kind is LOADER:
            own = loader_attributes(detail, process) + own
        time = time_ns.to_bytes(8, "little")
        if self._has_uid:
            own += uid(kind.identity, time, node.identity, process.identity, detail.fingerprint)
        if not call.earliest_ns <= time_ns <= call.latest_ns:
            time, mark = call.doubt(time_ns, time)
            own += mark
        if not line:
            lead = node.lead if kind.parts and not process.placed else b""
            line = detail.word + lead + who + detail.tail
        record = b"".join(
            (
                b"\x09",  # LogRecord.time_unix_nano
                time,
                severity,
                body_head(len(line)),
                line,
                process.attributes if parent is self._processes.absent else self._processes.family(process, parent),
                detail.attributes,
                own,
                kind.event_type,
                process.context,
                b"\x59",  # LogRecord.observed_time_unix_nano
                call.now,
                kind.event_name_field,
            )
        )
        size = len(record)
        if size > self._max_bytes > 0:
            record = truncate(record, self._max_bytes)
            size = len(record)
            call.count("truncated")
        group = (node, process.place.encoded)
        records = call.groups.get(group)
        if records is None:
            records = call.groups[group] = [self._resource(group, process)]
        records.append(record_head(size))
        records.append(record)
        if time_ns > call.newest_ns:  # noqa: PLR1730 - a call for each record
            call.newest_ns = time_ns

    def _resource(self, group: tuple[Node, bytes], process: Process) -> bytes:
        encoded = self._resources.get(group, _SHARE * len(group[1]))
        if encoded is None:
            encoded = resource(process.place, group[0], self._options)
            self._resources.put(group, encoded, _SHARE * len(group[1]))
        return encoded

    def _live(
        self,
        message: tuple[Kind, bytes],
        time_ns: int,
        node: Node,
        what: tuple[Process, Process, Detail],
        call: _Call,
    ) -> None:
        """Place an event's process in its trace, and add the span of what ended with the event."""
        lives = self._lives
        assert lives is not None
        kind, rest = message
        process, parent, detail = what
        if not process.is_placed:
            lives.place(process, parent, kind, rest)
        time_ns = time_ns or call.now_ns
        if kind is EXIT:
            ended, span = process, lives.exited(process, rest, time_ns, detail.attributes)
        elif kind is EXEC:
            ended, span = parent, lives.replaced(process, parent, kind, rest, time_ns)
        else:
            return
        if span is not None:
            group = (node, ended.place.encoded)
            call.spans.setdefault(group, [self._resource(group, ended)]).append(span)

    def _batches(self, call: _Call, version: str) -> tuple[tuple[Batch, ...], tuple[Batch, ...]]:
        """Join the records into one batch and the spans into another, each with a group for each Resource."""
        if not call.groups:
            return (), ()
        ours = scope({"tetragon.version": version} if version else {})
        items = sum(len(records) // 2 for records in call.groups.values())
        data = b"".join(resource_logs(records[0], ours, records[1:]) for records in call.groups.values())
        batches = (Batch(Signal.LOGS, items, data, (Part("", items, call.newest_ns),)),)
        if not call.spans:
            return batches, ()
        return batches, (spans.batch(((own[0], own[1:]) for own in call.spans.values()), ours, call.newest_ns),)
