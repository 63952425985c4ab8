"""OTLP as text for people, in the manner of the Collector's debug exporter."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from translators.batch import Signal
from translators.otlp import parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from translators.batch import Batch


class _Words(NamedTuple):
    title: str
    resources: str
    scopes: str
    records: str
    items: str
    heading: str


_WORDS: Final[Mapping[Signal, _Words]] = {
    Signal.LOGS: _Words("Logs", "resource_logs", "scope_logs", "log_records", "log records", "Log"),
    Signal.TRACES: _Words("Traces", "resource_spans", "scope_spans", "spans", "spans", "Span"),
    Signal.METRICS: _Words("Metrics", "resource_metrics", "scope_metrics", "metrics", "data points", "Metric"),
    Signal.PROFILES: _Words("Profiles", "resource_profiles", "scope_profiles", "profiles", "samples", "Profile"),
}
# What a process wrote may hold escape sequences; on a terminal they would act, and a line break would forge a line.
_CONTROLS: Final = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))} | {9: "\\t", 10: "\\n"}
_NS_PER_S: Final = 1_000_000_000


def basic(batch: Batch) -> str:
    """One line: the signal and how many items."""
    words = _WORDS[batch.signal]
    return f"{words.title}: {batch.items} {words.items}, {len(batch.data)} bytes\n"


def normal(batch: Batch) -> str:
    """A line per resource, scope and record."""
    return "".join(f"{line}\n" for line in _lines(batch, _one_line))


def detailed(batch: Batch) -> str:
    """Every field of every record on a line of its own."""
    return "".join(f"{line}\n" for line in _lines(batch, _tree))


def _lines(batch: Batch, record_lines: Any) -> Iterator[str]:
    words = _WORDS[batch.signal]
    for i, resource in enumerate(getattr(parse(batch.signal, batch.data), words.resources)):
        details = [f"[{resource.schema_url}]" if resource.schema_url else "", *_pairs(resource.resource.attributes)]
        yield _joined(f"Resource{words.heading} #{i}", details)
        for j, scope in enumerate(getattr(resource, words.scopes)):
            name = scope.scope.name + (f"@{scope.scope.version}" if scope.scope.version else "")
            details = [name, f"[{scope.schema_url}]" if scope.schema_url else "", *_pairs(scope.scope.attributes)]
            yield _joined(f"Scope{words.heading} #{j}", details)
            for k, record in enumerate(getattr(scope, words.records)):
                yield from record_lines(batch.signal, k, record)


def _one_line(signal: Signal, _: int, record: Any) -> Iterator[str]:
    if signal is Signal.LOGS:
        yield _joined(_printable(text(record.body)), _pairs(record.attributes))
    elif signal is Signal.TRACES:
        identity = f"{_printable(record.name)} {record.trace_id.hex()} {record.span_id.hex()}"
        yield _joined(identity, _pairs(record.attributes))
    elif signal is Signal.METRICS:
        kind = record.WhichOneof("data")
        for point in getattr(record, kind).data_points if kind else ():
            yield f"{_printable(record.name)}{{{','.join(_pairs(point.attributes))}}} {_point_value(point)}"
    else:
        yield f"{record.profile_id.hex()} samples={len(record.samples)}"


def _point_value(point: Any) -> str:
    if hasattr(point, "as_int"):
        return str(getattr(point, point.WhichOneof("value") or "as_int"))
    return f"count={point.count} sum={point.sum:g}"


def _tree(signal: Signal, index: int, record: Any) -> Iterator[str]:
    yield f"{'LogRecord' if signal is Signal.LOGS else _WORDS[signal].heading} #{index}"
    yield from _field_lines(record, "    ")


def _field_lines(message: Any, indent: str) -> Iterator[str]:
    for field, value in sorted(message.ListFields(), key=lambda item: item[0].index):
        kind = field.message_type.name if field.message_type is not None else ""
        if kind == "KeyValue" and field.is_repeated:
            yield f"{indent}{field.name}:"
            yield from (f"{indent}     -> {_printable(pair.key)}: {_typed(pair.value)}" for pair in value)
        elif kind == "AnyValue" and not field.is_repeated:
            yield f"{indent}{field.name}: {_typed(value)}"
        elif kind:
            for position, one in enumerate(value if field.is_repeated else (value,)):
                yield f"{indent}{field.name} #{position}" if field.is_repeated else f"{indent}{field.name}"
                yield from _field_lines(one, indent + "    ")
        else:
            yield f"{indent}{field.name}: {_scalar(field, value)}"


def _scalar(field: Any, value: Any) -> str:
    if field.is_repeated:
        return str(list(value))
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return f"{known.name}({value})" if known else str(value)
    if isinstance(value, bytes):
        return value.hex()
    if field.name.endswith("time_unix_nano") and value < 1 << 63:
        time = datetime.fromtimestamp(value // _NS_PER_S, UTC)
        return f"{time:%Y-%m-%d %H:%M:%S}.{value % _NS_PER_S:09d} UTC"
    return _printable(str(value))


def text(value: Any) -> str:
    """An AnyValue as the Collector writes it in one line: strings bare, lists and maps as JSON."""
    plain = _plain(value)
    if isinstance(plain, str):
        return plain
    return "" if plain is None else json.dumps(plain, ensure_ascii=False, separators=(",", ":"))


def _plain(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    content = getattr(value, kind)
    if kind == "array_value":
        return [_plain(one) for one in content.values]
    if kind == "kvlist_value":
        return {pair.key: _plain(pair.value) for pair in content.values}
    return base64.b64encode(content).decode() if kind == "bytes_value" else content


_TYPES: Final = {
    "string_value": "Str",
    "bool_value": "Bool",
    "int_value": "Int",
    "double_value": "Double",
    "array_value": "Slice",
    "kvlist_value": "Map",
    "bytes_value": "Bytes",
}


def _typed(value: Any) -> str:
    return f"{_TYPES.get(value.WhichOneof('value'), 'Empty')}({_printable(text(value))})"


def _pairs(attributes: Any) -> list[str]:
    return [_printable(f"{pair.key}={text(pair.value)}") for pair in attributes]


def _joined(first: str, details: Iterable[str]) -> str:
    return " ".join([first, *(detail for detail in details if detail)])


def _printable(value: str) -> str:
    return value.translate(_CONTROLS)
