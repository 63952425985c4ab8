"""What the pipeline needs to know of an exporter's ``sending_queue`` section."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from datetime import timedelta


class BatchConfig(Protocol):
    """How small batches are joined."""

    @property
    def flush_timeout(self) -> timedelta:
        """How long a batch that is not full waits for more; each wait is drawn from this to a quarter more."""
        ...

    @property
    def max_size(self) -> int:
        """Bytes of the largest request."""
        ...


class QueueConfig(Protocol):
    """How much may wait and how it leaves. Structural, because pipelines and exporters do not import each other."""

    @property
    def queue_size(self) -> int:
        """Bytes of each signal's queue."""
        ...

    @property
    def num_consumers(self) -> int:
        """Requests of one signal that may be under way at the same time."""
        ...

    @property
    def batch(self) -> BatchConfig:
        """How small batches are joined."""
        ...
