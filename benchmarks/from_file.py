"""Tetragon's export file to OTLP: otelbee's ``tetragon_file`` beside the Collector's ``file_log`` with ``json_parser``.

Both read the same file from its start and export to a Collector of their own kind; what is counted is the processor time of
the one that reads.
"""

from __future__ import annotations

import gzip
import json
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import recordings
from peers import build
from peers.processes import Collector, Otelbee, Program, free_port
from side_by_side import Run, cpu_s, wait_for
from table import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNS = 3
_PASSES = 2
_EXPORT_FILE = recordings.HIGHVOL.with_name("highvol.jsonl.gz")


def rows() -> Iterator[Row]:
    """The two by turns; the ratio is of otelbee's cost to the Collector's."""
    theirs, ours = [], []
    for _ in range(RUNS):
        theirs.append(_run(_FileLog))
        ours.append(_run(_otelbee))
    for name, runs in (("file: Collector, file_log", theirs), ("file: otelbee", ours)):
        ratio = median(a.cost_us / b.cost_us for a, b in zip(runs, theirs, strict=True))
        yield Row(
            name,
            median(run.per_second for run in runs),
            median(run.cost_us for run in runs),
            rss_mib=median(run.rss_mib or 0 for run in runs),
            ratio=None if runs is theirs else ratio,
        )


def _run(reader: Any) -> Run:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="otelbee-bench-")))
        lines = gzip.decompress(_EXPORT_FILE.read_bytes()) * _PASSES
        events = lines.count(b"\n")
        export = folder / "tetragon.log"
        export.touch()
        collector = stack.enter_context(Collector(folder, formats=["proto"]))
        program = stack.enter_context(reader(folder, export, collector.endpoint))
        used_s, begun_s = cpu_s(program.pid), time.monotonic()
        export.write_bytes(lines)
        wait_for(collector, events)
        seconds = time.monotonic() - begun_s
        return Run((cpu_s(program.pid) - used_s) / events * 1e6, events / seconds, program.peak_bytes / 2**20)


def _otelbee(folder: Path, export: Path, endpoint: str) -> Otelbee:
    return Otelbee(
        folder,
        {
            "sources": {"tetragon_file": {"path": str(export), "start_at": "beginning", "exclude_self": False}},
            "exporter": {"otlp_grpc": {"endpoint": endpoint, "tls": {"insecure": True}}},
            "redaction": {"enabled": False},
        },
    )


class _FileLog(Program):
    """A Collector that follows the file, with the operators that its documentation shows for JSON."""

    def __init__(self, folder: Path, export: Path, endpoint: str) -> None:
        self._health = free_port()
        time_of = {"parse_from": "attributes.time", "layout": "%Y-%m-%dT%H:%M:%S.%LZ"}
        parser = {"type": "json_parser", "timestamp": time_of, "on_error": "send_quiet"}
        config = {
            "receivers": {
                "file_log": {"include": [str(export)], "start_at": "beginning", "operators": [parser]},
            },
            # Unbounded, a batch is larger than the 4 MiB that a Collector accepts.
            "processors": {"batch": {"send_batch_size": 1000, "send_batch_max_size": 1000}},
            "exporters": {"otlp_grpc": {"endpoint": endpoint, "tls": {"insecure": True}, "compression": "none"}},
            "extensions": {"health_check": {"endpoint": f"127.0.0.1:{self._health}"}},
            "service": {
                "extensions": ["health_check"],
                "pipelines": {"logs": {"receivers": ["file_log"], "processors": ["batch"], "exporters": ["otlp_grpc"]}},
                "telemetry": {"metrics": {"level": "none"}},
            },
        }
        path = folder / "file_log.yaml"
        path.write_text(json.dumps(config))
        super().__init__("file_log", [build.otelcol(), f"--config={path}"], folder)
