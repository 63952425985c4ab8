"""Halving a request between its items."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from tests.translators.test_otlp import RESOURCES, build, contents
from translators.batch import Batch, Signal
from translators.otlp import Malformed, count_items
from translators.otlp_halves import halve


@pytest.mark.parametrize("signal", Signal)
@given(RESOURCES)
def test_halves_hold_the_same_items(signal: Signal, resources: Any) -> None:
    """Two halves have as many items each, with all that surrounds them, and deal out the parts in order."""
    batch = build(signal, resources)
    halves = halve(batch)
    if batch.items < 2:
        assert halves == [batch]
        return
    assert [half.items for half in halves] == [batch.items // 2, batch.items - batch.items // 2]
    assert [count_items(signal, half.data) for half in halves] == [half.items for half in halves]
    assert contents(halves[0]) + contents(halves[1]) == contents(batch)
    assert tuple(part for half in halves for part in half.parts) == batch.parts


@pytest.mark.parametrize("signal", Signal)
def test_halving_ends_with_single_items(signal: Signal) -> None:
    """A large resource with tiny items is cut down to the items, which no limit in bytes could do."""
    batch = build(signal, [("r" * 5000, [("s", [str(index) for index in range(20)])])])
    pieces, single = [batch], 0
    while pieces:
        halves = halve(pieces.pop())
        single += len(halves) == 1
        pieces += halves if len(halves) > 1 else []
    assert single == 20


def test_what_describes_a_whole_profile_stays_with_its_first_half() -> None:
    """The id and the original payload of a profile are not repeated."""
    first, second = halve(build(Signal.PROFILES, [("r", [("s", ["a", "b"])])]))
    assert b"pprof" in first.data
    assert b"pprof" not in second.data


def test_what_cannot_be_read_is_named() -> None:
    """Bytes that are no request are refused as such."""
    with pytest.raises(Malformed):
        halve(Batch(Signal.LOGS, 2, b"\x0a\x05x", ()))
