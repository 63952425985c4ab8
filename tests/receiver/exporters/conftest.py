"""Fixtures of the exporters: a scripted OTLP server and the real counters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from receiver.telemetry import Telemetry
from tests.receiver.exporters.otlp_server import Server, serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from translators.batch import Signal


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    """A scripted OTLP server on a free port."""
    async with serve(Server()) as listening:
        yield listening


@pytest.fixture
def registry() -> CollectorRegistry:
    """Where this test's counters are."""
    return CollectorRegistry()


@pytest.fixture
def telemetry(registry: CollectorRegistry) -> Telemetry:
    """The real counters."""
    return Telemetry(registry)


@pytest.fixture
def dropped(registry: CollectorRegistry) -> Callable[[Signal, str], float]:
    """A function from signal and reason to the items that were dropped."""

    def value(signal: Signal, reason: str) -> float:
        labels = {"data_type": signal.value, "reason": reason}
        return registry.get_sample_value("otelbee_dropped_items_total", labels) or 0

    return value
