"""How many of Tetragon's events one core translates, by what it can know already, redaction off and on."""

from __future__ import annotations

import gc
import gzip
import os
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

import recordings
from table import Row

from translators.batch import Origin
from translators.redact import Redactor
from translators.tetragon import Options, Translator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RUNS = 5
RECORDS_PER_CALL = 256
SAMPLE = 8_192
_ORIGIN = Origin()
_NOW_NS = 1_763_856_000_000_000_000
_BATCH_BYTES = 3 * 1024 * 1024
"""What the pipeline joins to at the most; larger inputs compress better than it ever could."""


class Run(NamedTuple):
    """One run over some events."""

    seconds: float
    data: list[bytes]
    rss_bytes: int
    """What the translator's caches and the output added to the process."""


def rows() -> Iterator[Row]:
    """The translator's rows, redaction off and on in turns."""
    events = recordings.as_it_is()
    head = events[:SAMPLE]

    def cold() -> tuple[list[bytes], list[bytes]]:
        return [], events

    def warm() -> tuple[list[bytes], list[bytes]]:
        return head, head

    sets = {parents: recordings.new_processes(head, 1_000_000, parents=parents) for parents in (False, True)}
    yield from _compare("highvol as it is", cold)
    yield from _compare("repeating processes only", warm)
    yield from _compare("every process new", lambda: ([], sets[False]))
    yield from _compare("every process and parent new", lambda: ([], sets[True]))


def _compare(what: str, make: Callable[[], tuple[list[bytes], list[bytes]]]) -> Iterator[Row]:
    """Measure with redaction off and on; each run has a fresh translator, warmed with the first of the two lists."""
    off, on = [], []
    before, events = make()
    for _ in range(RUNS):
        off.append(_run(before, events, None))
        on.append(_run(before, events, Redactor()))
    base = median(run.seconds for run in off)
    for name, runs in (("off", off), ("on", on)):
        seconds = median(run.seconds for run in runs)
        yield Row(
            f"{what}, redaction {name}",
            len(events) / seconds,
            seconds / len(events) * 1e6,
            sum(map(len, runs[0].data)) / len(events),
            _gzip_bytes(runs[0].data) / len(events),
            median(run.rss_bytes for run in runs) / 2**20,
            None
            if name == "off"
            else median(b.seconds / a.seconds for a, b in zip(off, on, strict=True))
            if base
            else None,
        )


def _run(before: list[bytes], events: list[bytes], redactor: Redactor | None) -> Run:
    translator = Translator(Options(redactor=redactor))
    gc.collect()
    rss = _rss_bytes()
    _translate(translator, before)
    start = time.process_time()
    data = _translate(translator, events)
    seconds = time.process_time() - start
    return Run(seconds, data, _rss_bytes() - rss)


def _translate(translator: Translator, events: list[bytes]) -> list[bytes]:
    data, items = [], 0
    for first in range(0, len(events), RECORDS_PER_CALL):
        translation = translator.translate("protobuf", events[first : first + RECORDS_PER_CALL], _ORIGIN, _NOW_NS)
        data += [batch.data for batch in translation.batches]
        items += sum(batch.items for batch in translation.batches)
    if items != len(events):
        raise AssertionError(f"{len(events)} events became {items} records")
    return data


def _gzip_bytes(data: list[bytes]) -> int:
    """Compress as the exporter does, in batches as the pipeline joins them."""
    total, joined = 0, b""
    for piece in data:
        if len(joined) + len(piece) > _BATCH_BYTES:
            total += len(gzip.compress(joined, 6))
            joined = b""
        joined += piece
    return total + len(gzip.compress(joined, 6))


def _rss_bytes() -> int:
    resident = Path("/proc/self/statm").read_text().split()[1]
    return int(resident) * os.sysconf("SC_PAGE_SIZE")
