"""Fixtures of the pipeline: the real counters, and a deadline for every test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry

from receiver.telemetry import Telemetry

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def registry() -> CollectorRegistry:
    """Where this test's counters are."""
    return CollectorRegistry()


@pytest.fixture
def telemetry(registry: CollectorRegistry) -> Telemetry:
    """The real counters."""
    return Telemetry(registry)


@pytest.fixture
def counter(registry: CollectorRegistry) -> Callable[..., float]:
    """A function from a metric's name without ``otelbee_`` and its labels to its value."""

    def value(name: str, **labels: str) -> float:
        return registry.get_sample_value(f"otelbee_{name}", labels) or 0

    return value
