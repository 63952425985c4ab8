"""How many parts a raw push of Parca or Pyroscope has, before a parser makes an object of each."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from translators.otlp import Malformed, walk
from translators.pprof.refused import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_PARTS: Final = 100_000
"""Series, labels, samples and what is in them; two bytes are enough for one (measured: 20 MiB of empty series took 430 MiB
and 75 s)."""
_LENGTH: Final = 2
_DEPTH: Final = 2
"""Request, series, and what a series has; profiles and texts are not looked into."""


def check(record: bytes) -> None:
    """Walk a ``PushRequest`` or ``WriteRawRequest``.

    Raises:
        RefusedError: It has too many parts, or is none.
    """
    try:
        if next(islice(_parts(record, 0, len(record), _DEPTH), MAX_PARTS, None), None) is not None:
            raise RefusedError(f"the push has more than {MAX_PARTS} series, labels and samples", "too_large")
    except Malformed as error:
        raise RefusedError(f"the push is cut off or damaged: {error}") from None


def _parts(data: bytes, begin: int, end: int, depth: int) -> Iterator[int]:
    for number, wire_type, _, value, behind in walk(data, begin, end):
        yield number
        if depth and wire_type == _LENGTH:
            yield from _parts(data, value, behind, depth - 1)
