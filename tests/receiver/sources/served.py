"""The ``parca`` source with everything real around it but the pipeline."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from prometheus_client import CollectorRegistry

from receiver.intake import SourceIntake
from receiver.registry import SOURCES, share
from receiver.sources.parca import Config, Source
from receiver.telemetry import Telemetry
from tests.receiver.sources.pushed import listening
from tests.receiver.tiny import TinyQueue

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from receiver.memory import MemoryGuard

GRPC = {"grpc": {"endpoint": "127.0.0.1:0"}}
BOTH = {**GRPC, "http": {"endpoint": "127.0.0.1:0"}}


class Running(NamedTuple):
    """A source that listens."""

    queue: TinyQueue
    intake: SourceIntake
    registry: CollectorRegistry

    def address(self, protocol: str = "grpc") -> str:
        """The ``host:port`` of a protocol, as the source reported it."""
        addresses = dict(each.split(" ") for each in (self.intake.current.address or "").split(", "))
        return addresses[protocol]

    def refused(self, reason: str) -> float:
        """Requests that were refused for a reason."""
        labels = {"receiver": "parca", "reason": reason}
        return self.registry.get_sample_value("otelbee_receiver_refused_requests_total", labels) or 0

    def counted(self, name: str) -> float:
        """What was counted under a name."""
        labels = {"receiver": "parca", "name": name}
        return self.registry.get_sample_value("otelbee_source_counted_records_total", labels) or 0


@asynccontextmanager
async def serving(
    protocols: dict[str, Any] | None = None,
    *,
    capacity: int = 10_000_000,
    memory: MemoryGuard | None = None,
    **options: Any,
) -> AsyncIterator[Running]:
    """Run the source with ``protocols``, gRPC by default, in front of a queue of ``capacity`` items."""
    config = Config.model_validate({"protocols": protocols or GRPC, **options})
    registry = CollectorRegistry()
    queue, shared = TinyQueue(capacity), share({}, "", None)
    translator = SOURCES["parca"].translator(config, shared)
    intake = SourceIntake("parca", translator, queue, Telemetry(registry), shared, memory=memory)
    async with listening(Source(config), intake):
        yield Running(queue, intake, registry)
