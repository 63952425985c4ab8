"""The ``sending_queue`` section of an exporter, with the Collector's keys; sizes are bytes."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Self

from pydantic import Field, model_validator

from receiver.fields import Duration, Section, Size

_MIB = 1 << 20


class Batching(Section):
    """How small batches are joined before they are sent."""

    flush_timeout: Annotated[Duration, Field(gt=timedelta(0))] = timedelta(seconds=1)
    """How long a batch that is not full waits for more; each wait is drawn from this to a quarter more."""
    max_size: Annotated[Size, Field(gt=0)] = Size(3 * _MIB - 4096)
    """Bytes, uncompressed, of the largest request: below the 4 MiB that a Collector accepts unless told otherwise
    (``max_recv_msg_size_mib``). Larger batches are split."""


class SendingQueue(Section):
    """What waits for the next stage, in memory; one queue per signal, each of this size."""

    queue_size: Annotated[Size, Field(gt=0)] = Size(256 * _MIB)
    """Bytes of each signal's queue, what is being sent included; a full queue refuses its senders."""
    num_consumers: Annotated[int, Field(ge=1, le=64)] = 2
    """Requests of one signal that may be under way at the same time."""
    batch: Batching = Batching()

    @model_validator(mode="after")
    def _queue_holds_a_batch(self) -> Self:
        if self.queue_size < self.batch.max_size:
            raise ValueError("queue_size must not be smaller than batch.max_size; raise it or lower the other")
        return self
