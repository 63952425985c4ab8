"""Halves a request between its items, whatever their sizes: to find the one item that is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from translators import wire
from translators.batch import Batch, Signal
from translators.otlp import PATHS, PROFILE_ONCE, count_in, count_items, deal, walk

if TYPE_CHECKING:
    from translators.otlp import Path


def halve(batch: Batch) -> list[Batch]:
    """Cut a batch into two requests of as many items each, in order; one with fewer than two items stays whole.

    What is not on the way to the items is repeated in both halves, as :func:`translators.otlp.split` does.

    Raises:
        Malformed: The data is no request of this signal.
    """
    items = count_items(batch.signal, batch.data)
    middle = items // 2
    if not middle:
        return [batch]
    parts = deal(batch.parts, [middle, items - middle])
    ranges = [range(middle), range(middle, items)]
    return [
        Batch(batch.signal, len(own), _keep(batch.signal, batch.data, PATHS[batch.signal], own), part)
        for own, part in zip(ranges, parts, strict=True)
    ]


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
