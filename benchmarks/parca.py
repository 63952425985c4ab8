"""Parca's Arrow records: an agent's batch of 6,080 rows (64 cores, 5 s), its reading alone, and the same uncompressed.

An event is a row. Other programs that make OTLP of these records are not known.
"""

from __future__ import annotations

import gzip
import resource
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from table import Row

from translators.batch import Origin
from translators.parca_arrow import Options
from translators.parca_arrow.translator import Translator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RUNS = 25
_ROWS = 6080
_BATCH = Path(__file__).resolve().parents[2] / "shared" / "data" / "profiles" / "arrow" / "v2_big_lz4.arrows"


def rows() -> Iterator[Row]:
    """Reading and checking, then the whole translation, with and without names for native frames."""
    from translators.parca_arrow import columns  # noqa: PLC0415 - loads pyarrow

    record = _BATCH.read_bytes()
    what = f"parca, Arrow v2, {_ROWS:,} rows, {len(record):,} bytes"
    yield _row(f"{what}: read, check", _seconds(lambda: columns.read(record)))
    for name, options in (("", Options()), (", native names", Options(native_names="placeholder"))):
        translator = Translator(options)
        data = translator.translate("arrow_v2", [record], Origin(), 0).batches[0].data
        seconds = _seconds(lambda: translator.translate("arrow_v2", [record], Origin(), 0))  # noqa: B023 - called here
        yield _row(f"{what}: OTLP{name}", seconds, data)


def _seconds(call: Callable[[], object]) -> float:
    """Processor time of one call."""
    taken = []
    for _ in range(RUNS):
        began = time.process_time()
        call()
        taken.append(time.process_time() - began)
    return median(taken)


def _row(what: str, seconds: float, data: bytes = b"") -> Row:
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sizes = (len(data) / _ROWS, len(gzip.compress(data, 6)) / _ROWS) if data else (None, None)
    return Row(what, _ROWS / seconds, 1e6 * seconds / _ROWS, *sizes, rss_mib=peak_mib)
