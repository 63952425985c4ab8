"""The ``otlp`` source with everything real around it but the pipeline, and clients to push with."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc.aio
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from prometheus_client import CollectorRegistry

from receiver.intake import SourceIntake
from receiver.registry import SOURCES, share
from receiver.sources.otlp import Config, Source
from receiver.sources.otlp.source import METHODS
from receiver.telemetry import Telemetry
from tests.receiver.tiny import TinyQueue

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from receiver.memory import MemoryGuard
    from receiver.types import Source as AnySource


class Running(NamedTuple):
    """A source that listens."""

    queue: TinyQueue
    intake: SourceIntake
    registry: CollectorRegistry

    def address(self, protocol: str) -> str:
        """The ``host:port`` of a protocol, as the source reported it."""
        addresses = dict(each.split(" ") for each in (self.intake.current.address or "").split(", "))
        return addresses[protocol]

    def url(self, path: str = "/v1/logs", scheme: str = "http") -> str:
        """Where to post to."""
        return f"{scheme}://{self.address('http')}{path}"

    def refused(self, reason: str) -> float:
        """Requests that were refused for a reason."""
        labels = {"receiver": "otlp", "reason": reason}
        return self.registry.get_sample_value("otelbee_receiver_refused_requests_total", labels) or 0


@asynccontextmanager
async def listening(source: AnySource, intake: SourceIntake) -> AsyncIterator[None]:
    """Run a source until the context is left; what keeps it from starting is raised."""
    task = asyncio.create_task(source.run(intake))
    started = asyncio.create_task(intake.has_started.wait())
    try:
        await asyncio.wait({task, started}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        yield
    finally:
        started.cancel()
        task.cancel()
        await asyncio.wait({task, started})
        intake.close()
        if intake._worker is not None:
            intake._worker.shutdown(wait=True)


@asynccontextmanager
async def running(
    protocols: dict[str, Any], *, capacity: int = 1_000_000, memory: MemoryGuard | None = None, **options: Any
) -> AsyncIterator[Running]:
    """Run the source with ``protocols`` and further ``options``, in front of a queue of ``capacity`` items."""
    config = Config.model_validate({"protocols": protocols, **options})
    registry = CollectorRegistry()
    queue, shared = TinyQueue(capacity), share({}, "", None)
    translator = SOURCES["otlp"].translator(config, shared)
    intake = SourceIntake("otlp", translator, queue, Telemetry(registry), shared, memory=memory)
    async with listening(Source(config), intake):
        yield Running(queue, intake, registry)


BOTH = {"grpc": {"endpoint": "127.0.0.1:0"}, "http": {"endpoint": "127.0.0.1:0"}}


def logs(records: int = 1, body: str = "x", **attributes: str) -> bytes:
    """A request of so many log records."""
    request = ExportLogsServiceRequest()
    outer = request.resource_logs.add()
    for key, value in attributes.items():
        outer.resource.attributes.add(key=key).value.string_value = value
    scope = outer.scope_logs.add()
    for _ in range(records):
        scope.log_records.add().body.string_value = body
    data: bytes = request.SerializeToString()
    return data


def attributes_of(data: bytes) -> dict[str, str]:
    """The attributes of the first resource of a logs request."""
    resource = ExportLogsServiceRequest.FromString(data).resource_logs[0].resource
    return {each.key: each.value.string_value for each in resource.attributes}


async def export(
    address: str,
    data: bytes,
    *,
    signal: str = "logs",
    metadata: tuple[tuple[str, str], ...] = (),
    credentials: grpc.ChannelCredentials | None = None,
    compression: grpc.Compression = grpc.Compression.NoCompression,
) -> bytes:
    """Push one request over a gRPC connection of its own, as a unary call."""
    options = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    if credentials is None:
        channel = grpc.aio.insecure_channel(address, options=options)
    else:
        channel = grpc.aio.secure_channel(address, credentials, options=options)
    async with channel:
        call: Any = channel.unary_unary(METHODS[signal])
        answer: bytes = await call(data, metadata=metadata, compression=compression, timeout=20)
        return answer
