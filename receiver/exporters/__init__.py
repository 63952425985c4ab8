"""Exporters: what hands a batch to the next stage. Retry and timeout are exporters that wrap an exporter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from receiver.exporters import debug, file, otlp_grpc
from receiver.exporters.retry import Retry
from receiver.exporters.timeout import Timeout

if TYPE_CHECKING:
    from typing import TextIO

    from receiver.telemetry import Telemetry
    from receiver.types import Exporter

Config = otlp_grpc.Config | file.Config | debug.Config
"""The settings of any exporter; all have ``sending_queue``."""


def build(config: Config, telemetry: Telemetry, stream: TextIO, *, tap: debug.Config | None = None) -> Exporter:
    """Compose the exporter that ``config`` names: ``retry(timeout(otlp_grpc))``, or ``file``, or ``debug``.

    Args:
        config: The settings of one exporter.
        telemetry: Counts retries and rejections.
        stream: Where ``debug`` writes; it stays open.
        tap: Also show on ``stream`` what passes.

    Raises:
        StartError: The exporter cannot work on this machine: a file cannot be opened or read.
    """
    exporter = _build(config, telemetry, stream)
    return debug.Tap(exporter, debug.Exporter(tap, stream)) if tap is not None else exporter


def _build(config: Config, telemetry: Telemetry, stream: TextIO) -> Exporter:
    if isinstance(config, debug.Config):
        return debug.Exporter(config, stream)
    if isinstance(config, file.Config):
        return file.Exporter(config)
    exporter = Timeout(otlp_grpc.Exporter(config, telemetry), config.timeout)
    return Retry(exporter, config.retry_on_failure, telemetry) if config.retry_on_failure.enabled else exporter
