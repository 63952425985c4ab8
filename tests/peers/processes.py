"""Programs that run beside a test: the real Collector, the stand-in for Tetragon's agent, and otelbee itself.

Each is a context manager that starts the program, waits by condition until it is ready, and ends it. What a program
writes lies in files of the test's folder, so that nothing has to be read while it runs.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from peers import build, records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

T = TypeVar("T")

ROOT = Path(__file__).resolve().parent.parent.parent
# A proxy of the environment is not for what runs on this machine.
_HTTP = urllib.request.build_opener(urllib.request.ProxyHandler({}))

DEADLINE_S = 30.0
"""How long anything that should happen may take; nothing waits this long when all is well."""


def until(condition: Callable[[], T], what: str, deadline_s: float = DEADLINE_S) -> T:
    """Return the first true value of ``condition``; fail with ``what`` was waited for when there is none in time."""
    end = time.monotonic() + deadline_s
    while not (value := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"waited {deadline_s:g} s for {what}")
        time.sleep(0.02)
    return value


def free_port() -> int:
    """A TCP port of localhost that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Program:
    """A process with its output in ``<folder>/<name>.out`` and ``.err``; both are kept over restarts."""

    def __init__(self, name: str, command: Sequence[str | Path], folder: Path) -> None:
        """Name the process; nothing runs before :meth:`start`."""
        self.name = name
        self.folder = folder
        self._command = [str(part) for part in command]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start, and wait until ready."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the process, if it still runs, whatever the test did."""
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def start(self) -> None:
        """Start the process and wait until it is ready."""
        self.launch()
        self.until(self.ready, "it is ready")

    def launch(self) -> None:
        """Start the process; it is not ready yet."""
        out, err = self.folder / f"{self.name}.out", self.folder / f"{self.name}.err"
        with out.open("ab") as stdout, err.open("ab") as stderr:
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr
            )

    def ready(self) -> bool:
        """Whether the process can be used."""
        return True

    def until(self, condition: Callable[[], T], what: str, deadline_s: float = DEADLINE_S) -> T:
        """Wait for ``condition``; fail at once, with its last words, when the process ends meanwhile."""

        def met() -> T | None:
            if value := condition():
                return value
            assert self.running, f"{self.name} ended before {what}:\n{self.errors()[-4000:]}"
            return None

        try:
            return until(met, f"{self.name}: {what}", deadline_s)  # type: ignore[return-value] - a true value is no None
        except TimeoutError as error:
            error.add_note(f"{self.name} said:\n{self.errors()[-4000:]}")
            raise

    @property
    def running(self) -> bool:
        """Whether the process was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id; another one after each start."""
        assert self._process is not None
        return self._process.pid

    @property
    def peak_bytes(self) -> int:
        """The most memory that it had resident since it was started (proc(5), ``VmHWM``); it must be running."""
        (peak,) = re.findall(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{self.pid}/status").read_text(), re.MULTILINE)
        return int(peak) * 1024

    def wait(self, deadline_s: float = DEADLINE_S) -> int:
        """Wait for the process to end by itself; its exit code."""
        assert self._process is not None
        return self._process.wait(deadline_s)

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self, deadline_s: float = DEADLINE_S) -> int:
        """Ask the process to end (SIGTERM) and wait; its exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(deadline_s)

    def kill(self) -> None:
        """End the process without a chance to do anything about it (SIGKILL)."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(DEADLINE_S)

    def output(self) -> str:
        """What it wrote to standard output so far."""
        return (self.folder / f"{self.name}.out").read_text(errors="replace")

    def errors(self) -> str:
        """What it wrote to standard error so far."""
        return (self.folder / f"{self.name}.err").read_text(errors="replace")


class Collector(Program):
    """The real Collector: OTLP/gRPC in; JSON and length-prefixed protobuf files out, and nothing kept back."""

    def __init__(
        self,
        folder: Path,
        *,
        receiver: Mapping[str, Any] | None = None,
        processors: Mapping[str, Any] | None = None,
        extensions: Mapping[str, Any] | None = None,
        signals: Sequence[str] = ("logs",),
        formats: Sequence[str] = ("json", "proto"),
        port: int | None = None,
    ) -> None:
        """Write its configuration; ``receiver`` adds to the settings of the OTLP receiver's gRPC server.

        ``processors`` are those of every pipeline, in this order; there is a pipeline for each of ``signals``, and a
        file of each of ``formats``.
        ``port`` is where it listens, a free one otherwise.
        """
        self.port, self._health = port or free_port(), free_port()
        self.json, self.proto = folder / "collector.jsonl", folder / "collector.pb"
        self._records: list[Any] = []
        self._read = 0
        # With rotation the file exporter writes at once; without, it buffers for a second what it already acknowledged.
        files = {
            f"file/{form}": {
                "path": str(self.json if form == "json" else self.proto),
                "format": form,
                "rotation": {"max_megabytes": 1000},
            }
            for form in formats
        }
        pipeline = {"receivers": ["otlp"], "processors": list(processors or {}), "exporters": list(files)}
        config = {
            "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": self.endpoint, **(receiver or {})}}}},
            "processors": processors or {},
            "exporters": files,
            "extensions": {"health_check": {"endpoint": f"127.0.0.1:{self._health}"}, **(extensions or {})},
            "service": {
                "extensions": ["health_check", *(extensions or {})],
                "pipelines": dict.fromkeys(signals, pipeline),
                "telemetry": {"metrics": {"level": "none"}},
            },
        }
        (folder / "collector.yaml").write_text(json.dumps(config))
        flags = ["--feature-gates=service.profilesSupport", f"--config={folder / 'collector.yaml'}"]
        super().__init__("collector", [build.otelcol(), *flags], folder)

    @property
    def endpoint(self) -> str:
        """``host:port`` of its OTLP receiver."""
        return f"127.0.0.1:{self.port}"

    def ready(self) -> bool:
        """Whether its health check says so."""
        return _status(f"http://127.0.0.1:{self._health}/") == 200

    def records(self) -> list[Any]:
        """Every log record that it received so far."""
        if self.proto.exists():
            with self.proto.open("rb") as file:
                file.seek(self._read)
                for message in records.frames(file.read()):
                    self._records += records.records_of(message)
                    self._read += records.LENGTH_BYTES + len(message)
        return list(self._records)

    def count(self) -> int:
        """How many log records it received so far; quicker than to read them."""
        return sum(map(records.count, records.frames(self.proto.read_bytes()))) if self.proto.exists() else 0

    def json_requests(self) -> list[dict[str, Any]]:
        """What it received so far, as the file exporter's JSON file has it: all that the other file has, and no less.

        The Collector hands a request to one exporter after the other, in an order that differs from start to start.
        """

        def whole() -> list[bytes]:
            lines = self.json.read_bytes().splitlines(keepends=True) if self.json.exists() else []
            return [line for line in lines if line.endswith(b"\n")]

        requests = sum(1 for _ in records.frames(self.proto.read_bytes())) if self.proto.exists() else 0
        self.until(lambda: len(whole()) >= requests, f"its JSON file has {requests} requests")
        return [json.loads(line) for line in whole()]

    def received(self, count: int, deadline_s: float = DEADLINE_S) -> list[Any]:
        """Wait until it has ``count`` log records or more."""
        self.until(lambda: len(self.records()) >= count, f"it has {count} log records", deadline_s)
        return self.records()


class TetragonPeer(Program):
    """The stand-in for Tetragon's agent; ``flags`` as its ``--help`` has them."""

    def __init__(self, folder: Path, *files: Path, flags: Sequence[str] = (), name: str = "tetragon") -> None:
        """Serve ``files`` on a unix socket in ``folder``; by default from the first client on, until it is ended."""
        self.address = f"unix://{folder / 'tetragon.sock'}"
        recordings = [f"--file={path}" for path in files]
        command = [build.tetragon(), f"--listen={self.address}", "--wait-for-client", "--linger", *flags, *recordings]
        super().__init__(name, command, folder)
        self._before = 0

    def start(self) -> None:
        """Start; what an earlier run reported is no longer looked at."""
        path = self.folder / f"{self.name}.out"
        self._before = path.stat().st_size if path.exists() else 0
        super().start()

    def ready(self) -> bool:
        """Whether it listens."""
        return bool(self.reported("listening"))

    def reported(self, event: str) -> list[dict[str, Any]]:
        """Its reports of one kind so far: ``listening``, ``client``, ``client_gone``, ``end``, ``stats``."""
        with (self.folder / f"{self.name}.out").open("rb") as output:
            output.seek(self._before)
            lines = [json.loads(line) for line in output if line.endswith(b"\n")]
        return [line for line in lines if line["event"] == event]

    def report(self, event: str) -> dict[str, Any]:
        """Wait for a report of one kind; the last one."""
        return self.until(lambda: self.reported(event), f"it reports {event!r}")[-1]


class Otelbee(Program):
    """``otelbee run`` with a configuration; its health and metrics are on a free port."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        """Write the configuration; JSON is YAML."""
        self._own = f"127.0.0.1:{free_port()}"
        telemetry = {"endpoint": self._own, **config.get("telemetry", {})}
        self._config = folder / "otelbee.yaml"
        self._config.write_text(json.dumps({**config, "telemetry": telemetry}))
        super().__init__("otelbee", [sys.executable, "-m", "receiver.cli", "run", "--config", self._config], folder)

    def as_user(self, uid: int) -> None:
        """Run as another user, without its groups, from the next start on."""
        prefix = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
        self._command = [*prefix, *self._command]

    def ready(self) -> bool:
        """Whether ``/ready`` says so."""
        return _status(f"http://{self._own}/ready") == 200

    def configure(self, config: Mapping[str, Any]) -> None:
        """Write another configuration; it is read at the next start or reload."""
        self._config.write_text(json.dumps({**config, "telemetry": {"endpoint": self._own}}))

    def report(self) -> dict[str, Any]:
        """The body of ``/ready``, whatever its status."""
        try:
            with _HTTP.open(f"http://{self._own}/ready", timeout=5) as response:
                body: dict[str, Any] = json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                body = json.load(error)
        return body

    def source(self, name: str) -> dict[str, Any]:
        """What the body of ``/ready`` says about a source: ``up``, ``paused``, ``reason``."""
        state: dict[str, Any] = self.report()["sources"][name]
        return state

    def metrics(self) -> dict[str, float]:
        """Its metrics by name, summed over their labels; use :meth:`metric` for one set of labels."""
        sums: dict[str, float] = {}
        for name, _, value in self._samples():
            sums[name] = sums.get(name, 0.0) + value
        return sums

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry ``labels``; 0 when there are none."""
        wanted = {f'{key}="{value}"' for key, value in labels.items()}
        return sum(value for sample, have, value in self._samples() if sample == name and wanted <= have)

    def series(self) -> list[str]:
        """Every series of its metrics, by name and labels."""
        return [f"{name}{{{','.join(sorted(labels))}}}" for name, labels, _ in self._samples()]

    def metric_names(self) -> set[str]:
        """Every metric that it has, also those without a series yet."""
        with _HTTP.open(f"http://{self._own}/metrics", timeout=5) as response:
            return set(re.findall(r"^# TYPE (\w+)", response.read().decode(), re.MULTILINE))

    def _samples(self) -> Iterator[tuple[str, set[str], float]]:
        with _HTTP.open(f"http://{self._own}/metrics", timeout=5) as response:
            text = response.read().decode()
        for match in re.finditer(r"^(\w+)(?:\{(.*)\})? (\S+)$", text, re.MULTILINE):
            yield match[1], set(re.findall(r'\w+="[^"]*"', match[2] or "")), float(match[3])


def open_to_others(folder: Path) -> Path:
    """Let other users look into a test's folder: pytest's own, above it, belong to who runs it alone."""
    base = Path(tempfile.gettempdir())
    for path in (folder, *folder.parents):
        if path != base and path.is_relative_to(base):
            path.chmod(0o755)
    return folder


def run_otelbee(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run one of otelbee's commands that end by themselves."""
    return subprocess.run(
        [sys.executable, "-m", "receiver.cli", *map(str, arguments)],
        cwd=ROOT,
        input=stdin,
        capture_output=True,
        timeout=DEADLINE_S * 2,
        env={key: value for key, value in os.environ.items() if not key.startswith("OTELBEE__")},
        check=False,
    )


def translated(*files: Path) -> list[Any]:
    """The records of ``otelbee translate`` of recordings, without a server anywhere."""
    # Gzip members may stand one behind the other, and so may length-prefixed messages.
    done = run_otelbee("translate", "tetragon", "-", "--format", "proto", stdin=b"".join(map(Path.read_bytes, files)))
    assert (done.returncode, done.stderr) == (0, b""), done.stderr.decode(errors="replace")[-2000:]
    return [record for message in records.frames(done.stdout) for record in records.records_of(message)]


def _status(url: str) -> int:
    """The HTTP status of ``url``; 0 while nobody answers."""
    try:
        with _HTTP.open(url, timeout=5) as response:
            status: int = response.status
            return status
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return 0
