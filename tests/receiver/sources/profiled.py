"""The ``pprof`` source with everything real around it but the translator and the pipeline, and what is pushed to it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import aiohttp
from prometheus_client import CollectorRegistry

from receiver.intake import SourceIntake
from receiver.registry import share
from receiver.sources.pprof import Config, Source
from receiver.telemetry import Telemetry
from tests.receiver.tiny import TinyQueue
from translators.batch import Batch, Origin, Part, Rejection, Signal, Translation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from receiver.memory import MemoryGuard

BOTH = {"grpc": {"endpoint": "127.0.0.1:0"}, "http": {"endpoint": "127.0.0.1:0"}}
HTTP = {"http": {"endpoint": "127.0.0.1:0"}}


class Given(NamedTuple):
    """One record as the translator was given it."""

    kind: str
    record: bytes
    labels: dict[str, str]
    principal: str | None


class Keeping:
    """Keeps what it is given; each record is one sample, ``bad`` is rejected, ``huge`` is too large."""

    blocking: ClassVar[bool] = True

    def __init__(self) -> None:
        """Keep nothing yet."""
        self.given: list[Given] = []

    def translate(self, kind: str, records: Sequence[bytes], origin: Origin, now_ns: int) -> Translation:
        """Make a batch of each good record."""
        self.given += [Given(kind, record, dict(origin.labels), origin.principal) for record in records]
        reasons = {b"bad": "malformed", b"huge": "too_large"}
        rejected = tuple(
            Rejection(index, reasons[record], f"{record.decode()} it is")
            for index, record in enumerate(records)
            if record in reasons
        )
        part = Part("", 1, now_ns)
        good = [record for record in records if record not in reasons]
        return Translation(tuple(Batch(Signal.PROFILES, 1, record, (part,)) for record in good), rejected)


class Running(NamedTuple):
    """A source that runs."""

    queue: TinyQueue
    intake: SourceIntake
    registry: CollectorRegistry
    translator: Keeping

    def address(self, protocol: str) -> str:
        """The ``host:port`` of a protocol, as the source reported it."""
        addresses = dict(each.split(" ") for each in (self.intake.current.address or "").split(", "))
        return addresses[protocol]

    @property
    def given(self) -> list[Given]:
        """Every record so far."""
        return self.translator.given

    def counted(self, name: str) -> float:
        """What was counted under a name."""
        labels = {"receiver": "pprof", "name": name}
        return self.registry.get_sample_value("otelbee_source_counted_records_total", labels) or 0

    def refused(self, reason: str) -> float:
        """Requests that were refused for a reason."""
        labels = {"receiver": "pprof", "reason": reason}
        return self.registry.get_sample_value("otelbee_receiver_refused_requests_total", labels) or 0

    async def post(
        self, path: str, data: Any, headers: dict[str, str] | None = None, **options: Any
    ) -> tuple[int, Any, str]:
        """Post once; status, headers and text of the answer."""
        body = BytesIO(data) if isinstance(data, bytes) else data  # aiohttp warns of large bytes
        url = f"http://{self.address('http')}{path}"
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, data=body, headers=headers or {}, **options) as answer,
        ):
            return answer.status, answer.headers, await answer.text()


@asynccontextmanager
async def running(
    *, capacity: int = 1_000_000, memory: MemoryGuard | None = None, **options: Any
) -> AsyncIterator[Running]:
    """Run the source with ``options``, in front of a queue of ``capacity`` records."""
    config = Config.model_validate(options)
    registry = CollectorRegistry()
    queue, translator = TinyQueue(capacity), Keeping()
    intake = SourceIntake("pprof", translator, queue, Telemetry(registry), share({}, "", None), memory=memory)
    task = asyncio.create_task(Source(config).run(intake))
    started = asyncio.create_task(intake.has_started.wait())
    try:
        await asyncio.wait({task, started}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        yield Running(queue, intake, registry, translator)
    finally:
        started.cancel()
        task.cancel()
        await asyncio.wait({task, started})
        intake.close()
        if intake._worker is not None:
            intake._worker.shutdown(wait=True)


def form(*parts: tuple[str, str, bytes]) -> tuple[bytes, dict[str, str]]:
    """A multipart body of (name, filename or "", content), and its headers."""
    lines: list[bytes] = []
    for name, filename, data in parts:
        disposition = f'form-data; name="{name}"' + (f'; filename="{filename}"' if filename else "")
        lines += [b"--limit", f"Content-Disposition: {disposition}".encode(), b"", data]
    return b"\r\n".join([*lines, b"--limit--", b""]), {"Content-Type": "multipart/form-data; boundary=limit"}
