"""Rows to the profiles of one OTLP request: a resource for each set of labels, a Profile for each kind of measurement.

Every row becomes one sample with its own value and time; none is combined with another.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from translators import attributes as key
from translators.parca_arrow import samples
from translators.parca_arrow.columns import grouped
from translators.parca_arrow.malformed import TooLargeError
from translators.profiles.dictionary import indices, number
from translators.wire import any_int, any_string, field, fixed64_field, varint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from translators.parca_arrow.rows import Kind, Rows
    from translators.profiles.dictionary import Dictionary

TEMPORALITY: Final = "parca.temporality"
DURATION: Final = "parca.duration"
"""Attributes of a Profile: what Parca's schema says of it and OTLP has no field for."""

MAX_PROFILES: Final = 1 << 16
"""Of a batch by labels, and of a snapshot by times: each costs what many rows cost."""
_SCHEMA: Final = field(3, key.SCHEMA_URL.encode())
_NANOSECONDS: Final = "nanoseconds"
_ONE_TIME: Final = b"\x2a\x08"  # Sample.timestamps_unix_nano = 5, packed: one fixed64
_ONE_TIME_BYTES: Final = 10
_HEADS: Final = tuple(b"\x12" + varint(size) for size in range(256))
"""Tag and length of a sample, by size: five fields of numbers, one of them a list of a few."""


class Described(NamedTuple):
    """What the labels of a process become."""

    resource: bytes
    """An encoded ``Resource``."""
    about_profile: tuple[tuple[str, str], ...]
    """Attributes of its profiles."""


class _Rows(NamedTuple):
    """The rows of one Profile: its samples, and their times once more."""

    samples: list[bytes]
    times_ns: list[int]


class Profiles:
    """The profiles of one record under construction."""

    def __init__(self, dictionary: Dictionary, describe: Callable[[dict[str, str]], Described], record: bytes) -> None:
        """Begin without a row; ``describe`` is asked once for each set of labels, ids are derived from ``record``."""
        self.count = 0
        self.newest_ns = 0
        self._dictionary = dictionary
        self._describe = describe
        self._digest = hashlib.blake2b(record).digest()
        self._processes: dict[Described, dict[Kind, _Rows]] = {}
        self._kinds: dict[Kind, _Kind] = {}
        self._oldest_ns = 1 << 63

    def add(self, rows: Rows, stacks: Sequence[tuple[int, int]], of_stack: Mapping[tuple[int, int], int]) -> None:
        """Add the rows of a batch, whose stacks have the indices ``of_stack``."""
        if not (size := len(rows.values)):
            return
        about_process = {name: column for name, column in rows.labels.items() if name not in samples.LABELS}
        about_sample = {name: column for name, column in rows.labels.items() if name in samples.LABELS}
        of_row, firsts = grouped([*(column.codes for column in about_process.values()), *rows.kind_codes], size)
        if len(firsts) > MAX_PROFILES:
            raise TooLargeError(f"a batch has {len(firsts)} sets of labels, more than {MAX_PROFILES}")
        groups = {
            group: self._rows_of({name: column.text(row) for name, column in about_process.items()}, rows.kind(row))
            for group, row in sorted(firsts.items())
        }
        heads = {stack: number(1, index) for stack, index in of_stack.items()}
        tails = samples.encode(about_sample, size, self._dictionary)
        values = {value: field(4, varint(value)) + _ONE_TIME for value in set(rows.values)}
        times_ns = list(rows.timestamps_ns)
        encoded = [
            heads[stack] + tail + values[value] + time_ns.to_bytes(8, "little")
            for stack, tail, value, time_ns in zip(stacks, tails, rows.values, times_ns, strict=True)
        ]
        for group, sample, time_ns in zip(of_row, encoded, times_ns, strict=True):
            known = groups[group]
            known.samples.append(sample)
            known.times_ns.append(time_ns)
        self.count += size
        self._oldest_ns = min(self._oldest_ns, *times_ns)
        self.newest_ns = max(self.newest_ns, *times_ns)

    def encode(self) -> list[bytes]:
        """Encode the ``ResourceProfiles``; this enters their last strings into the dictionary."""
        return [self._resource_profiles(described, kinds) for described, kinds in self._processes.items()]

    def _rows_of(self, labels: dict[str, str], kind: Kind) -> _Rows:
        described = self._describe({name: value for name, value in labels.items() if value})
        return self._processes.setdefault(described, {}).setdefault(kind, _Rows([], []))

    def _resource_profiles(self, described: Described, kinds: dict[Kind, _Rows]) -> bytes:
        """One scope for each producer, by whose name Parca behind us calls the profiles again."""
        producers = dict.fromkeys(kind.producer for kind in kinds)
        scopes = [
            field(
                2,
                b"".join(
                    (
                        field(1, field(1, producer.encode()) if producer else b""),
                        *(
                            field(2, profile)
                            for kind, rows in kinds.items()
                            if kind.producer == producer
                            for profile in self._profiles(described, kind, rows)
                        ),
                        _SCHEMA,
                    )
                ),
            )
            for producer in producers
        ]
        return b"".join((field(1, described.resource), *scopes, _SCHEMA))

    def _profiles(self, described: Described, kind: Kind, rows: _Rows) -> Iterator[bytes]:
        """One Profile with all times; of snapshots, which have no window, one for each moment."""
        if not kind.is_snapshot:
            tick_ns = kind.period if kind.period_unit == _NANOSECONDS else 0
            # Half open: the end is behind the newest sample, by what that sample stands for.
            duration_ns = self.newest_ns - self._oldest_ns + max(1, tick_ns)
            yield self._profile(described, kind, rows.samples, self._oldest_ns, duration_ns)
            return
        moments: dict[int, list[bytes]] = {}
        for sample, time_ns in zip(rows.samples, rows.times_ns, strict=True):
            moments.setdefault(time_ns, []).append(sample[:-_ONE_TIME_BYTES])
        if len(moments) > MAX_PROFILES:
            raise TooLargeError(f"a snapshot has {len(moments)} times, more than {MAX_PROFILES}")
        for time_ns, group in moments.items():
            yield self._profile(described, kind, group, time_ns, 0)

    def _profile(
        self, described: Described, kind: Kind, encoded: list[bytes], start_ns: int, duration_ns: int
    ) -> bytes:
        dictionary = self._dictionary
        types = self._kinds.get(kind) or self._kinds.setdefault(kind, _Kind.enter(kind, dictionary))
        about = [dictionary.text_attribute(name, value) for name, value in described.about_profile]
        identity = hashlib.blake2b(self._digest, digest_size=16)
        identity.update(repr((described, kind, start_ns)).encode())
        return b"".join(
            (
                types.sample_type,
                *[_HEADS[len(sample)] + sample for sample in encoded],
                fixed64_field(3, start_ns),
                number(4, duration_ns),
                types.period,
                field(7, identity.digest()),
                indices(11, [*about, *types.attributes]),
            )
        )


class _Kind(NamedTuple):
    """What profiles of a kind have in common, entered into the dictionary."""

    sample_type: bytes
    period: bytes
    attributes: tuple[int, ...]

    @classmethod
    def enter(cls, kind: Kind, dictionary: Dictionary) -> Self:
        """Encode the fields of a kind."""
        attributes: list[int] = []
        if kind.temporality:
            attributes.append(dictionary.attribute(TEMPORALITY, any_string(kind.temporality)))
        if kind.duration_ns:
            attributes.append(dictionary.attribute(DURATION, any_int(kind.duration_ns), "ns"))
        period_type = dictionary.value_type(kind.period_type, kind.period_unit)
        return cls(
            field(1, dictionary.value_type(kind.sample_type, kind.sample_unit)),
            field(5, period_type) + number(6, kind.period),
            tuple(attributes),
        )
