"""Cuts profiles by samples; each piece has of the dictionary what its samples refer to, so that it is smaller, too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from translators import otlp
from translators.otlp_halves import cut

if TYPE_CHECKING:
    from translators.batch import Batch

_EXPANSION: Final = 16
"""How many times the size of a batch its pieces may have: what all of its samples refer to is in each, and the Profiles
of a pprof refer to the same stacks."""


def split(batch: Batch, max_bytes: int) -> list[Batch]:
    """Cut a batch of profiles into requests of at most ``max_bytes``, in order, as :func:`translators.otlp.split` does.

    A single sample that is larger stays alone in its piece. A batch stays whole where its pieces would sum up to a
    multiple of it. One whose indices lead nowhere is cut with its whole dictionary.

    Raises:
        Malformed: The data is no request of profiles.
    """
    pieces = [batch]
    left = _EXPANSION * len(batch.data)
    done: list[Batch] = []
    while pieces:
        piece = pieces.pop()
        if len(piece.data) <= max_bytes or piece.items < 2:  # noqa: PLR2004 - what can be cut
            done.append(piece)
            left -= len(piece.data)
            if left < 0:
                return [batch]
            continue
        parts = min(piece.items, len(piece.data) // max_bytes + 1)
        smaller = cut(piece, parts)
        if all(len(part.data) >= len(piece.data) for part in smaller):
            return otlp.split(batch, max_bytes)
        pieces += reversed(smaller)
    return done
