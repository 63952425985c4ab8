"""How much of profiles one core translates, beside pprof's own library doing its own work on the same files.

The library, in Go, parses a file and writes it again, decompressed: less than a translation, which makes a Profile of each
sample type. The runs of both take turns. Rows on files count samples of the pprof, and ``ratio`` is to the library.
"""

from __future__ import annotations

import gc
import gzip
import json
import subprocess
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from peers import build
from table import Row

from translators.batch import Origin
from translators.pprof import Options, Translator

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
FILES = ROOT.parent / "shared" / "data" / "profiles" / "pprof"
NAMES = ("parca__alloc_objects.pb.gz", "query__alloc_space_delta.pb.gz", "query__profile-with-labels.pb.gz")
RUNS = 9
_GO_RUNS = 10
"""Per turn: the first one of a process is slower."""
_NOW_NS = 1_763_856_000_000_000_000


def rows() -> Iterator[Row]:
    """Two rows on each file, the library's and the translator's."""
    if not build.pprof().exists():
        yield Row("pprof: the program to compare with is missing, run: make peers")
        return
    for name in NAMES:
        yield from _compare(FILES / name, build.pprof())


def _compare(path: Path, program: Path) -> Iterator[Row]:
    record = path.read_bytes()
    raw_bytes = len(gzip.decompress(record))
    theirs: list[float] = []
    ours: list[float] = []
    data, samples = b"", 0
    for _ in range(RUNS):
        library = _library(program, path)
        samples = library["samples"]
        theirs.append(library["parse_write_ns"] / 1e9)
        seconds, data = _translate(record)
        ours.append(seconds)
    name = path.name.partition(".")[0]
    for what, seconds in (("Go library", median(theirs)), ("translator", median(ours))):
        mine = what == "translator"
        yield Row(
            f"{name[:26]}, {what}, {raw_bytes / seconds / 1e6:.1f} MB/s",
            samples / seconds,
            seconds / samples * 1e6,
            len(data) / samples if mine else None,
            len(gzip.compress(data, 6)) / samples if mine else None,
            _peak_mib() if mine else None,
            median(a / b for a, b in zip(ours, theirs, strict=True)) if mine else None,
        )


def _translate(record: bytes) -> tuple[float, bytes]:
    translator = Translator(Options())
    gc.collect()
    start = time.process_time()
    (batch,) = translator.translate("pprof", [record], Origin(), _NOW_NS).batches
    return time.process_time() - start, batch.data


def _library(program: Path, path: Path) -> dict[str, Any]:
    command = [program, "bench", path, str(_GO_RUNS)]
    found: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return found


def _peak_mib() -> float:
    """The most memory that this process has had: VmHWM."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
