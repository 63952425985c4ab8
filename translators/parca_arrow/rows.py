"""The rows of a batch, column by column: labels, what was measured, which stack, how much and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from translators.parca_arrow import columns
from translators.parca_arrow.columns import Texts
from translators.parca_arrow.malformed import MalformedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from translators.parca_arrow.columns import Array

_LABELS = "labels"
_PREFIX = "labels."
_TEXTS = ("producer", "sample_type", "sample_unit", "period_type", "period_unit", "temporality")
_COUNTS = ("period", "duration")


class Kind(NamedTuple):
    """What a row measures; rows of one kind and resource are one Profile."""

    producer: str
    sample_type: str
    sample_unit: str
    period_type: str
    period_unit: str
    temporality: str
    """``delta``, or "" for a snapshot."""
    period: int
    """In ``period_unit``."""
    duration_ns: int
    """What the agent writes: a constant, 1 s, or 0 for a snapshot; never the time between two batches."""

    @property
    def is_snapshot(self) -> bool:
        """Whether a row tells of a moment (the heap of a process) and not of a stretch of time."""
        return not self.temporality and not self.duration_ns


class Rows(NamedTuple):
    """All columns have the same length."""

    labels: dict[str, Texts]
    """By name, sorted."""
    kind_texts: list[Texts]
    kind_numbers: list[Sequence[int]]
    """The columns of :class:`Kind`."""
    values: Sequence[int]
    timestamps_ns: Sequence[int]

    def kind(self, row: int) -> Kind:
        """Return what a row measures."""
        texts: tuple[str, str, str, str, str, str] = tuple(column.text(row) for column in self.kind_texts)  # type: ignore[assignment] # as many as _TEXTS
        period, duration_ns = (column[row] for column in self.kind_numbers)
        return Kind(*texts, period, duration_ns)

    @property
    def kind_codes(self) -> list[Sequence[int]]:
        """Columns that are equal where the kind is."""
        return [*(column.codes for column in self.kind_texts), *self.kind_numbers]


def read(batch: dict[str, Array]) -> Rows:
    """Take the columns of a batch that both schemas have; of others, one that is missing is empty.

    Raises:
        MalformedError: A column that no row can do without is missing or of another type, or a time is negative.
    """
    values = columns.numbers(_required(batch, "value"))
    timestamps_ns = columns.numbers(_required(batch, "timestamp"))
    if any(_required(batch, name).null_count for name in ("value", "timestamp", "sample_type")):
        raise MalformedError("a value, timestamp or sample_type is null")
    if len(timestamps_ns) and min(timestamps_ns) < 0:
        raise MalformedError("a timestamp lies before 1970")
    size = len(values)
    texts = [columns.texts(batch[name]) if name in batch else Texts([-1] * size, [None]) for name in _TEXTS]
    counts = [columns.numbers(batch[name]) if name in batch else [0] * size for name in _COUNTS]
    return Rows(dict(sorted(_labels(batch).items())), texts, counts, values, timestamps_ns)


def _required(batch: dict[str, Array], name: str) -> Array:
    if name not in batch:
        raise MalformedError(f"the column {name} is missing")
    return batch[name]


def _labels(batch: dict[str, Array]) -> dict[str, Texts]:
    """Labels by name: the children of one column, or as v1 and early v2 have them, a column each."""
    own = {name.removeprefix(_PREFIX): array for name, array in batch.items() if name.startswith(_PREFIX)}
    together = columns.children(batch[_LABELS]) if _LABELS in batch else {}
    return {name: columns.texts(array) for name, array in {**together, **own}.items()}
