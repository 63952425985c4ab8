"""OTLP that passes through: the ``otlp`` source and the real Collector, in front of the same sink.

Requests of 1, 100 and 1,000 log records come over gRPC from one connection, a few at a time; what is counted is the
processor time of the program in the middle, exporting included. The rows are per request.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import grpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from peers import build
from table import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNS = 3
REQUESTS = {1: 3000, 100: 1500, 1000: 300}
_AT_ONCE = 4
_DEADLINE_S = 60.0
_ROOT = Path(__file__).resolve().parent.parent
_METHOD = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"


def rows() -> Iterator[Row]:
    """The Collector, where it is built, and otelbee in turns."""
    collector = _collector()
    for records, requests in REQUESTS.items():
        data = _request(records)
        theirs, ours = [], []
        for _ in range(RUNS):
            if collector is not None:
                theirs.append(_run(_collector_command(collector), data, requests))
            ours.append(_run(_otelbee_command, data, requests))
        what = f"{records} records a request, {len(data):,} bytes"
        if theirs:
            yield Row(f"otlp, {what}: Collector", *_medians(theirs))
        ratio = median(b[1] / a[1] for a, b in zip(theirs, ours, strict=True)) if theirs else None
        yield Row(f"otlp, {what}: otelbee", *_medians(ours), ratio=ratio)


def _medians(runs: list[tuple[float, float]]) -> tuple[float, float]:
    return median(run[0] for run in runs), median(run[1] for run in runs)


def _request(records: int) -> bytes:
    request = ExportLogsServiceRequest()
    outer = request.resource_logs.add()
    for index in range(8):
        outer.resource.attributes.add(key=f"resource.key{index}").value.string_value = "value of it"
    scope = outer.scope_logs.add()
    for number in range(records):
        record = scope.log_records.add(time_unix_nano=1_790_000_000_000_000_000 + number, severity_number=9)
        record.body.string_value = f"GET /cart/{number} took longer than the others, and this is what is said about it"
        for index in range(8):
            record.attributes.add(key=f"record.key{index}").value.string_value = f"value {number}"
    return bytes(request.SerializeToString())


def _collector() -> Path | None:
    """The Collector that ``make peers`` builds."""
    path: Path = build.otelcol()
    return path if path.exists() else None


def _otelbee_command(folder: Path, listen: int, sink: int) -> list[str]:
    config = {
        "sources": {"otlp": {"protocols": {"grpc": {"endpoint": f"127.0.0.1:{listen}"}}}},
        "exporter": {"otlp_grpc": {"endpoint": f"127.0.0.1:{sink}", "tls": {"insecure": True}}},
        "telemetry": {"endpoint": "127.0.0.1:0", "logs": {"level": "warn"}},
    }
    (folder / "otelbee.yaml").write_text(json.dumps(config))
    return [sys.executable, "-m", "receiver.cli", "run", "--config", str(folder / "otelbee.yaml")]


def _collector_command(program: Path) -> Any:
    def command(folder: Path, listen: int, sink: int) -> list[str]:
        queue = {"block_on_overflow": True}  # the sink is slower than the Collector
        exporter: dict[str, Any] = {
            "endpoint": f"127.0.0.1:{sink}",
            "tls": {"insecure": True},
            "compression": "none",
            "sending_queue": queue,
        }
        config = {
            "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": f"127.0.0.1:{listen}"}}}},
            "exporters": {"otlp_grpc": exporter},
            "service": {
                "pipelines": {"logs": {"receivers": ["otlp"], "exporters": ["otlp_grpc"]}},
                "telemetry": {"metrics": {"level": "none"}, "logs": {"level": "warn"}},
            },
        }
        (folder / "collector.yaml").write_text(json.dumps(config))
        return [str(program), f"--config={folder / 'collector.yaml'}"]

    return command


def _run(command: Any, data: bytes, requests: int) -> tuple[float, float]:
    """Requests per second, and microseconds of processor time for each, until the sink has all records."""
    records = sum(
        len(s.log_records) for r in ExportLogsServiceRequest.FromString(data).resource_logs for s in r.scope_logs
    )
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="otelbee-bench-")))
        sink = stack.enter_context(_program([sys.executable, str(_ROOT / "benchmarks" / "sink.py")]))
        assert sink.stdout is not None
        port, listen = int(sink.stdout.readline()), _free_port()
        middle = stack.enter_context(_program(command(folder, listen, port)))
        channel = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{listen}"))
        grpc.channel_ready_future(channel).result(_DEADLINE_S)
        export = channel.unary_unary(_METHOD)
        arrived = _send(export, data, 50) * records
        _await(sink, arrived)
        began_s, cpu_s = time.monotonic(), _cpu_s(middle.pid)
        _send(export, data, requests)
        elapsed_s = time.monotonic() - began_s
        _await(sink, requests * records)
        return requests / elapsed_s, (_cpu_s(middle.pid) - cpu_s) / requests * 1e6


def _send(export: Any, data: bytes, requests: int) -> int:
    waiting: deque[Any] = deque()
    for _ in range(requests):
        waiting.append(export.future(data))
        if len(waiting) >= _AT_ONCE:
            waiting.popleft().result()
    for call in waiting:
        call.result()
    return requests


def _await(sink: subprocess.Popen[str], records: int) -> None:
    assert sink.stdout is not None
    while records > 0:
        records -= int(sink.stdout.readline().split()[1])


@contextmanager
def _program(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    with subprocess.Popen(command, cwd=_ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(_DEADLINE_S)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _cpu_s(pid: int) -> float:
    """Processor time of a process and its children, in seconds (proc(5), stat fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return own + sum(_cpu_s(int(child)) for child in children)
