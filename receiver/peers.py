"""Which senders are refused most: for ``/ready``, because metrics must not carry the names of peers."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

_MOST = 1024
"""Peers that are remembered; the one whose last refusal is the longest ago is forgotten first."""


class Peer(NamedTuple):
    """The refused requests of one sender."""

    refused: int
    reason: str
    """Of the last one."""
    last_ns: int
    """Unix time in nanoseconds of the last one."""


class Peers:
    """The senders of one source that were refused."""

    def __init__(self) -> None:
        """Remember nobody yet."""
        self._peers: OrderedDict[str, Peer] = OrderedDict()

    def refused(self, peer: str, reason: str, now_ns: int) -> None:
        """Count a refused request of ``peer``, an address without its port."""
        before = self._peers.pop(peer, None)
        self._peers[peer] = Peer(1 + (before.refused if before else 0), reason, now_ns)
        if len(self._peers) > _MOST:
            self._peers.popitem(last=False)

    def worst(self, count: int) -> list[tuple[str, Peer]]:
        """Return the ones with the most refused requests, the worst first."""
        return sorted(self._peers.items(), key=lambda item: (-item[1].refused, -item[1].last_ns))[:count]
