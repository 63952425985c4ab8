"""Bad OTLP requests for what counts, checks, splits and shows them without or with parsing."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import NamedTuple

from fuzz import mutations
from google.protobuf.message import DecodeError
from hypothesis import strategies as st

from translators.batch import Batch, Part, Signal
from translators.otlp import REQUESTS, Malformed, count_items, split, to_json, validate

_REQUESTS = Path(__file__).resolve().parent.parent / "translators" / "otlp"


class Input(NamedTuple):
    """A request, and the size that its pieces may have."""

    signal: Signal
    data: bytes
    max_bytes: int


def inputs() -> st.SearchStrategy[Input]:
    """Damaged requests of every signal, also where another signal's is expected."""
    seeds = [(_REQUESTS / f"{signal}.pb").read_bytes() for signal in Signal]
    return st.builds(Input, st.sampled_from(list(Signal)), mutations.any_bytes(seeds), st.integers(1, 2_000))


def check(given: Input) -> None:
    """Malformed, or everything holds: what is checked can be split, and the pieces have all items."""
    signal, data, _ = given
    with mutations.bounded(len(data)):
        try:
            items = count_items(signal, data)
            validate(signal, data)
        except Malformed as error:
            assert str(error)  # noqa: PT017 - Malformed is one of two good outcomes
            items = None
    parses = True
    try:
        REQUESTS[signal].FromString(data)
    except DecodeError:
        parses = False
    if items is None:
        with contextlib.suppress(Malformed):
            split(Batch(signal, 1, data, ()), given.max_bytes)
    else:
        _check_split(given, items, parses=parses)
    _check_json(signal, data, parses=parses)


def _check_split(given: Input, items: int, *, parses: bool) -> None:
    signal, data, max_bytes = given
    batch = Batch(signal, items, data, (Part("a", items, 1),))
    with mutations.bounded(len(data)):
        pieces = split(batch, max_bytes)
    assert sum(piece.items for piece in pieces) == items
    assert sum(part.items for piece in pieces for part in piece.parts) == items
    assert sum(len(piece.data) for piece in pieces) <= 8 * len(data) + 64, "envelopes are repeated without bound"
    for piece in pieces:
        assert count_items(signal, piece.data) == piece.items
        if parses:
            REQUESTS[signal].FromString(piece.data)


def _check_json(signal: Signal, data: bytes, *, parses: bool) -> None:
    with mutations.bounded(len(data)):
        try:
            text = to_json(signal, data)
        except Malformed:
            assert not parses
            return
    assert parses
    assert "\n" not in text
    json.loads(text)


if __name__ == "__main__":
    mutations.by_hand({"otlp": (check, inputs())})
