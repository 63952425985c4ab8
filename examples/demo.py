"""What ``make run`` does: plays a recording of Tetragon, lets otelbee translate it, and says what was seen.

Three real programs, as they would run on a node: the recording behind Tetragon's gRPC service (``otelbee replay``),
``otelbee run``, and the Collector on localhost:4317 where there is one.
"""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = Path(__file__).resolve().parent
RECORDING = EXAMPLES / "tetragon-demo.pb.gz"
EVENTS_PER_S = 25
DEADLINE_S = 30.0


def main() -> int:
    """Run the demonstration; the exit code is 0 unless a part of it does not work here."""
    collector = sys.argv[1] if len(sys.argv) > 1 else "localhost:4317"
    forwarding = answers(collector)
    say(f"A Collector answers on {collector}: forwarding to it." if forwarding else f"No Collector on {collector}.")
    with tempfile.TemporaryDirectory(prefix="otelbee-demo-") as folder:
        tetragon = f"unix://{folder}/tetragon.sock"
        own = f"localhost:{free_port()}"
        config = EXAMPLES / ("demo-collector.yaml" if forwarding else "demo.yaml")
        replay = ["replay", "tetragon", str(RECORDING), "--listen", tetragon, "--rate", str(EVENTS_PER_S)]
        run = ["run", "--config", str(config), "--set", f"telemetry.endpoint={own}"]
        run += ["--set", f"sources.tetragon.endpoint={tetragon}"]
        run += ["--set", f"exporter.otlp_grpc.endpoint={collector}"] if forwarding else []
        with otelbee(*replay):
            wait_for(lambda: Path(tetragon.removeprefix("unix://")).exists(), "the recording is served")
            with otelbee(*run, stdout=subprocess.PIPE) as process:
                shown = threading.Thread(target=show, args=(process.stdout,))
                shown.start()
                seen = watch(own, process)
            shown.join()
    summarise(seen, collector if forwarding else "")
    return 0 if seen.get(ACCEPTED) else 1


def answers(collector: str) -> bool:
    """Whether an OTLP server takes an empty request; asked once."""
    with grpc.insecure_channel(collector, options=[("grpc.enable_http_proxy", 0)]) as channel:
        export = channel.unary_unary("/opentelemetry.proto.collector.logs.v1.LogsService/Export")
        try:
            export(b"", timeout=2)
        except grpc.RpcError:
            return False
    return True


@contextmanager
def otelbee(*arguments: str, stdout: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run otelbee in a session of its own, so that Ctrl-C reaches only this script, which stops both in order."""
    process = subprocess.Popen(
        [sys.executable, "-m", "receiver.cli", *arguments], start_new_session=True, stdout=stdout
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def show(lines: IO[bytes]) -> None:
    """Pass on what otelbee shows; a terminal gets only what fits on its lines."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in lines:
        say(line.decode(errors="replace").rstrip("\n")[:width])


def watch(own: str, process: subprocess.Popen[bytes]) -> dict[str, float]:
    """Wait until no more records come, or for Ctrl-C; otelbee's metrics at that time."""
    seen: dict[str, float] = {}
    last_change_s = time.monotonic()
    end_s = last_change_s + DEADLINE_S
    try:
        while time.monotonic() < min(end_s, last_change_s + 3):
            if process.poll() is not None:
                sys.exit(f"otelbee ended with {process.returncode}; see above")
            now = metrics(own)
            if not now.get(SENT) or now.get(SENT) != seen.get(SENT):
                last_change_s = time.monotonic()
            seen = now
            time.sleep(0.5)
    except KeyboardInterrupt:
        seen = metrics(own) or seen
    return seen


ACCEPTED, SENT = "otelbee_receiver_accepted_log_records", "otelbee_exporter_sent_log_records"


def metrics(own: str) -> dict[str, float]:
    """What otelbee counts, by metric and, of what its translator counts, by name; empty while it starts."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{own}/metrics", timeout=5) as response:
            text = response.read().decode()
    except OSError:
        return {}
    samples = re.findall(r'^(\w+)(?:\{[^}]*?(?:name="([^"]*)")?[^}]*\})? (\S+)$', text, re.MULTILINE)
    return {name or metric: float(value) for metric, name, value in samples}


def summarise(seen: dict[str, float], collector: str) -> None:
    """Say what happened, where it went when that is a Collector, and what to do next."""
    say("")
    say(f"{seen.get(ACCEPTED, 0):.0f} events of Tetragon became as many OTLP log records.")
    if redacted := sum(count for name, count in seen.items() if name.startswith("redacted")):
        say(f"{redacted:.0f} secrets in their arguments were replaced before anything was queued: <redacted:...>.")
    if collector:
        say(f"The Collector on {collector} has {seen.get(SENT, 0):.0f} of them.")
    else:
        say("Start a Collector, examples/collector.yaml configures one, and they go there as well.")
    say("")
    say("Next: your own agent       PYTHONPATH=. .venv/bin/python -m receiver.cli run --config examples/tetragon.yaml")
    say("      a file of its events PYTHONPATH=. .venv/bin/python -m receiver.cli translate tetragon FILE")
    say("      every option         docs/config.md, docs/sources/tetragon.md")


def wait_for(condition: Any, what: str) -> None:
    """Wait for a condition that comes true soon; ends the demonstration when it does not."""
    end_s = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > end_s:
            sys.exit(f"waited {DEADLINE_S:.0f} s until {what}; see above")
        time.sleep(0.05)


def free_port() -> int:
    """A TCP port of localhost that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def say(text: str) -> None:
    """Write a line for the user."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(0)
