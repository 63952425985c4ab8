"""Tetragon events in, OTLP log records out.

The hot path: an event is read as deep as its kind; the kind's message stays bytes and begins, as the agent's serialiser
writes it, with the process and its parent. Those two and the rest are looked up as bytes in caches of what was made of
them, and the record is joined from the pieces. Messages are only parsed when their bytes are new.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from google.protobuf.message import DecodeError

from translators import attributes as key
from translators import wire
from translators.batch import Batch, Part, Rejection, Signal, Translation
from translators.event import resource_logs, scope
from translators.pb import tetragon_lazy_pb2 as lazy
from translators.pb import tetragon_pb2 as full
from translators.tetragon import names
from translators.tetragon.cache import Cache
from translators.tetragon.field_filters import FieldFilters
from translators.tetragon.hooks import Hooks
from translators.tetragon.json_lines import MalformedLine, encode_line
from translators.tetragon.kinds import EXEC, EXIT, KINDS, LOADER, UNKNOWN, Kind
from translators.tetragon.lifecycle import (
    exec_attributes,
    exec_severity,
    loader_attributes,
    read_exec,
    read_exit,
    read_loader,
)
from translators.tetragon.options import Options
from translators.tetragon.place import Node, resource
from translators.tetragon.process import Process, Processes
from translators.tetragon.redaction import Redaction
from translators.tetragon.splitting import reorder, split
from translators.tetragon.truncation import truncate
from translators.tetragon.without_process import read_rate_limit, read_test, read_throttle, unknown_kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from translators.batch import Origin
    from translators.tetragon.detail import Detail

_UID = wire.Key(key.LOG_RECORD_UID)
_TIME_MISSING = wire.Key("tetragon.time_missing").true
_AGGREGATED = wire.Key("tetragon.aggregation.count")

_DETAILS = 8_192
_DETAIL_BYTES = 32 * 1024 * 1024
_RESOURCES = 4_096
_SHARE = 4


class _Call:
    """What one call of ``translate`` has made so far."""

    __slots__ = ("counts", "groups", "index", "newest_ns", "now_field", "now_ns", "rejected", "resources")

    def __init__(self, now_ns: int) -> None:
        self.now_ns = now_ns
        self.now_field = wire.fixed64_field(11, now_ns)  # LogRecord.observed_time_unix_nano
        self.groups: dict[tuple[Node, bytes], list[bytes]] = {}
        self.resources: dict[tuple[Node, bytes], bytes] = {}
        self.counts: dict[str, int] = {}
        self.rejected: list[Rejection] = []
        self.newest_ns = 0

    def count(self, name: str, number: int = 1) -> None:
        if number:
            self.counts[name] = self.counts.get(name, 0) + number


class _Event(NamedTuple):
    """An event, read as deep as its kind."""

    kind: Kind
    node: Node
    time_ns: int
    """0 where the event has none."""
    extra: bytes
    """Attributes that come from beside the kind's message."""


class Translator:
    """Turns GetEventsResponse messages (kind ``protobuf``) or the agent's JSON lines (``json``) into log records."""

    blocking: ClassVar[bool] = False

    def __init__(self, options: Options | None = None) -> None:
        """Start with empty caches; they hold at most a few tens of thousands of processes and 100 MiB or so."""
        self._options = options or Options()
        self._redaction = Redaction(self._options.redactor)
        self._filters = FieldFilters(self._options.field_filters)
        self._processes = Processes(self._options, self._redaction)
        self._hooks = Hooks(self._options, self._redaction, self._processes)
        self._details: dict[str, Cache[bytes, Detail]] = {name: Cache(_DETAILS, _DETAIL_BYTES // 4) for name in KINDS}
        self._resources: Cache[tuple[Node, bytes], bytes] = Cache(_RESOURCES, _DETAIL_BYTES // 4)

    def translate(self, kind: str, records: Sequence[bytes], origin: Origin, now_ns: int) -> Translation:
        """Translate records that were read at ``now_ns``; see :class:`translators.batch.Translator`."""
        call = _Call(now_ns)
        self._processes.exclude(origin.exclude)
        one = {"protobuf": self._message, "json": self._line}[kind]
        for index, record in enumerate(records):
            try:
                one(record, call)
            except (DecodeError, MalformedLine) as error:
                call.rejected.append(Rejection(index, "malformed", f"record {index}: {error}"))
        call.count("redacted", self._redaction.take_count())
        batches = self._batches(call, origin.peer_version)
        return Translation(batches, tuple(call.rejected), call.counts)

    def _message(self, raw: bytes, call: _Call) -> None:
        self._translate(self._filters.apply(raw) if self._filters else raw, raw, "", call)

    def _line(self, line: bytes, call: _Call) -> None:
        encoded = encode_line(line)
        call.count("unknown_fields", encoded.unknown_fields)
        raw = self._filters.apply(encoded.raw) if self._filters else encoded.raw
        self._translate(raw, line, encoded.kind, call)

    def _translate(self, raw: bytes, source: bytes, unknown_name: str, call: _Call) -> None:
        event = lazy.Event.FromString(raw)
        name = event.WhichOneof("event")
        time = event.time
        time_ns = names.unix_ns(time.seconds, time.nanos)
        labels = event.node_labels
        node = Node(event.node_name, event.cluster_name, tuple(sorted(labels)) if labels else ())
        extra = b""
        if event.aggregation_info:
            extra = _AGGREGATED.integer(full.AggregationInfo.FromString(event.aggregation_info).count)
        if name is None:
            withheld = self._redaction.redactor is not None or bool(self._filters)
            detail = unknown_kind(event, source, unknown_name, withheld=withheld)
            call.count("unknown_kind")
            absent = self._processes.absent
            self._record(_Event(UNKNOWN, node, time_ns, extra), absent, absent, detail, call)
            return
        kind = KINDS[name]
        body: bytes = getattr(event, name)
        process_data, parent_data, rest = split(body, kind)
        process = self._processes.find(process_data)
        detail = self._detail(kind, rest, process)
        if detail.process or detail.parent:
            # Another serialiser, with another order of fields.
            process_data, parent_data, rest = reorder(body, kind)
            process = self._processes.find(process_data)
            detail = self._detail(kind, rest, process)
        if process.excluded:
            call.count("excluded_self")
            return
        if detail.unknown_fields:
            call.count("unknown_fields", detail.unknown_fields)
        parent = self._processes.find(parent_data)
        self._record(_Event(kind, node, time_ns, extra), process, parent, detail, call)

    def _detail(self, kind: Kind, rest: bytes, process: Process) -> Detail:
        if kind is EXIT:  # each carries its own time
            return read_exit(rest, process.start_ns, self._processes)
        cache = self._details[kind.name]
        detail = cache.young.get(rest)
        if detail is None:
            size = _SHARE * len(rest)
            detail = cache.get(rest, size)
            if detail is None:
                detail = self._read(kind, rest)
                cache.put(rest, detail, size)
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

    def _record(self, event: _Event, process: Process, parent: Process, detail: Detail, call: _Call) -> None:
        """Join one record and put it with those of the same Resource."""
        kind, node = event.kind, event.node
        own, severity, text = detail.attributes, detail.severity, process.text
        if kind is EXEC:
            own += exec_attributes(process, parent)
            severity, text = exec_severity(process), process.line
        elif kind is EXIT:
            text = process.line
        elif kind is LOADER:
            own += loader_attributes(detail, process)
        if event.extra:
            own += event.extra
        time_field = event.time_ns.to_bytes(8, "little")
        attributes = [process.attributes, self._processes.parent_of(process, parent), own]
        if self._options.log_record_uid:
            attributes.append(_UID.text(_uid(kind.identity, time_field, node.name.encode(), process.identity, own)))
        if event.time_ns == 0:
            time_field = call.now_ns.to_bytes(8, "little")
            attributes.append(_TIME_MISSING)
        attributes.append(kind.event_type)
        where = process.where or node.name.encode()
        record = b"".join(
            (
                b"\x09",  # time_unix_nano
                time_field,
                severity,
                _body(detail.word, where, text, detail.tail),
                *attributes,
                call.now_field,
                kind.event_name_field,
            )
        )
        if len(record) > self._options.max_record_bytes > 0:
            record = truncate(record, self._options.max_record_bytes)
            call.count("truncated")
        group = (node, process.place.encoded)
        records = call.groups.get(group)
        if records is None:
            records = call.groups[group] = []
            call.resources[group] = self._resource(group, process)
        records.append(b"\x12" + wire.varint(len(record)) + record)  # ScopeLogs.log_records
        call.newest_ns = max(call.newest_ns, event.time_ns)

    def _resource(self, group: tuple[Node, bytes], process: Process) -> bytes:
        encoded = self._resources.get(group, _SHARE * len(group[1]))
        if encoded is None:
            encoded = resource(process.place, group[0], self._options)
            self._resources.put(group, encoded, _SHARE * len(group[1]))
        return encoded

    def _batches(self, call: _Call, version: str) -> tuple[Batch, ...]:
        """Join everything into one batch, a ResourceLogs for each Resource."""
        if not call.groups:
            return ()
        ours = scope({"tetragon.version": version} if version else {})
        items = sum(map(len, call.groups.values()))
        data = b"".join(resource_logs(call.resources[group], ours, records) for group, records in call.groups.items())
        return (Batch(Signal.LOGS, items, data, (Part("", items, call.newest_ns),)),)


def _body(word: bytes, where: bytes, text: bytes, tail: bytes) -> bytes:
    """Encode ``LogRecord.body``, one line for people: kind, where, who, what."""
    line = b" ".join([part for part in (word, where, text) if part]) + tail
    value = b"\x0a" + wire.varint(len(line)) + line
    return b"\x2a" + wire.varint(len(value)) + value


def _uid(*parts: bytes) -> str:
    """Derive an id for a record: a UUID of version 8 (RFC 9562) from what makes the event itself.

    It is made after redaction, so that it tells nothing about what was redacted.
    """
    digest = bytearray(blake2b(b"\0".join(parts), digest_size=16).digest())
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
