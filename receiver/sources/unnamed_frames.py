"""Frames without function names: said once, with what to do, because no backend says why its flame graphs are empty."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_log = logging.getLogger(__name__)

FRAMES: Final = "frames"
UNNAMED: Final = "unnamed_frames"
"""Names of the two counts of every translator of profiles."""
_ENOUGH: Final = 1_000
"""Frames that a share is worth telling of."""
_WORTH_TELLING: Final = 0.1


class UnnamedFrames:
    """What share of the frames has no name."""

    def __init__(self, remedy: str | None) -> None:
        """Tell with this ``remedy``; None where the user has chosen one already."""
        self._remedy = remedy
        self._frames = self._unnamed = 0

    def note(self, counts: Mapping[str, int]) -> None:
        """Add what a translator counted, and tell once when it is much."""
        if self._remedy is None:
            return
        self._frames += counts.get(FRAMES, 0)
        self._unnamed += counts.get(UNNAMED, 0)
        if self._frames >= _ENOUGH and self._unnamed >= _WORTH_TELLING * self._frames:
            _log.warning(
                "%d %% of the frames that came so far have no function name, and some backends hide them: %s",
                round(100 * self._unnamed / self._frames),
                self._remedy,
            )
            self._remedy = None
