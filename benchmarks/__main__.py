"""What ``make bench`` prints: the translators on one core, then the whole way from a recording to a sink.

    python benchmarks [--write] [side-by-side] [where] [burst] [file] [delay] [redaction] [translator] [kernel]
                      [reader] [end-to-end] [otlp] [parca] [queue] [profiles]

With ``--write`` the run is kept as ``benchmarks/RESULTS.md``. Every figure is the median of its runs. Runs of what is
compared take turns, so that a machine that is busy for a while is busy for both. Processor time is counted, not the
clock's, wherever one process does the work.
"""

from __future__ import annotations

import datetime as dt
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import burst
import delay
import end_to_end
import from_file
import kernel
import otlp
import parca
import pipeline
import profiles
import reader
import recordings
import redaction
import side_by_side
import table
import translator
import where

if TYPE_CHECKING:
    from collections.abc import Sequence

RESULTS = Path(__file__).resolve().parent / "RESULTS.md"
PARTS = {
    "side-by-side": side_by_side.rows,
    "where": where.rows,
    "burst": burst.rows,
    "file": from_file.rows,
    "delay": delay.rows,
    "redaction": redaction.rows,
    "translator": translator.rows,
    "kernel": kernel.rows,
    "reader": reader.rows,
    "end-to-end": end_to_end.rows,
    "otlp": otlp.rows,
    "parca": parca.rows,
    "queue": pipeline.rows,
    "profiles": profiles.rows,
}


def main() -> int:
    """Print one table of the parts that were asked for, all without any."""
    arguments = sys.argv[1:]
    keep = "--write" in arguments
    wanted = [each for each in arguments if each != "--write"] or list(PARTS)
    if unknown := set(wanted) - set(PARTS):
        print(f"benchmarks: unknown: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    if not recordings.HIGHVOL.exists():
        print(f"benchmarks: no recording {recordings.HIGHVOL}: the folder 'shared' belongs beside the repository")
        return 1
    print(table.machine())
    print(table.HEADER)
    rows: list[table.Row] = []
    for part in wanted:
        for row in PARTS[part]():
            print(row.line(), flush=True)
            rows.append(row)
    if keep:
        RESULTS.write_text(_page(rows, wanted))
    return 0


def _page(rows: Sequence[table.Row], parts: Sequence[str]) -> str:
    """The run as a page: ratios first, for they depend least on the machine."""
    ratios = [f"- {row.what}: {row.ratio:.2f}" for row in rows if row.ratio is not None]
    return "\n".join(
        [
            "# Results",
            "",
            f"Of `python benchmarks --write {' '.join(parts)}`, {dt.datetime.now(dt.UTC):%Y-%m-%d}, on:",
            f"{table.machine()}.",
            "",
            "## Ratios",
            "",
            "Of the cost per event to what it was measured in turns with, in the same run.",
            "",
            *ratios,
            "",
            "## Figures",
            "",
            "`us/event` is processor time of what the row names; `agent us` and `behind us` are that of the agent before it",
            "and of the Collector behind it. `lost` is what the agent dropped. The parts of otelbee are by samples of its main",
            "thread.",
            "",
            "```",
            table.HEADER,
            *[row.line() for row in rows],
            "```",
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
