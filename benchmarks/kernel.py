"""Our kernel programs: what an exec and an exit cost in the kernel, and from the socket's frames to OTLP bytes.

The first part needs root and bcc and is left out where either is missing.
"""

from __future__ import annotations

import gc
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from table import Row

from receiver.net.backoff import Backoff
from receiver.parent import Identity, Setup, bpf_command
from translators.batch import Origin
from translators.bpf import Options, Translator, frames
from translators.redact import Redactor

if TYPE_CHECKING:
    from collections.abc import Iterator

PROCESSES = 5_000
RUNS = 5
RECORDS_PER_CALL = 256
_BPF_STATS = Path("/proc/sys/kernel/bpf_stats_enabled")
_ORIGIN = Origin(labels={"boot_id": "00000000-0000-0000-0000-000000000000", "host_name": "bench"}, clock_offset_ns=1)
_NOW_NS = 1_763_856_000_000_000_000
_READ_SIZE = 256 * 1024


def rows() -> Iterator[Row]:
    """The kernel's part, the bpf process's memory, and the translator's part."""
    if os.geteuid() != 0 or subprocess.run(["/usr/bin/python3", "-c", "import bcc"], check=False).returncode:
        yield Row("kernel programs: need root and bcc, left out")
        return
    with tempfile.TemporaryDirectory() as folder:
        stream, costs, rss = _record(Path(folder))
    yield from costs
    yield Row("bpf process, both programs", rss_mib=rss)
    for name, redactor in (("off", None), ("on", Redactor())):
        yield _translate(stream, f"frames to OTLP, redaction {name}", redactor)


def _record(folder: Path) -> tuple[bytes, list[Row], float]:
    """Run short processes under the real programs; return the socket's bytes, the rows, and RSS in MiB."""
    before = _BPF_STATS.read_text(encoding="ascii")
    _BPF_STATS.write_text("1", encoding="ascii")
    path = folder / "bpf.sock"
    command = bpf_command(Setup(Identity(0, 0, ()), ("exec", "exit"), path, (), backoff=Backoff()))
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        stream = _stream(_connected(path))
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
        resident = re.search(r"VmRSS:\s*(\d+)", status)
        return stream, _costs(process.pid), int(resident[1]) / 1024 if resident else 0.0
    finally:
        _BPF_STATS.write_text(before, encoding="ascii")
        process.terminate()
        process.wait()


def _connected(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    deadline = time.monotonic() + 20
    while connection.connect_ex(str(path)):
        if time.monotonic() > deadline:
            raise TimeoutError(f"no bpf process at {path}")
        time.sleep(0.05)
    return connection


def _stream(connection: socket.socket) -> bytes:
    """Return what comes while short processes run."""
    script = "import os\nfor _ in range(%d): os.waitpid(os.posix_spawn('/bin/true', ['true', '--a', 'b'], {}), 0)"
    workload = subprocess.Popen([sys.executable, "-c", script % PROCESSES])
    data = b""
    connection.settimeout(1.5)
    try:
        while chunk := connection.recv(_READ_SIZE):
            data += chunk
            if workload.poll() is not None and data.count(b"/bin/true") >= PROCESSES:
                break
    except TimeoutError:
        pass
    workload.wait()
    connection.close()
    return data


def _costs(pid: int) -> list[Row]:
    """What each loaded program took, from the kernel's own statistics."""
    found = []
    for info in sorted(Path(f"/proc/{pid}/fdinfo").iterdir(), key=lambda path: int(path.name)):
        counts = dict(re.findall(r"^(run_time_ns|run_cnt):\s*(\d+)", info.read_text(encoding="ascii"), re.MULTILINE))
        if counts:
            found.append(int(counts["run_time_ns"]) / max(1, int(counts["run_cnt"])) / 1000)
    names = ("sched_process_exec", "sched_process_exit, threads too", "sched_process_fork")  # BCC loads by name
    return [Row(f"in the kernel: {name}", cost_us=cost) for name, cost in zip(names, found, strict=True)]


def _translate(stream: bytes, what: str, redactor: Redactor | None) -> Row:
    """Measure frames to OTLP on one core."""
    seconds, items, size = [], 0, 0
    for _ in range(RUNS):
        translator, reader = Translator(Options(redactor=redactor)), frames.Reader()
        items = size = 0
        gc.collect()
        start = time.process_time()
        for at in range(0, len(stream), _READ_SIZE):
            for frame in reader.feed(stream[at : at + _READ_SIZE]):
                if isinstance(frame, frames.Records):
                    for kind, records in frame.by_kind.items():
                        for first in range(0, len(records), RECORDS_PER_CALL):
                            some = records[first : first + RECORDS_PER_CALL]
                            for batch in translator.translate(kind, some, _ORIGIN, _NOW_NS).batches:
                                items += batch.items
                                size += len(batch.data)
        seconds.append(time.process_time() - start)
    cost = median(seconds)
    return Row(what, items / cost, cost / items * 1e6, size / items)
