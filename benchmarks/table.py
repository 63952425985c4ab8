"""One table for all figures: what was measured, how often per second, what it costs, what it was compared with."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import NamedTuple

_WIDTHS = (46, 10, 9, 7, 9, 10, 8, 7, 8, 7, 7, 9)
_TITLES = (
    *("", "events/s", "us/event", "ratio", "agent us", "behind us"),
    *("B/event", "gzip B", "RSS MiB", "p50 ms", "p99 ms", "lost"),
)


class Row(NamedTuple):
    """One line; what was not measured is None and stays empty."""

    what: str
    per_second: float | None = None
    cost_us: float | None = None
    """Processor time of one core per event."""
    size_bytes: float | None = None
    gzip_bytes: float | None = None
    rss_mib: float | None = None
    ratio: float | None = None
    """Of the cost, to the row above that was measured in turns with this one."""
    p50_ms: float | None = None
    p99_ms: float | None = None
    """From an event to its arrival."""
    agent_us: float | None = None
    """Processor time per event of the agent that sends them."""
    behind_us: float | None = None
    """The same of the Collector behind what is measured."""
    lost: int | None = None
    """Events that the agent dropped."""

    def line(self) -> str:
        """The row in the table's columns."""
        cells = (
            _cell(self.per_second, ",.0f"),
            _cell(self.cost_us, ".2f"),
            _cell(self.ratio, ".2f"),
            _cell(self.agent_us, ".1f"),
            _cell(self.behind_us, ".1f"),
            _cell(self.size_bytes, ".0f"),
            _cell(self.gzip_bytes, ".0f"),
            _cell(self.rss_mib, ".0f"),
            _cell(self.p50_ms, ",.0f"),
            _cell(self.p99_ms, ",.0f"),
            _cell(self.lost, ",d"),
        )
        return _join((self.what, *cells))


def _cell(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _join(cells: tuple[str, ...]) -> str:
    first, *rest = cells
    line = f"{first:<{_WIDTHS[0]}}" + "".join(f"{cell:>{width}}" for cell, width in zip(rest, _WIDTHS[1:], strict=True))
    return line.rstrip()


HEADER = _join(_TITLES)


def machine() -> str:
    """What the figures were measured on."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    model = models[0].partition(":")[2].strip() if models else platform.machine()
    load = os.getloadavg()[0]
    return f"{model}, {os.cpu_count()} cores, load {load:.1f}, Python {platform.python_version()}"
