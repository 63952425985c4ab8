"""What otelbee says about itself in numbers; the one module that knows prometheus-client.

Names are the Collector's own under ``otelbee_`` (metadata.yaml of its exporterhelper, receiverhelper and service) and,
as the Collector exposes them, without ``_total``. A label never holds a peer, a pod or a user's value: only source names
from the configuration, signals, and reasons that are written in this program.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from prometheus_client import Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from translators.batch import Signal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_M = TypeVar("_M", Counter, Gauge)

_ITEMS = {
    Signal.LOGS: "log_records",
    Signal.TRACES: "spans",
    Signal.METRICS: "metric_points",
    Signal.PROFILES: "profile_samples",
}
# What prometheus-client adds to every counter and the Collector has not: the suffix, and when it was created.
_CREATED = re.compile(rb"(?m)^(?:# \w+ )?otelbee_\w+_created\b.*\n")
_TOTAL = re.compile(rb"(?m)^((?:# (?:HELP|TYPE) )?otelbee_\w+?)_total(?=[ {])")


_DURATIONS_S = (0.005, 0.02, 0.1, 0.5, 1, 2.5, 5, 10, 30)
_DELAYS_S = (0.1, 0.5, 1, 2, 5, 15, 60, 300, 1800, 7200)


class QueueLevel(NamedTuple):
    """How full a queue is, in bytes."""

    size_bytes: int
    capacity_bytes: int
    full: bool = False
    """Somebody found no room, and none was made since."""


def _named(kind: type[_M], registry: CollectorRegistry) -> Callable[..., _M]:
    """What makes metrics of a kind from their name without the prefix, their text and their labels."""
    return lambda name, text, *labels: kind(f"otelbee_{name}", text, labels, registry=registry)


class Telemetry:
    """Every counter and gauge of otelbee, in ``registry``."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register all metrics; a registry holds those of one service."""
        self._registry = registry
        self._levels: dict[Signal, QueueLevel] = {}

        self._remedies: dict[Signal, str] = {}
        counter, gauge = _named(Counter, registry), _named(Gauge, registry)

        def histogram(name: str, text: str, label: str, bounds_s: tuple[float, ...]) -> Histogram:
            return Histogram(f"otelbee_{name}", text, [label], buckets=bounds_s, registry=registry)

        def per_signal(name: str, text: str, *labels: str) -> dict[Signal, Counter]:
            return {signal: counter(f"{name}_{items}", f"{text}: {items}", *labels) for signal, items in _ITEMS.items()}

        self._accepted = per_signal("receiver_accepted", "Taken into the queue", "receiver")
        self._refused = per_signal("receiver_refused", "Not taken into the queue", "receiver", "reason")
        self._refused_requests = counter("receiver_refused_requests", "Requests not taken", "receiver", "reason")
        self._rejected = counter("source_rejected_records", "Could not be translated", "receiver", "reason")
        self._counted = counter("source_counted_records", "What translators count, by name", "receiver", "name")
        self._gaps = counter("source_gaps", "Times in which a source missed events", "receiver")
        self._restarts = counter("source_restarts", "Restarts after an error", "receiver")
        self._source_up = gauge("source_up", "1 while a source has its peer", "receiver")
        self._backlogs: dict[str, Callable[[], int]] = {}
        self._backlog_size = gauge("source_backlog_size", "Bytes read ahead of their translation", "receiver")
        self._backlog_capacity = gauge("source_backlog_capacity", "Bytes that may be read ahead", "receiver")
        self._lost = counter("source_lost_records", "Lost before otelbee, as far as it was told", "receiver", "reason")
        text = "What the peer itself counts as lost; absent while that is unknown"
        self._peer_losses = gauge("source_peer_lost_records", text, "receiver", "reason")
        text = "From the newest event of a request to its acknowledged export"
        self._delay = histogram("source_delivery_delay_seconds", text, "receiver", _DELAYS_S)

        self._sent = per_signal("exporter_sent", "Delivered")
        self._send_failed = per_signal("exporter_send_failed", "Not delivered, after all retries")
        self._enqueue_failed = per_signal("exporter_enqueue_failed", "Not queued")
        self._dropped = counter("dropped_items", "Lost after they were accepted, by reason", "data_type", "reason")
        self._dead_lettered = counter("dead_letter_items", "Put aside, by reason", "data_type", "reason")
        self._retried = counter("exporter_retries", "Export attempts after the first", "data_type")
        self._held = gauge("exporter_held", "1 while nothing is taken until somebody acts", "data_type")
        self._queue_size = gauge("exporter_queue_size", "Bytes in the queue", "data_type")
        self._queue_capacity = gauge("exporter_queue_capacity", "Bytes that the queue may hold", "data_type")
        self._queue_age = gauge("exporter_queue_age_seconds", "Since the oldest item in it arrived", "data_type")
        text = "One attempt to export, until it was answered or given up"
        self._export_duration = histogram("exporter_request_duration_seconds", text, "data_type", _DURATIONS_S)
        registry.register(_Process())

    def accepted(self, source: str, signal: Signal, items: int) -> None:
        """Count items of a source that the queue has."""
        self._accepted[signal].labels(source).inc(items)

    def refused(self, source: str, signal: Signal, items: int, reason: str) -> None:
        """Count items that the queue did not take: ``queue_full`` or ``too_large``."""
        self._refused[signal].labels(source, reason).inc(items)

    def refused_request(self, source: str, reason: str) -> None:
        """Count a request of a sender that was not taken, whatever was in it."""
        self._refused_requests.labels(source, reason).inc()

    def rejected(self, source: str, reason: str, n: int) -> None:
        """Count records that could not be translated."""
        self._rejected.labels(source, reason).inc(n)

    def counted(self, source: str, name: str, n: int) -> None:
        """Add to one of the things that a translator counts, ``excluded_self`` for example."""
        self._counted.labels(source, name).inc(n)

    def gap(self, source: str) -> None:
        """Count a time in which a source missed events."""
        self._gaps.labels(source).inc()

    def restarted(self, source: str) -> None:
        """Count a restart of a source that raised."""
        self._restarts.labels(source).inc()

    def source_up(self, source: str, up: bool) -> None:  # noqa: FBT001 - the value of a gauge
        """Show whether a source has its peer."""
        self._source_up.labels(source).set(up)

    def backlog(self, source: str, waiting_bytes: Callable[[], int], capacity_bytes: int) -> None:
        """Show how much a source has read ahead; ``waiting_bytes`` is asked at every look."""
        self._backlogs[source] = waiting_bytes
        self._backlog_size.labels(source).set_function(waiting_bytes)
        self._backlog_capacity.labels(source).set(capacity_bytes)

    def read_ahead_bytes(self) -> int:
        """What all sources have read and not emitted yet."""
        return sum(waiting_bytes() for waiting_bytes in self._backlogs.values())

    def source_gone(self, source: str) -> None:
        """Show a source no more that the configuration does not have any more; what it counted stays."""
        self._backlogs.pop(source, None)
        self._peer_losses.remove_by_labels({"receiver": source})
        for gauge in (self._source_up, self._backlog_size, self._backlog_capacity):
            with suppress(KeyError):
                gauge.remove(source)

    def sent(self, signal: Signal, items: int) -> None:
        """Count items that the next stage has."""
        self._sent[signal].inc(items)

    def send_failed(self, signal: Signal, items: int) -> None:
        """Count items that were given up."""
        self._send_failed[signal].inc(items)

    def enqueue_failed(self, signal: Signal, items: int) -> None:
        """Count items that found no room."""
        self._enqueue_failed[signal].inc(items)

    def dropped(self, signal: Signal, items: int, reason: str) -> None:
        """Count items that were accepted and are lost; ``reason`` is one of a few words."""
        self._dropped.labels(signal.value, reason).inc(items)

    def dead_lettered(self, signal: Signal, items: int, reason: str) -> None:
        """Count items that could not be delivered and are in ``dead_letter``."""
        self._dead_lettered.labels(signal.value, reason).inc(items)

    def held(self, signal: Signal, remedy: str) -> None:
        """Show that nothing of a signal is taken until somebody does what ``remedy`` says; empty: it is taken again."""
        self._held.labels(signal.value).set(bool(remedy))
        self._remedies[signal] = remedy

    def remedies(self) -> dict[Signal, str]:
        """What has to be done before anything of these signals is taken."""
        return {signal: remedy for signal, remedy in self._remedies.items() if remedy}

    def queue(self, signal: Signal, size_bytes: int, capacity_bytes: int, *, full: bool = False) -> None:
        """Show how full a queue is."""
        self._levels[signal] = QueueLevel(size_bytes, capacity_bytes, full)
        self._queue_size.labels(signal.value).set(size_bytes)
        self._queue_capacity.labels(signal.value).set(capacity_bytes)

    def queue_age(self, signal: Signal, age_s: Callable[[], float]) -> None:
        """Show how long the oldest item of a queue has waited; ``age_s`` is asked at every look."""
        self._queue_age.labels(signal.value).set_function(age_s)

    def export_lasted(self, signal: Signal, duration_s: float) -> None:
        """Show how long one attempt to export took."""
        self._export_duration.labels(signal.value).observe(duration_s)

    def delivered(self, source: str, delay_s: float) -> None:
        """Show how old the newest event of a source was when the next stage had it."""
        self._delay.labels(source).observe(delay_s)

    def lost(self, source: str, reason: str, n: int) -> None:
        """Count records that were lost before they reached otelbee; ``reason`` is a word of the source."""
        self._lost.labels(source, reason).inc(n)

    def peer_losses(self, source: str, known: Mapping[str, float] | None) -> None:
        """Show what the peer of a source counts as lost, by reason; None: nothing is known, which is not 0."""
        self._peer_losses.remove_by_labels({"receiver": source})
        for reason, count in (known or {}).items():
            self._peer_losses.labels(source, reason).set(count)

    def retried(self, signal: Signal) -> None:
        """Count an export attempt after the first."""
        self._retried.labels(signal.value).inc()

    def queues(self) -> dict[Signal, QueueLevel]:
        """How full each queue was when it last said."""
        return dict(self._levels)

    def exposition(self) -> bytes:
        """All metrics in the Prometheus text format, version 0.0.4."""
        return _TOTAL.sub(rb"\1", _CREATED.sub(b"", generate_latest(self._registry)))


class _Process(Collector):
    """The Collector's ``process_*`` metrics, read from /proc when they are asked for."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def describe(self) -> Iterator[Metric]:
        """Name no metric: registering must not read /proc."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """Read uptime, CPU time and resident memory of this process."""
        times = os.times()
        resident_pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        yield CounterMetricFamily("otelbee_process_uptime", "Seconds since start", value=time.monotonic() - self._began)
        yield CounterMetricFamily("otelbee_process_cpu_seconds", "CPU time, seconds", value=times.user + times.system)
        yield GaugeMetricFamily(
            "otelbee_process_memory_rss", "Resident bytes", value=resident_pages * os.sysconf("SC_PAGE_SIZE")
        )
