"""Halves a request between its items, whatever their sizes: to find the one item that is refused."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from translators import wire
from translators.batch import Batch, Signal
from translators.otlp import PATHS, PROFILE_ONCE, count_in, count_items, deal, walk
from translators.profiles.compaction import compact

if TYPE_CHECKING:
    from translators.otlp import Path


def halve(batch: Batch) -> list[Batch]:
    """Cut a batch into two requests of as many items each, in order; one with fewer than two items stays whole.

    What is not on the way to the items is repeated in both halves, as :func:`translators.otlp.split` does; of the
    dictionary of profiles each has what its samples refer to.

    Raises:
        Malformed: The data is no request of this signal.
    """
    return cut(batch, 2)


def cut(batch: Batch, pieces: int) -> list[Batch]:
    """Cut a batch into requests of as many items each, as :func:`halve` does; with fewer items it stays whole.

    Raises:
        Malformed: The data is no request of this signal.
    """
    items = count_items(batch.signal, batch.data)
    if items < pieces:
        return [batch]
    ends = [items * piece // pieces for piece in range(pieces + 1)]
    ranges = [range(*each) for each in pairwise(ends)]
    parts = deal(batch.parts, list(map(len, ranges)))
    datas = [_keep(batch.signal, batch.data, PATHS[batch.signal], own) for own in ranges]
    if batch.signal is Signal.PROFILES:
        datas = list(map(compact, datas))
    return [Batch(batch.signal, len(own), data, part) for own, data, part in zip(ranges, datas, parts, strict=True)]


def _keep(signal: Signal, data: bytes, path: Path, kept: range) -> bytes:
    """One message on the way to the items, with only those whose position in it is in ``kept``."""
    rest = path[1:]
    chunks: list[bytes] = []
    position = 0
    for number, _, start, value, stop in walk(data, 0, len(data)):
        if number not in path[0]:
            once = signal is Signal.PROFILES and not rest and number in PROFILE_ONCE
            if not once or not kept.start:
                chunks.append(data[start:stop])
            continue
        inside = count_in(data, value, stop, rest) if rest else 1
        own = range(max(kept.start - position, 0), min(kept.stop - position, inside))
        if len(own) == inside and (inside or position in kept):
            chunks.append(data[start:stop])
        elif own:
            chunks.append(wire.field(number, _keep(signal, data[value:stop], rest, own)))
        position += inside
    return b"".join(chunks)
