"""How long a sender is put off before it is told to drop what it holds.

Some senders keep what they cannot send in memory, without bound. A sender that was refused for ``max_s`` seconds, counted
from its first refusal, is told so for good; one request that is taken begins anew.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from receiver.errors import Overdue

if TYPE_CHECKING:
    from collections.abc import Callable

    from receiver.errors import TryLater

_log = logging.getLogger(__name__)

_PEERS: Final = 4096
"""Senders that are remembered; the one that was refused first is forgotten first."""


class Pushback:
    """Since when the senders of one source are refused."""

    def __init__(self, max_s: float, clock_s: Callable[[], float] = time.monotonic) -> None:
        """Put senders off for ``max_s`` seconds; ``clock_s`` never goes back."""
        self._max_s = max_s
        self._clock_s = clock_s
        self._since: OrderedDict[str, float] = OrderedDict()
        self._has_given_up = False

    def passed(self, peer: str) -> None:
        """Note that a request of ``peer`` was taken."""
        self._since.pop(peer, None)
        if self._has_given_up:
            self._has_given_up = False
            _log.info("Senders are taken from again")

    def refused(self, peer: str, error: TryLater) -> TryLater | Overdue:
        """Return what ``peer`` is told: to come back, as long as there is time."""
        now_s = self._clock_s()
        since_s = self._since.setdefault(peer, now_s)
        if len(self._since) > _PEERS:
            self._since.popitem(last=False)
        if now_s - since_s < self._max_s:
            return error
        if not self._has_given_up:
            self._has_given_up = True
            _log.warning("%s was put off for max_pushback, %g s: told to drop what it holds", peer, self._max_s)
        return Overdue(f"{error}; that has been so for {now_s - since_s:.0f} s, longer than max_pushback: drop this")
