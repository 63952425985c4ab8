"""What ``make bench`` prints: the translators on one core, then the whole way from a recording to a sink.

    python benchmarks [redaction] [translator] [kernel] [reader] [end-to-end] [otlp] [parca] [queue]

Every figure is the median of its runs. Runs of what is compared take turns, so that a machine that is busy for a
while is busy for both. Processor time is counted, not the clock's, wherever one process does the work.
"""

from __future__ import annotations

import sys

import end_to_end
import kernel
import otlp
import parca
import pipeline
import profiles
import reader
import recordings
import redaction
import table
import translator

PARTS = {
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
    wanted = sys.argv[1:] or list(PARTS)
    if unknown := set(wanted) - set(PARTS):
        print(f"benchmarks: unknown: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    if not recordings.HIGHVOL.exists():
        print(f"benchmarks: no recording {recordings.HIGHVOL}: the folder 'shared' belongs beside the repository")
        return 1
    print(table.machine())
    print(table.HEADER)
    for part in wanted:
        for row in PARTS[part]():
            print(row.line(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
