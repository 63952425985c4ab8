"""Exporters: what hands a batch to the next stage. Retry and timeout are exporters that wrap an exporter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from receiver.exporters import dead_letter as dead_letters
from receiver.exporters import debug, file, otlp_grpc, retry
from receiver.exporters.measured import Measured
from receiver.exporters.pace import Pace
from receiver.exporters.retry import Retry
from receiver.exporters.timeout import Timeout
from receiver.net.backoff import Backoff

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
    """Compose the exporter that ``config`` names: ``retry(pace(timeout(otlp_grpc)))``, or ``file``, or ``debug``.

    All are measured.

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
        exporter = Measured(debug.Exporter(config, stream), telemetry)
    elif isinstance(config, file.Config):
        exporter = Measured(file.Exporter(config), telemetry)
    else:
        exporter = otlp_grpc.Exporter(config, telemetry, first_connection_spread_s=first_connection_spread_s)
        exporter = Timeout(Measured(exporter, telemetry), config.timeout)
        exporter = Pace(exporter, config.sending_queue.num_consumers)
        if config.retry_on_failure.enabled:
            exporter = Retry(exporter, config.retry_on_failure, telemetry)
    return debug.Tap(exporter, debug.Exporter(tap, stream)) if tap is not None else exporter


def dead_letter(config: Config) -> Exporter | None:
    """Open where what can never be delivered is put aside; None where nothing is.

    Raises:
        StartError: The file cannot be opened.
    """
    setting = config.dead_letter if isinstance(config, otlp_grpc.Config) else None
    return dead_letters.exporter(setting) if setting is not None else None


def held(config: Config) -> Backoff:
    """When what nobody can help but a person is tried again: at first about as rarely as what can help itself."""
    retrying = config.retry_on_failure if isinstance(config, otlp_grpc.Config) else retry.Config()
    longest_s = retrying.max_interval.total_seconds()
    return Backoff(longest_s, 10 * longest_s)
