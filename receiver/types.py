"""The seams of the service: what a source, an intake, a pipeline and an exporter are to each other."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable, Mapping, Sequence

    from translators.batch import Batch, Origin, Rejection


class Outcome(NamedTuple):
    """What became of the records that a source emitted."""

    accepted: int
    """Items that the queue has."""
    rejected: tuple[Rejection, ...]
    delivered: Future[None]
    """Done when the Collector has the accepted items, or they were dropped for good and counted; cancelled when otelbee
    stopped before. May be ignored."""
    counts: Mapping[str, int] = MappingProxyType({})
    """What the translator counted, by name."""


class Intake(Protocol):
    """A source's one way in: translates, admits, and reports the source's state."""

    def started(self, address: str | None) -> None:
        """Say that the source is up, bound to ``address`` where it listens.

        An exception that leaves ``Source.run`` before this is a start error (exit 2).
        """
        ...

    def state(self, up: bool, reason: str) -> None:  # noqa: FBT001 - the seam's own wording
        """Say that the peer came (``up``) or went; shown in the body of ``/ready``, never in its status."""
        ...

    def backlog(self, waiting_bytes: Callable[[], int], capacity_bytes: int) -> None:
        """Show how much the source has read ahead of its emitting: ``waiting_bytes`` is asked whenever somebody looks."""
        ...

    async def emit(self, kind: str, records: Sequence[bytes], origin: Origin, *, wait: bool) -> Outcome:
        """Translate records and hand them to the queue; return when the queue has them.

        With ``wait`` (sources that pull) this waits for room. Without (sources that are pushed to) a full queue
        raises :class:`~receiver.errors.QueueFull`. More than the queue can ever hold raises
        :class:`~receiver.errors.TooLarge`.
        """
        ...

    def check(self) -> None:
        """Raise :class:`~receiver.errors.TryLater` where anything that is pushed would be refused now.

        A source that is pushed to asks this before it reads a request's body.
        """
        ...

    def refused(self, reason: str, peer: str) -> None:
        """Count a request that was refused; ``reason`` is one of a few words, ``peer`` an address without its port."""
        ...

    def count(self, name: str, n: int) -> None:
        """Count something that the source left out, beside what its translator counts."""
        ...

    def losses(self, known: Mapping[str, float] | None) -> None:
        """Show what the peer itself counts as lost, by one of a few words; None while that is unknown."""
        ...

    async def event(self, name: str, attributes: Mapping[str, str | int | float | bool]) -> None:
        """Record an event of otelbee's own (``otelbee.source.gap``) as a WARN log record and a counter."""
        ...


class Checkpoint(Protocol):
    """Where a source instance left off: one value, replaced as a whole, that survives a restart."""

    async def load(self) -> bytes | None:
        """Return what was saved last, None when nothing ever was."""
        ...

    async def save(self, value: bytes) -> None:
        """Replace the value; it is stored when this returns."""
        ...


class Source(Protocol):
    """Receives bytes from somewhere; knows no OTLP."""

    async def run(self, intake: Intake) -> None:
        """Receive until cancelled. A source that loses its peer reconnects by itself; one that raises is restarted."""
        ...


class Exporter(Protocol):
    """Hands a batch to the next stage. Retry and timeout are exporters that wrap an exporter."""

    async def export(self, batch: Batch) -> None:
        """Return when the next stage has the batch; raise an :class:`~receiver.errors.ExportError` when not."""
        ...

    async def close(self) -> None:
        """Release connections and files. Idempotent."""
        ...


class Queue(Protocol):
    """Where intakes put batches; :class:`receiver.pipeline.Pipeline` is the one implementation."""

    async def put(self, batches: Sequence[Batch], *, wait: bool) -> Future[None]:
        """Queue batches, atomically per signal; the result is done when the Collector has them all.

        Raises :class:`~receiver.errors.QueueFull` (only without ``wait``) and :class:`~receiver.errors.TooLarge`.
        """
        ...
