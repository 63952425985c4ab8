"""What is in an Arrow record of Parca's agent (``reporter/arrow_v2.go``, ``reporter/arrow.go``), and what is wrong with it."""

from __future__ import annotations

import posixpath
from dataclasses import replace
from typing import Any, Final

import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no types
from pyarrow import ipc

from receiver.errors import RecordingError
from receiver.inspection.summary import Mapping, Series, Stack, Summary
from receiver.inspection.text import amount, moment
from translators.parca_arrow import ipc as claims
from translators.profiles import build_id

_VERSION: Final = b"parca_write_schema_version"
_NEEDED: Final = ("value", "sample_type", "sample_unit")
_V1_LABEL: Final = "labels."


def summarise(data: bytes) -> Summary:
    """Summarise the record batches of a stream.

    Raises:
        RecordingError: It is damaged, or nothing of Parca's.
    """
    try:
        claims.check(data)
        table = ipc.open_stream(data).read_all()
        table.validate(full=True)
        return _Record(table).summary
    except (pa.ArrowException, OSError, ValueError, OverflowError, IndexError) as error:
        raise RecordingError(f"the Arrow data is damaged: {str(error)[:200]}") from None


class _Record:
    def __init__(self, table: pa.Table) -> None:
        version = (table.schema.metadata or {}).get(_VERSION, b"").decode(errors="replace")
        self.summary = Summary(f"Arrow record of Parca{f', {version}' if version else ''}")
        self._table = table
        self._nameless = 0
        self._mappings: dict[tuple[str, str], Mapping] = {}
        names = set(table.column_names)
        if "locations" in names and "value" not in names:
            self._stacks_alone()
        elif missing := [name for name in _NEEDED if name not in names]:
            raise RecordingError(f"the Arrow data is no record of Parca's agent: it has no column {', '.join(missing)}")
        else:
            self._samples()
        self.summary.mappings = list(self._mappings.values())
        self.summary.add_common_problems(self._nameless)

    def _stacks_alone(self) -> None:
        """The second half of v1's exchange."""
        stacks = _plain(self._table.column("locations"))
        self.summary.facts.append(
            ("stacks", f"{len(stacks):,}, without samples: the second half of Parca's older exchange")
        )
        for stack in stacks:
            for location in stack or ():
                self._frames(location)

    def _samples(self) -> None:
        columns = {name: _plain(self._table.column(name)) for name in self._table.column_names if name != "stacktrace"}
        stacks = self._stacks(len(self._table))
        types = zip(columns["sample_type"], columns["sample_unit"], strict=True)
        series: dict[tuple[str, str], Series] = {}
        for (kind, unit), stack, value in zip(types, stacks, columns["value"], strict=True):
            key = _text(kind), _text(unit)
            series.setdefault(key, Series(*key)).values.append((stack, value or 0))
        self.summary.series = sorted(series.values(), key=lambda each: -len(each.values))
        self.summary.series[:1] = [replace(each, is_default=True) for each in self.summary.series[:1]]
        self._labels(columns)
        if times := [time for time in columns.get("timestamp", ()) if time]:
            first, last = min(times), max(times)
            self.summary.facts.append(
                ("taken", f"{moment(first)} to {moment(last)}" if last > first else moment(first))
            )
        producers = sorted({_text(each) for each in columns.get("producer", ()) if each})
        self.summary.facts.append(
            ("samples", f"{len(self._table):,}" + (f", by {', '.join(producers)}" if producers else ""))
        )
        if "stacktrace" not in self._table.column_names:
            self.summary.facts.append(
                ("stacks", "not here: the first half of Parca's older exchange has their ids alone")
            )
        elif periods := {period for period in columns.get("period", ()) if period}:
            unit = _text(columns["period_unit"][0]) if columns.get("period_unit") else ""
            self.summary.facts.append(("period", ", ".join(amount(each, unit) for each in sorted(periods))))

    def _labels(self, columns: dict[str, list[Any]]) -> None:
        for row in columns.get("labels", ()):
            for name, value in (row or {}).items():
                if value is not None:
                    self.summary.labelled(name, _text(value))
        for column, values in columns.items():
            if column.startswith(_V1_LABEL):
                for value in values:
                    if value is not None:
                        self.summary.labelled(column.removeprefix(_V1_LABEL), _text(value))

    def _stacks(self, rows: int) -> list[Stack]:
        if "stacktrace" not in self._table.column_names:
            return [()] * rows
        found: list[Stack] = []
        for chunk in self._table.column("stacktrace").chunks:
            values = chunk.values
            if isinstance(values, pa.DictionaryArray):
                # Each location once: to_pylist of the stacks would make it again for every sample (measured: 8 s for
                # 6,080 samples, 8 ms so).
                locations = [self._frames(each) for each in values.dictionary.to_pylist()]
                indices = values.indices.to_pylist()
                frames = [locations[index] if index is not None else () for index in indices]
            else:
                frames = [self._frames(each) for each in values.to_pylist()]
            for begin, size in zip(chunk.offsets.to_pylist(), chunk.sizes.to_pylist(), strict=False):
                found.append(tuple(name for names in frames[begin : begin + size] for name in names))
        return found

    def _frames(self, location: dict[str, Any] | None) -> Stack:
        if location is None:
            return ()
        mapping = self._mapping(location)
        names = [self._name(line) for line in location.get("lines") or ()]
        self._nameless += sum(not name for name in names) or (not names)
        address = location.get("address") or 0
        where = f"{posixpath.basename(mapping.file)}+0x{address:x}" if mapping is not None else f"0x{address:x}"
        return tuple(name or where for name in names) or (where,)

    def _mapping(self, location: dict[str, Any]) -> Mapping | None:
        file, given = _text(location.get("mapping_file")), _text(location.get("mapping_build_id"))
        if not file and not given:
            return None
        kinds = build_id.classify(given)
        shown = f"gnu or htlhash {kinds[build_id.GNU]}" if build_id.GNU in kinds else given
        mapping = self._mappings.setdefault((file, given), Mapping(file, shown))
        mapping.locations += 1
        return mapping

    @staticmethod
    def _name(line: dict[str, Any]) -> str:
        function = line.get("function") or {}
        candidates = (
            function.get("name"),
            function.get("system_name"),
            line.get("function_name"),
            line.get("function_system_name"),
        )
        return next((_text(each) for each in candidates if each), "")


def _plain(column: pa.ChunkedArray) -> list[Any]:
    """The values of a column without their encodings."""
    values: list[Any] = []
    for chunk in column.chunks:
        values += _decoded(chunk)
    return values


def _decoded(chunk: pa.Array) -> list[Any]:
    if pa.types.is_timestamp(chunk.type):
        chunk = chunk.cast(pa.int64())  # to_pylist of nanoseconds needs pandas
    values: list[Any] = chunk.to_pylist()
    return values


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")
