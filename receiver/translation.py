"""One tool's recorded data to OTLP, without any server: what ``otelbee translate`` does."""

from __future__ import annotations

import time
from itertools import groupby, islice
from operator import attrgetter
from typing import TYPE_CHECKING, BinaryIO, Literal, NamedTuple

from receiver.errors import RecordingError
from receiver.registry import SOURCES, source_type
from translators.batch import Batch, Origin
from translators.otlp import to_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from receiver.config import Config
    from receiver.recording import Recorded

_CHUNK_RECORDS = 256


class Refused(NamedTuple):
    """A record that did not become OTLP, or the end of what can be read."""

    where: str
    """``line 12``, ``message 12``; empty where the message says it."""
    message: str


def translate(config: Config, stream: BinaryIO, form: Literal["json", "proto"]) -> Iterator[bytes | Refused]:
    """Translate the records of ``stream`` with the one source of ``config``.

    Yields pieces in the format of the Collector's file exporter (a line of JSON; or 4-byte big-endian length and
    request), and what could not be translated, as they come.
    """
    ((name, section),) = config.sources.items()
    entry = SOURCES[source_type(name)]
    translator = entry.translator(section, config.shared())
    assert entry.records is not None, f"{name} is not translatable"
    records = entry.records(stream)
    damage: list[Refused] = []
    while chunk := list(_readable(islice(records, _CHUNK_RECORDS), damage)):
        for kind, same in groupby(chunk, attrgetter("kind")):
            numbered = list(same)
            translation = translator.translate(kind, [each.data for each in numbered], Origin(), time.time_ns())
            for batch in (*translation.batches, *translation.derived):
                yield _encoded(batch, form)
            for rejection in translation.rejected:
                unit = "line" if kind == "json" else "message"
                yield Refused(f"{unit} {numbered[rejection.index].number}", f"{rejection.reason}: {rejection.message}")
    yield from damage


def _readable(records: Iterator[Recorded], damage: list[Refused]) -> Iterator[Recorded]:
    try:
        yield from records
    except RecordingError as error:
        damage.append(Refused("", str(error)))


def _encoded(batch: Batch, form: Literal["json", "proto"]) -> bytes:
    if form == "json":
        return to_json(batch.signal, batch.data).encode() + b"\n"
    return len(batch.data).to_bytes(4, "big") + batch.data
