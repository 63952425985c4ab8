"""What ``make run`` does: lets otelbee translate what this machine's kernel and a recording of Tetragon say.

Three real programs, as they would run on a node: the recording behind Tetragon's gRPC service (``otelbee replay``),
``otelbee run``, and the Collector on localhost:4317 where there is one. As root, otelbee also shows the processes that
start and end on this machine meanwhile, from the kernel; for that it needs BCC, which is installed where it is missing.
"""

from __future__ import annotations

import os
import platform
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
from collections import Counter
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
SYSTEM_PYTHON = "/usr/bin/python3"
"""Where the distribution's BCC lives."""


def main() -> int:
    """Run the demonstration; the exit code is 0 unless a part of it does not work here."""
    collector = sys.argv[1] if len(sys.argv) > 1 else "localhost:4317"
    forwarding = answers(collector)
    say(f"A Collector answers on {collector}: forwarding to it." if forwarding else f"No Collector on {collector}.")
    reason = without_kernel(os.geteuid())
    say(reason or "Live from this machine's kernel: every process that starts and ends. Beside it, a recording.")
    with tempfile.TemporaryDirectory(prefix="otelbee-demo-") as folder:
        tetragon = f"unix://{folder}/tetragon.sock"
        own = f"localhost:{free_port()}"
        config = EXAMPLES / ("demo-collector.yaml" if forwarding else "demo.yaml")
        replay = ["replay", "tetragon", str(RECORDING), "--listen", tetragon, "--rate", str(EVENTS_PER_S)]
        run = ["run", "--config", str(config), "--set", f"telemetry.endpoint={own}"]
        run += ["--set", f"sources.tetragon.endpoint={tetragon}"]
        run += ["--set", f"exporter.otlp_grpc.endpoint={collector}"] if forwarding else []
        run += [] if reason else ["--set", f"sources.bpf.socket={folder}/bpf.sock"]
        with otelbee(*replay):
            wait_for(lambda: Path(tetragon.removeprefix("unix://")).exists(), "the recording is served")
            with otelbee(*run, stdout=subprocess.PIPE) as process:
                shown = threading.Thread(target=show, args=(process.stdout,))
                shown.start()
                seen = watch(own, process, live=not reason)
            shown.join()
    summarise(seen, collector if forwarding else "")
    return 0 if seen.get(RECORDED) else 1


def without_kernel(uid: int) -> str:
    """Make ready to load kernel programs; says why this machine's own processes cannot be shown, "" where they can."""
    if uid != 0:
        return (
            "Root sees more: 'sudo make run' also shows this machine's own processes, live from the kernel, with BCC "
            "(python3-bpfcc). Without root, here is a recording."
        )
    if has_bcc():
        return ""
    if not is_debian():
        return (
            f"For live process events install BCC for {SYSTEM_PYTHON} (Fedora: dnf install python3-bcc) and start this "
            "again. Until then, here is a recording."
        )
    say("Installing BCC, which compiles the kernel programs: apt-get install python3-bpfcc")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update", "-qq"], ["install", "-qq", "--yes", "--no-install-recommends", "python3-bpfcc"]):
        done = subprocess.run(["/usr/bin/apt-get", *arguments], env=environment, stdout=subprocess.DEVNULL, check=False)
        if done.returncode:
            return f"'apt-get {arguments[0]}' failed, see above: no live process events. Here is a recording."
    return "" if has_bcc() else f"python3-bpfcc is installed, but {SYSTEM_PYTHON} has no bcc. Here is a recording."


def has_bcc() -> bool:
    """Whether the distribution's interpreter has BCC."""
    command = [SYSTEM_PYTHON, "-I", "-c", "import bcc"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def is_debian() -> bool:
    """Whether this is Debian, Ubuntu or one of their descendants, with apt-get."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return False
    return bool({"debian", "ubuntu"} & {release["ID"], *release.get("ID_LIKE", "").split()}) and bool(
        shutil.which("apt-get")
    )


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


def watch(own: str, process: subprocess.Popen[bytes], *, live: bool) -> dict[str, float]:
    """Wait until the recording is through, or for Ctrl-C; otelbee's metrics at that time.

    With ``live``, also start a few programs for the kernel to tell of, once it does.
    """
    seen: dict[str, float] = {}
    last_change_s = time.monotonic()
    end_s = last_change_s + DEADLINE_S
    try:
        while time.monotonic() < min(end_s, last_change_s + 3):
            if process.poll() is not None:
                sys.exit(f"otelbee ended with {process.returncode}; see above")
            now = metrics(own)
            if live and now.get(LIVE_UP):
                start_programs()
                live = False
                last_change_s = time.monotonic()
            if live or not now.get(RECORDED) or now.get(RECORDED) != seen.get(RECORDED):
                last_change_s = time.monotonic()
            seen = now
            time.sleep(0.5)
    except KeyboardInterrupt:
        seen = metrics(own) or seen
    return seen


def start_programs() -> None:
    """Start programs as they start everywhere: one that fails, one with a secret, one that a signal ends."""
    for script in ("exit 7", ": curl -u deploy:Sommer2026 https://example.com", "kill -TERM $$"):
        subprocess.run(["/bin/sh", "-c", script], check=False)


ACCEPTED, SENT = "otelbee_receiver_accepted_log_records", "otelbee_exporter_sent_log_records"
RECORDED, LIVE, LIVE_UP = f"{ACCEPTED} tetragon", f"{ACCEPTED} bpf", "otelbee_source_up bpf"


def metrics(own: str) -> dict[str, float]:
    """What otelbee counts, by metric, with the source's name where it has one, or by what a translator counts.

    Empty while it starts.
    """
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{own}/metrics", timeout=5) as response:
            text = response.read().decode()
    except OSError:
        return {}
    found: Counter[str] = Counter()
    for metric, listed, value in re.findall(r"^(\w+)(?:\{([^}]*)\})? (\S+)$", text, re.MULTILINE):
        labels = dict(re.findall(r'(\w+)="([^"]*)"', listed))
        name = labels.get("name") or (f"{metric} {labels['receiver']}" if "receiver" in labels else metric)
        found[name] += float(value)
    return found


def summarise(seen: dict[str, float], collector: str) -> None:
    """Say what happened, where it went when that is a Collector, and what to do next."""
    say("")
    say(f"{seen.get(RECORDED, 0):.0f} events of Tetragon became as many OTLP log records.")
    if seen.get(LIVE_UP):
        say(f"{seen.get(LIVE, 0):.0f} starts and ends of processes on this machine, live from the kernel, did as well.")
    if redacted := sum(count for name, count in seen.items() if name.startswith("redacted")):
        say(f"{redacted:.0f} secrets in their arguments were replaced before anything was queued: <redacted:...>.")
    if collector:
        say(f"The Collector on {collector} has {seen.get(SENT, 0):.0f} of all these.")
    else:
        say("Start a Collector, examples/collector.yaml configures one, and they go there as well.")
    say("")
    say("Next: your own agent       PYTHONPATH=. .venv/bin/python -m receiver.cli run --config examples/tetragon.yaml")
    say("      your own kernel      PYTHONPATH=. .venv/bin/python -m receiver.cli run --config examples/bpf.yaml")
    say("      a file of its events PYTHONPATH=. .venv/bin/python -m receiver.cli translate tetragon FILE")
    say("      every option         docs/config.md, docs/sources/tetragon.md, docs/sources/bpf.md")


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
