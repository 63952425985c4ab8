"""A summary as a person wants to read it: aligned columns, numbers with units."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from receiver.inspection.summary import weights

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from receiver.inspection.summary import Label, Series, Summary

_TOP: Final = 15
_VALUES: Final = 5
_MAPPINGS: Final = 30
_MAX_WIDTH: Final = 100
_NS: Final = (
    (86_400_000_000_000, "d"),
    (3_600_000_000_000, "h"),
    (60_000_000_000, "min"),
    (10**9, "s"),
    (10**6, "ms"),
    (10**3, "us"),
)
_BYTES: Final = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))
_TO_NS: Final = {
    "nanoseconds": 1,
    "ns": 1,
    "microseconds": 10**3,
    "us": 10**3,
    "milliseconds": 10**6,
    "ms": 10**6,
    "seconds": 10**9,
    "s": 10**9,
}
_TO_BYTES: Final = {"bytes": 1, "By": 1, "byte": 1, "kilobytes": 1 << 10}


def amount(value: int, unit: str) -> str:
    """A number in a unit of pprof or UCUM, for people: ``1.50s``, ``2.00MiB``, ``1,234``."""
    for factors, steps, smallest in ((_TO_NS, _NS, "ns"), (_TO_BYTES, _BYTES, "B")):
        if (factor := factors.get(unit)) is not None:
            whole = value * factor
            for size, name in steps:
                if abs(whole) >= size:
                    return f"{whole / size:.2f}{name}"
            return f"{whole}{smallest}"
    return f"{value:,}"


def moment(unix_ns: int) -> str:
    """A time for people; "" where it is none."""
    if unix_ns <= 0:
        return ""
    try:
        at = datetime.fromtimestamp(unix_ns // 10**9, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{unix_ns} ns since 1970"
    return f"{at:%Y-%m-%d %H:%M:%S}.{unix_ns % 10**9 // 10**6:03} UTC"


def shown(text: str) -> str:
    """Text of a file on one line, without what a terminal would obey."""
    clean = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    return clean if len(clean) <= _MAX_WIDTH else f"{clean[: _MAX_WIDTH - 3]}..."


def render(name: str, summary: Summary) -> str:
    """Write a summary; ends with a line break."""
    return "\n".join([f"{shown(name)}: {summary.form}", *_sections(summary)]) + "\n"


def _sections(summary: Summary) -> Iterator[str]:
    if summary.facts:
        yield ""
        yield from _table([[label, shown(value)] for label, value in summary.facts], "<<")
    if summary.series:
        yield from _types(summary)
    series = summary.default_series()
    if series is not None and any(stack for stack, _ in series.values):
        yield from _top(series)
    if summary.labels:
        yield from _labels(summary.labels)
    if summary.mappings:
        used = sorted(summary.mappings, key=lambda each: -each.locations)
        rows = [
            [shown(each.file) or "(no file)", f"{each.locations:,}", shown(each.build_id)] for each in used[:_MAPPINGS]
        ]
        more = f", {_MAPPINGS} of {len(used):,}" if len(used) > _MAPPINGS else ""
        yield from _titled(f"Mappings{more}", [["file", "locations", "build id"], *rows], "<><")
    yield ""
    yield "Problems" if summary.problems else "No problems found."
    yield from (f"  - {each}" for each in summary.problems)


def _types(summary: Summary) -> Iterator[str]:
    default = summary.default_series()
    rows = [["type", "samples", "total", ""]]
    rows += [
        [shown(each.name), f"{len(each.values):,}", amount(each.total, each.unit), "default" if each is default else ""]
        for each in summary.series
    ]
    yield from _titled("Sample types", rows, "<>><")


def _top(series: Series) -> Iterator[str]:
    found = weights(series.values)
    whole = sum(abs(value) for _, value in series.values) or 1
    rows = [["flat", "flat%", "cum", "cum%", "function"]]
    rows += [
        [
            amount(each.flat, series.unit),
            f"{100 * each.flat / whole:.1f}%",
            amount(each.cumulative, series.unit),
            f"{100 * each.cumulative / whole:.1f}%",
            shown(each.name),
        ]
        for each in found[:_TOP]
    ]
    more = f", {_TOP} of {len(found):,}" if len(found) > _TOP else ""
    yield from _titled(f"Functions by {shown(series.name)}{more}", rows, ">>>><")


def _labels(labels: dict[str, Label]) -> Iterator[str]:
    rows = [["name", "samples", "values"]]
    for name, label in sorted(labels.items()):
        common = [value for value, _ in sorted(label.values.items(), key=lambda item: (-item[1], item[0]))[:_VALUES]]
        more = f", {len(label.values) - _VALUES:,} more" if len(label.values) > _VALUES else ""
        rows.append([shown(name), f"{label.samples:,}", shown(", ".join(common)) + more])
    yield from _titled("Labels", rows, "<><")


def _titled(title: str, rows: Sequence[Sequence[str]], align: str) -> Iterator[str]:
    yield ""
    yield title
    yield from _table(rows, align)


def _table(rows: Sequence[Sequence[str]], align: str) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(align))]
    for row in rows:
        cells = [f"{cell:{side}{width}}" for cell, side, width in zip(row, align, widths, strict=True)]
        yield f"  {'  '.join(cells)}".rstrip()
