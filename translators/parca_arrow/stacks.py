"""Stacks to entries of the OTLP dictionary: which frames a row has, in v2 within its batch, in v1 by an id."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from translators.parca_arrow import columns
from translators.parca_arrow.frames import Frames
from translators.parca_arrow.malformed import MalformedError, TooLargeError
from translators.wire import field

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from translators.parca_arrow.columns import Array
    from translators.profiles.dictionary import Dictionary

MAX_FRAMES: Final = 1 << 22
"""Of all distinct stacks of a batch; lists of a view may overlap, so that a small batch could claim any number."""

_EMPTY: Final = (0, 0)


class Stacks(NamedTuple):
    """The stacks of some rows."""

    spans: Sequence[tuple[int, int]]
    """Of each row: where in ``frames`` its stack begins, and how many frames it has; leaf first."""
    frames: Sequence[int]
    """Positions in ``locations``."""
    locations: Array


class Interned(NamedTuple):
    """Stacks in a dictionary."""

    indices: Mapping[tuple[int, int], int]
    """By what :attr:`Stacks.spans` has."""
    frames: int
    """Distinct ones."""
    unnamed: int
    """Those of them without a name."""


def of_batch(batch: dict[str, Array]) -> Stacks:
    """Return the stacks of a v2 batch, which is complete in itself."""
    starts, sizes, frames = columns.lists(batch["stacktrace"])
    positions, locations = columns.encoded(frames)
    return Stacks([*zip(starts, sizes, strict=False)], positions, locations)


def of_ids(batch: dict[str, Array], known: Sequence[dict[str, Array]]) -> Stacks:
    """Return the stacks that the rows of v1 name by their ids; ``known`` is what the agent answered with.

    Raises:
        MalformedError: A column is missing, or a stack was not sent.
    """
    if "stacktrace_id" not in batch:
        raise MalformedError("there is neither a column stacktrace nor stacktrace_id")
    if len(known) != 1 or not {"stacktrace_id", "locations"} <= known[0].keys():
        raise MalformedError("the locations are not one batch with the columns stacktrace_id and locations")
    starts, sizes, frames = columns.lists(known[0]["locations"])
    spans = dict(zip(columns.blobs(known[0]["stacktrace_id"]), zip(starts, sizes, strict=False), strict=True))
    try:
        of_rows = [spans[each] if each is not None else _EMPTY for each in columns.blobs(batch["stacktrace_id"])]
    except KeyError:
        raise MalformedError("a stacktrace_id has no locations") from None
    positions, locations = columns.encoded(frames)
    return Stacks(of_rows, positions, locations)


def intern(stacks: Stacks, dictionary: Dictionary, *, name_natives: bool) -> Interned:
    """Enter the stacks that rows have, and what they refer to.

    Raises:
        MalformedError: A frame is null.
        TooLargeError: There are more than :data:`MAX_FRAMES`.
    """
    distinct = [span for span in dict.fromkeys(stacks.spans) if span[1]]
    if sum(size for _, size in distinct) > MAX_FRAMES:
        raise TooLargeError(f"the stacks have more than {MAX_FRAMES} frames")
    frames_of = {(start, size): stacks.frames[start : start + size] for start, size in distinct}
    used = sorted(set().union(*frames_of.values()))
    if used and used[0] < 0:
        raise MalformedError("a frame of a stack is null")
    frames = Frames(stacks.locations, dictionary, name_natives=name_natives)
    encoded = frames.intern(used)
    indices: dict[tuple[int, int], int] = dict.fromkeys(stacks.spans, 0)
    for span, positions in frames_of.items():
        indices[span] = dictionary.stacks.add(field(1, b"".join([encoded[position] for position in positions])))
    return Interned(indices, len(used), frames.unnamed)
