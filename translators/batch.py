"""The value that flows through otelbee, and what a translator is.

OTLP logs, metrics and trace export requests are messages with exactly one repeated field, so the concatenation of two
serialised requests is a valid request that holds the items of both (Protocol Buffers encoding, "Last one wins" and
repeated fields). That is why a :class:`Batch` carries bytes and why nothing behind a translator parses them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Signal(StrEnum):
    """The OTLP signals, by the names that Collector pipelines use."""

    LOGS = "logs"
    TRACES = "traces"
    METRICS = "metrics"
    PROFILES = "profiles"


class Part(NamedTuple):
    """What one source contributed to a batch; joined batches concatenate their parts."""

    source: str
    items: int
    newest_event_ns: int
    """Unix time in nanoseconds of the newest event in this part, 0 when none carries a time."""


class Batch(NamedTuple):
    """One serialised OTLP export request of one signal.

    ``items`` counts log records, spans, data points or samples. ``data`` is an ``Export<Signal>ServiceRequest``.
    """

    signal: Signal
    items: int
    data: bytes
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Rejection:
    """A record that could not be translated; its neighbours were."""

    index: int
    """Position in the ``records`` that were passed in."""
    reason: str
    """Low-cardinality, for the counter's label: ``malformed``, ``too_large``, ..."""
    message: str
    """What is wrong and where, for a person; never the content of the record."""


class Translation(NamedTuple):
    """What became of some records: every one is in a batch, in ``rejected`` or counted in ``counts``."""

    batches: tuple[Batch, ...]
    rejected: tuple[Rejection, ...] = ()
    counts: Mapping[str, int] = MappingProxyType({})
    """Things worth a counter that are not rejections, by name: ``excluded_self``, ``truncated``, ``redacted``, ..."""
    derived: tuple[Batch, ...] = ()
    """Made of the same records once more, as another signal: spans of processes. Dropped where their queue is full."""


class Exclude(NamedTuple):
    """Processes whose events are dropped and counted, so that otelbee does not observe itself."""

    pids: frozenset[int] = frozenset()
    """Process ids in the host's pid namespace."""
    container_ids: frozenset[str] = frozenset()
    """Full container ids, 64 hexadecimal digits."""
    pod_uids: frozenset[str] = frozenset()


class Origin(NamedTuple):
    """What came beside the bytes."""

    principal: str | None = None
    """The authenticated sender; None where nobody authenticates."""
    labels: Mapping[str, str] = MappingProxyType({})
    peer_version: str = ""
    clock_offset_ns: int = 0
    """Wall clock minus the records' clock; 0 where records carry wall time."""
    exclude: Exclude = Exclude()
    boot_ns: int = 0
    """Unix time in nanoseconds when the observed host started; 0 where it is not known."""


class Translator(Protocol):
    """Turns the records of one source into OTLP. One instance per source instance, called by one task at a time.

    It does no I/O, reads no clock and writes no log; it may keep a bounded cache. A class with ``blocking = True`` is
    run in its source's worker thread.
    """

    blocking: ClassVar[bool]

    def translate(self, kind: str, records: Sequence[bytes], origin: Origin, now_ns: int) -> Translation:
        """Translate up to 256 records of one ``kind`` that were read at ``now_ns`` (Unix time in nanoseconds).

        Bad records are rejected one by one; this never raises for bad input. The parts of the batches carry an empty
        source name: the intake knows it.
        """
        ...


@runtime_checkable
class StatelessTranslator(Translator, Protocol):
    """A translator that keeps nothing between calls and costs what the bytes cost.

    More than ``inline_bytes`` at once are translated in its source's worker thread, less where it is called.
    """

    inline_bytes: ClassVar[int]
