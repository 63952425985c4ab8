"""When frames without names are told of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from receiver.sources.unnamed_frames import UnnamedFrames

if TYPE_CHECKING:
    import pytest


def test_many_frames_without_names_are_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    """With their share and the remedy, once there are enough to tell."""
    told = UnnamedFrames("do this")
    told.note({"frames": 900, "unnamed_frames": 900})
    assert not caplog.messages
    for _ in range(3):
        told.note({"frames": 900, "unnamed_frames": 450})
    assert caplog.messages == [
        "75 % of the frames that came so far have no function name, and some backends hide them: do this"
    ]


def test_few_frames_without_names_are_normal(caplog: pytest.LogCaptureFixture) -> None:
    """And nobody is told who has chosen what to do about them."""
    few, chosen = UnnamedFrames("do this"), UnnamedFrames(None)
    few.note({"frames": 10_000, "unnamed_frames": 900})
    few.note({})
    chosen.note({"frames": 10_000, "unnamed_frames": 9_000})
    assert not caplog.messages
