"""What every listener of a source that is pushed to has in common: who comes in, how much at once, and what is counted."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from receiver.errors import TryLater
from receiver.net.answers import FAULT, Answer, answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from receiver.net.inflight import InFlight
    from receiver.net.pushback import Pushback
    from receiver.types import Intake

_log = logging.getLogger(__name__)


class Sender(NamedTuple):
    """What is known of a request beside its body."""

    principal: str | None
    """Its authenticated name; None where the listener asks nobody."""
    headers: Mapping[str, str]
    """By lower-case name."""
    below: str = ""
    """Of an HTTP path, what stands below its route, still percent-encoded."""
    query: tuple[tuple[str, str], ...] = ()
    """Names and values of an HTTP query, in order."""


if TYPE_CHECKING:
    Receive = Callable[[Sender, bytes], Awaitable[bytes]]
    """Takes the body of one request and returns that of its answer; raises an error of :mod:`receiver.net.answers`."""


class Gate:
    """Shared by the listeners of one source."""

    def __init__(self, intake: Intake, in_flight: InFlight, pushback: Pushback | None = None) -> None:
        """Let requests in as far as ``in_flight`` has room, on behalf of ``intake``.

        Without ``pushback`` senders are put off for as long as they come back.
        """
        self.in_flight = in_flight
        self._pushback = pushback
        self._intake = intake
        self._failing = False

    def check(self) -> None:
        """Refuse a request before its body is read, where all are refused now; raises ``TryLater``."""
        self._intake.check()

    def passed(self, peer: str) -> None:
        """Note that a request of ``peer`` was taken."""
        if self._pushback is not None:
            self._pushback.passed(peer)
        if self._failing:
            self._failing = False
            _log.info("Requests succeed again")

    def refused(self, error: Exception, peer: str) -> Answer:
        """Count a refused request of ``peer``, an address without its port, and say what its sender is told.

        A fault of ours is logged when it begins.
        """
        if self._pushback is not None and isinstance(error, TryLater):
            error = self._pushback.refused(peer, error)
        answered = answer(error)
        self._intake.refused(answered.reason, peer)
        if answered.reason == FAULT and not self._failing:
            self._failing = True
            _log.error("Requests fail here, and are refused for now", exc_info=error)
        return answered
