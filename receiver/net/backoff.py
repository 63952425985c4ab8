"""How long to wait before the next attempt to reach a peer."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator


class Backoff(NamedTuple):
    """Exponential backoff with jitter, so that a thousand nodes do not come back in the same second."""

    initial_s: float = 1.0
    max_s: float = 30.0

    def delays_s(self) -> Iterator[float]:
        """Yield delays in seconds without end: each between half of a bound and the bound, which doubles up to max."""
        bound = self.initial_s
        while True:
            yield random.uniform(bound / 2, bound)  # noqa: S311 - spreads load, keeps no secret
            bound = min(bound * 2, self.max_s)
