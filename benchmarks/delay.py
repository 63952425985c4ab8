"""How long an event takes: from the moment the stand-in agent makes it to its arrival behind otelbee.

The agent stamps events as it makes them (``--stamp``), and otelbee keeps that time. With small loads the delay is that of
``flush_timeout``: a request leaves when it is full or the oldest of its records is a second old, jittered upwards.
"""

from __future__ import annotations

import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import recordings
from peers.processes import Otelbee
from side_by_side import agent
from table import Row

from translators.batch import Signal
from translators.otlp import count_items, parse

if TYPE_CHECKING:
    from collections.abc import Iterator

_EXPORT = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
_SECONDS = 6
_RATES = (1_000, 20_000)


def rows() -> Iterator[Row]:
    """Each rate, in events per second."""
    for rate in _RATES:
        delays_ms = sorted(_delays_ms(rate))
        yield Row(
            f"delay at {rate:,}/s",
            per_second=rate,
            p50_ms=delays_ms[len(delays_ms) // 2],
            p99_ms=delays_ms[len(delays_ms) * 99 // 100],
        )


def _delays_ms(rate: int) -> list[float]:
    events = rate * _SECONDS
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="otelbee-bench-")))
        sink = stack.enter_context(_Sink().serving())
        passes = -(-events // len(recordings.as_it_is()))
        flags = [f"--rate={rate}", f"--loop={passes}", f"--count={events}"]
        peer = stack.enter_context(agent(folder, flags))
        config = {
            "sources": {"tetragon": {"endpoint": peer.address, "exclude_self": False}},
            "exporter": {"otlp_grpc": {"endpoint": sink.endpoint, "tls": {"insecure": True}}},
        }
        stack.enter_context(Otelbee(folder, config))
        sink.wait_for(events)
    return [
        (arrived_ns - record.time_unix_nano) / 1e6
        for arrived_ns, request in sink.requests
        for resource in parse(Signal.LOGS, request).resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
        if record.event_name.startswith("tetragon.")
    ]


class _Sink(grpc.GenericRpcHandler):
    """Keeps what arrives, and when: Unix time in nanoseconds."""

    def __init__(self) -> None:
        self.requests: list[tuple[int, bytes]] = []
        self.endpoint = ""

    @contextmanager
    def serving(self) -> Iterator[_Sink]:
        server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.max_receive_message_length", -1)])
        server.add_generic_rpc_handlers((self,))
        self.endpoint = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        try:
            yield self
        finally:
            server.stop(None)

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        return grpc.unary_unary_rpc_method_handler(self._export) if details.method == _EXPORT else None

    def _export(self, request: bytes, _: object) -> bytes:
        self.requests.append((time.time_ns(), request))
        return b""

    def wait_for(self, events: int) -> None:
        deadline_s = time.monotonic() + 60
        while sum(count_items(Signal.LOGS, request) for _, request in list(self.requests)) <= events:
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"{events} events have not arrived")
            time.sleep(0.25)
