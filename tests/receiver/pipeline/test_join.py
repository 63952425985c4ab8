"""Joining is concatenation, and concatenation is merging."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.pipeline.join import join
from tests.receiver.pipeline.sinks import bodies, logs
from translators.batch import Signal
from translators.otlp import REQUESTS, count_items

TEXTS = st.lists(st.lists(st.text(max_size=20), max_size=5), min_size=1, max_size=8)


@pytest.mark.parametrize("signal", [Signal.LOGS, Signal.TRACES, Signal.METRICS])
def test_joined_signals_have_one_repeated_field(signal: Signal) -> None:
    """What makes concatenation a merge: a request is one repeated field and nothing else."""
    (field,) = REQUESTS[signal].DESCRIPTOR.fields
    assert field.is_repeated
    assert field.number == 1


def test_profiles_have_a_dictionary() -> None:
    """Why profiles are never joined: their request has a second field that is not repeated."""
    assert any(not field.is_repeated for field in REQUESTS[Signal.PROFILES].DESCRIPTOR.fields)


@given(TEXTS)
def test_join_keeps_every_item(texts: list[list[str]]) -> None:
    """The joined request has the items of all, as many as it says, and the parts of all in order."""
    batches = [logs(*names, source=str(index)) for index, names in enumerate(texts)]
    joined = join(batches)
    assert bodies([joined]) == bodies(batches)
    assert joined.items == count_items(joined.signal, joined.data) == sum(batch.items for batch in batches)
    assert joined.parts == tuple(part for batch in batches for part in batch.parts)
