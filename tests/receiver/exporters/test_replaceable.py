"""Replacing the exporter while requests are under way, over real connections."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import grpc
import pytest
from prometheus_client import CollectorRegistry

from receiver import exporters
from receiver.errors import Held, Permanent
from receiver.exporters import otlp_grpc
from receiver.exporters.replaceable import Replaceable
from receiver.telemetry import Telemetry
from tests.receiver.exporters.otlp_server import Answer, Server, request, serve
from tests.receiver.tiny import until

if TYPE_CHECKING:
    from receiver.types import Exporter


def exporter_to(endpoint: str) -> Exporter:
    """The whole exporter, retries that wait long included."""
    settings = {"endpoint": endpoint, "tls": {"insecure": True}, "retry_on_failure": {"initial_interval": "30s"}}
    config = otlp_grpc.Config.model_validate(settings)
    return exporters.build(config, Telemetry(CollectorRegistry()), stream=None, first_connection_spread_s=0)  # type: ignore[arg-type] - only debug writes


@pytest.mark.parametrize(
    "before", [Answer(silent=True), Answer(grpc.StatusCode.UNAVAILABLE)], ids=["under way", "waits for a retry"]
)
async def test_what_has_not_ended_goes_to_the_next_exporter(before: Answer) -> None:
    """A request without an answer, and one that waits for its next attempt, are not lost with their exporter."""
    async with serve(Server(script=deque([before]))) as old, serve(Server()) as new:
        exporter = Replaceable(exporter_to(old.endpoint))
        export = asyncio.create_task(exporter.export(request(records=3)))
        await until(lambda: old.requests)
        await exporter.replace(exporter_to(new.endpoint))
        async with asyncio.timeout(10):
            await export
        assert [each.data for each in new.requests] == [request(records=3).data]
        await exporter.close()


async def test_what_ends_at_once_is_sent_once() -> None:
    """A replacement lets requests that are being answered end where they began."""
    async with serve(Server()) as old, serve(Server()) as new:
        exporter = Replaceable(exporter_to(old.endpoint))
        exports = [asyncio.create_task(exporter.export(request())) for _ in range(5)]
        await asyncio.sleep(0)
        await exporter.replace(exporter_to(new.endpoint))
        await asyncio.gather(*exports)
        assert (len(old.requests), len(new.requests)) == (5, 0)
        await exporter.close()


async def test_a_hold_ends_with_its_exporter() -> None:
    """Who waits for somebody to act learns that another exporter is worth a try."""
    async with serve(Server(script=deque([Answer(grpc.StatusCode.UNAUTHENTICATED)]))) as old, serve(Server()) as new:
        exporter = Replaceable(exporter_to(old.endpoint))
        with pytest.raises(Held) as held:
            await exporter.export(request())
        assert held.value.cured is not None
        assert not held.value.cured()
        await exporter.replace(exporter_to(new.endpoint))
        assert held.value.cured()
        await exporter.close()


async def test_a_refusal_is_the_answer() -> None:
    """What the exporter of the moment raises is raised."""
    async with serve(Server(script=deque([Answer(grpc.StatusCode.INVALID_ARGUMENT)]))) as server:
        exporter = Replaceable(exporter_to(server.endpoint))
        with pytest.raises(Permanent):
            await exporter.export(request())
        await exporter.close()


@pytest.mark.parametrize("during_replacement", [False, True])
async def test_a_stop_is_no_replacement(*, during_replacement: bool) -> None:
    """Cancelling an export cancels it, while its exporter is being replaced, too."""
    async with serve(Server(script=deque([Answer(silent=True)]))) as old, serve(Server()) as new:
        exporter = Replaceable(exporter_to(old.endpoint))
        export = asyncio.create_task(exporter.export(request()))
        await until(lambda: old.requests)
        async with asyncio.TaskGroup() as group:
            if during_replacement:
                group.create_task(exporter.replace(exporter_to(new.endpoint)))
                await asyncio.sleep(0)
            export.cancel()
            with pytest.raises(asyncio.CancelledError):
                await export
        assert new.requests == []
        await exporter.close()
