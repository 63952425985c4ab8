"""What a file of profiles holds, whatever its form: what ``otelbee inspect`` shows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

_SYMBOLS: Final = "profile with symbols, symbolize by build id, or see native_names in docs/sources/pprof.md"

Stack = tuple[str, ...]
"""Names of functions, the innermost first."""


@dataclass
class Series:
    """The values of one sample type."""

    type: str
    unit: str
    values: list[tuple[Stack, int]] = field(default_factory=list)
    """Each sample's."""
    is_default: bool = False

    @property
    def name(self) -> str:
        """As profilers write it: ``cpu/nanoseconds``."""
        return f"{self.type}/{self.unit}" if self.unit else self.type

    @property
    def total(self) -> int:
        """Sum of the values."""
        return sum(value for _, value in self.values)


class Weight(NamedTuple):
    """What a function has of a sample type."""

    name: str
    flat: int
    """Where it is the innermost."""
    cumulative: int
    """Where it is anywhere in the stack, once for each sample."""


@dataclass
class Label:
    """One label, or attribute of samples."""

    samples: int = 0
    values: Counter[str] = field(default_factory=Counter)


@dataclass
class Mapping:
    """A file that code was mapped from."""

    file: str
    build_id: str
    locations: int = 0


@dataclass
class Summary:
    """Everything that is shown."""

    form: str
    facts: list[tuple[str, str]] = field(default_factory=list)
    """What is about the whole: a name and a text each."""
    series: list[Series] = field(default_factory=list)
    labels: dict[str, Label] = field(default_factory=dict)
    mappings: list[Mapping] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def labelled(self, name: str, value: str) -> None:
        """Note a label of a sample."""
        label = self.labels.setdefault(name, Label())
        label.samples += 1
        label.values[value] += 1

    def problem(self, count: int, what: str, remedy: str = "") -> None:
        """Note ``what`` is wrong, as often as ``count`` says, and what to do about it."""
        if count:
            self.problems.append(f"{what}: {count:,}" + (f"; {remedy}" if remedy else ""))

    def add_common_problems(self, nameless: int) -> None:
        """Note what is the same in every form: frames without a name, files that nobody will recognise."""
        self.problem(nameless, "frames without a function name", _SYMBOLS)
        # What is in brackets ([vdso]) is no file.
        without = sum(not each.build_id and not each.file.startswith("[") for each in self.mappings)
        self.problem(without, "mappings without a build id", "nobody can symbolize them later")

    def default_series(self) -> Series | None:
        """The sample type that a viewer shows first: the one that is named so, else the last, as ``go tool pprof``."""
        return next((each for each in self.series if each.is_default), self.series[-1] if self.series else None)


def weights(values: Iterable[tuple[Stack, int]]) -> list[Weight]:
    """Sum the values by function, the largest first."""
    flat: Counter[str] = Counter()
    cumulative: Counter[str] = Counter()
    for stack, value in values:
        if stack:
            flat[stack[0]] += value
        for name in set(stack):
            cumulative[name] += value
    found = [Weight(name, flat[name], cumulative[name]) for name in cumulative]
    return sorted(found, key=lambda each: (-abs(each.flat), -abs(each.cumulative), each.name))
