"""The fuzz target of the stream reader, for a moment and from a fixed seed: it runs, and finds nothing."""

from __future__ import annotations

import random

from fuzz.fuzz_frames import check, damaged, session


def test_damaged_sessions_keep_every_promise() -> None:
    """No exception, no dependence on the cut, no more held than the window."""
    chance = random.Random(1)
    for _ in range(1500):
        check(damaged(session(chance), chance), chance)
