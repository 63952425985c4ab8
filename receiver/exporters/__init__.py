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


def build(
    config: Config,
    telemetry: Telemetry,
    stream: TextIO,
    *,
    tap: debug.Config | None = None,
    first_connection_spread_s: float = otlp_grpc.FIRST_CONNECTION_SPREAD_S,
) -> Exporter:
    """Compose the exporter that ``config`` names: ``retry(timeout(otlp_grpc))``, or ``file``, or ``debug``.

    Args:
        config: The settings of one exporter.
        telemetry: Counts retries and rejections.
        stream: Where ``debug`` writes; it stays open.
        tap: Also show on ``stream`` what passes.
        first_connection_spread_s: The first connection of ``otlp_grpc`` waits up to so long.

    Raises:
        StartError: The exporter cannot work on this machine: a file cannot be opened or read.
    """
    exporter: Exporter
    if isinstance(config, debug.Config):
        exporter = debug.Exporter(config, stream)
    elif isinstance(config, file.Config):
        exporter = file.Exporter(config)
    else:
        exporter = otlp_grpc.Exporter(config, telemetry, first_connection_spread_s=first_connection_spread_s)
        exporter = Timeout(exporter, config.timeout)
        if config.retry_on_failure.enabled:
            exporter = Retry(exporter, config.retry_on_failure, telemetry)
    return debug.Tap(exporter, debug.Exporter(tap, stream)) if tap is not None else exporter
