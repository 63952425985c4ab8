"""The life of the built command: reload, what it tells systemd, and stops that end in time."""

from __future__ import annotations

import gzip
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from peers.processes import Collector, Otelbee, translated
from peers.records import own_events, uids

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
NOBODY_LISTENS = "127.0.0.1:1"


class Life:
    """otelbee following files, exporting to the Collector or to nobody."""

    def __init__(self, stack: ExitStack, folder: Path, lines: list[bytes], collector: Collector) -> None:
        """Prepare; nothing runs yet."""
        self._stack = stack
        self._folder = folder
        self._left = lines
        self.collector = collector
        self.written: list[bytes] = []

    def file(self, name: str) -> Path:
        """One of the files that can be followed."""
        path = self._folder / f"{name}.log"
        path.touch()
        return path

    def config(self, endpoint: str, *files: str, **more: Any) -> dict[str, Any]:
        """A configuration that follows ``files``."""
        followed = {"start_at": "beginning", "exclude_self": False, **more}
        return {
            "sources": {f"tetragon_file/{name}": {"path": str(self.file(name)), **followed} for name in files},
            "exporter": {
                "otlp_grpc": {
                    "endpoint": endpoint,
                    "tls": {"insecure": True},
                    "sending_queue": {"batch": {"flush_timeout": "50ms"}},
                    "retry_on_failure": {"initial_interval": "60s", "max_interval": "60s"},
                }
            },
        }

    def run(self, config: dict[str, Any]) -> Otelbee:
        """Start otelbee."""
        return self._stack.enter_context(Otelbee(self._folder, config))

    def write(self, name: str, count: int) -> None:
        """Append lines that nobody has seen before."""
        lines, self._left = self._left[:count], self._left[count:]
        self.written += lines
        with self.file(name).open("ab") as file:
            file.writelines(line + b"\n" for line in lines)

    def expected(self) -> set[str]:
        """The ids of everything that was written."""
        path = self._folder / "expected.jsonl"
        path.write_bytes(b"".join(line + b"\n" for line in self.written))
        return set(uids(translated(path)))

    def all_arrives(self) -> None:
        """Wait until the Collector has everything that was written."""
        expected = self.expected()
        self.collector.until(lambda: set(uids(self.collector.records())) >= expected, "it has every line")


@pytest.fixture
def life(tmp_path: Path, peers: None, shared_data: Callable[..., Path]) -> Iterator[Life]:  # noqa: ARG001 - the fixture that builds the Collector
    """The Collector runs, otelbee does not yet."""
    with gzip.open(shared_data("tetragon", "recordings", "highvol.jsonl.gz")) as file, ExitStack() as stack:
        lines = [next(file).rstrip(b"\n") for _ in range(500)]
        yield Life(stack, tmp_path, lines, stack.enter_context(Collector(tmp_path)))


def reloaded(otelbee: Otelbee, config: dict[str, Any], says: str = "Reload ") -> str:
    """Reload, and return what is said then."""
    before = len(otelbee.errors())
    otelbee.configure(config)
    otelbee.signal(signal.SIGHUP)
    return otelbee.until(
        lambda: said if says in (said := otelbee.errors()[before:]) and said.endswith("\n") else None, f"it says {says}"
    )


def test_reload_moves_what_is_queued_to_the_new_exporter(life: Life) -> None:
    """What waited for a Collector that was not there is delivered to the one that the reload names, at once."""
    otelbee = life.run(life.config(NOBODY_LISTENS, "a"))
    life.write("a", 100)
    otelbee.until(lambda: "Exporting failed; retrying" in otelbee.errors(), "it fails to export")
    said = reloaded(otelbee, life.config(life.collector.endpoint, "a"), "Reload done")
    assert "exporter rebuilt" in said
    assert "restarted" not in said
    life.write("a", 100)
    life.all_arrives()
    assert not otelbee.metrics().get("otelbee_dropped_items")


def test_reload_restarts_what_changed_and_nothing_else(life: Life) -> None:
    """Sources come, go and change; one whose section is the same runs on."""
    otelbee = life.run(life.config(life.collector.endpoint, "same", "changed", "gone"))
    for name in ("same", "changed", "gone"):
        life.write(name, 20)
    life.all_arrives()
    config = life.config(life.collector.endpoint, "same", "changed", "new")
    config["sources"]["tetragon_file/changed"]["command_args"] = True
    said = reloaded(otelbee, config, "Reload done")
    assert "Reload done: stopped tetragon_file/gone; restarted tetragon_file/changed; started tetragon_file/new" in said
    for name in ("same", "new"):
        life.write(name, 20)
    life.all_arrives()
    assert set(otelbee.report()["sources"]) == {f"tetragon_file/{name}" for name in ("same", "changed", "new")}
    assert otelbee.errors().count("source tetragon_file/same started") == 1
    assert 'otelbee_source_up{receiver="tetragon_file/gone"}' not in otelbee.series()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"sources": {"tetragon_file": {"path": "/x", "pat": 1}}}, "sources::tetragon_file::pat: unknown key"),
        ({"exporter": {"otlp_grpc": {"endpoint": "x:1", "tls": {"ca_file": "/none"}}}}, "/none"),
    ],
    ids=["invalid", "cannot start"],
)
def test_reload_of_a_wrong_configuration_changes_nothing(life: Life, wrong: dict[str, Any], says: str) -> None:
    """Every problem is said, the configuration from before stays, and it works on."""
    good = life.config(life.collector.endpoint, "a")
    otelbee = life.run(good)
    said = reloaded(otelbee, {**good, **wrong}, "stays in force")
    assert says in said
    life.write("a", 20)
    life.all_arrives()
    assert otelbee.ready()


def test_reload_says_what_needs_a_restart(life: Life, tmp_path: Path) -> None:
    """Storage and the size of the queue stay as they were, in words; the rest is taken up."""
    config = life.config(life.collector.endpoint, "a")
    otelbee = life.run(config)
    config["storage"] = str(tmp_path / "storage")
    config["exporter"]["otlp_grpc"]["sending_queue"]["queue_size"] = "32MiB"
    config["sources"]["tetragon_file/b"] = {"path": str(life.file("b")), "start_at": "beginning"}
    said = reloaded(otelbee, config, "takes effect with a restart")
    assert "what changed in storage, sending_queue takes effect with a restart" in said
    assert "started tetragon_file/b" in said
    assert not (tmp_path / "storage").exists()


def test_a_source_that_a_reload_restarts_tells_of_the_gap(
    shared_data: Callable[..., Path], way: Callable[..., Any]
) -> None:
    """Events that an agent sent meanwhile are lost, and the time is in the data."""
    recording = shared_data("tetragon", "recordings", "base_full.pb.gz")
    peer, otelbee, collector = way(recording, flags=["--rate=100", "--loop=10"])
    collector.received(20)
    source = {"endpoint": peer.address, "exclude_self": False, "command_args": True}
    exporter = {"otlp_grpc": {"endpoint": collector.endpoint, "tls": {"insecure": True}}}
    reloaded(otelbee, {"sources": {"tetragon": source}, "exporter": exporter}, "restarted tetragon")
    collector.until(
        lambda: [
            gap
            for gap in own_events(collector.records(), "otelbee.source.gap")
            if gap["otelbee.gap.reason"] == "the source was restarted" and gap["otelbee.gap.from"] != "unknown"
        ],
        "it is told of the gap",
    )


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_systemd_is_told(life: Life, tmp_path: Path, abstract: bool, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001 - a parameter of the test
    """READY when all runs, RELOADING with its time and READY around a reload, STOPPING at the end, and the watchdog."""
    address = f"\0otelbee-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", address.replace("\0", "@"))
        monkeypatch.setenv("WATCHDOG_USEC", "400000")
        beats = 0

        def told() -> str:
            nonlocal beats
            while (text := manager.recv(4096).decode()) == "WATCHDOG=1":
                beats += 1
            return text

        config = life.config(life.collector.endpoint, "a")
        otelbee = life.run(config)
        assert told() == "READY=1"
        otelbee.signal(signal.SIGHUP)
        reloading, stamp = told().splitlines()
        assert reloading == "RELOADING=1"
        assert 0 <= time.monotonic() - int(stamp.removeprefix("MONOTONIC_USEC=")) / 1e6 < 20
        assert told() == "READY=1"
        while beats < 2:
            assert manager.recv(4096) == b"WATCHDOG=1"
            beats += 1
        otelbee.signal(signal.SIGTERM)
        assert told() == "STOPPING=1"
        assert otelbee.wait() == 0


STUBBORN = """
import asyncio, contextlib, sys
from receiver import cli

async def ignores_its_end():
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)

async def serve(shutdown):
    asyncio.create_task(ignores_its_end())
    print("ready", flush=True)
    await shutdown
    if sys.argv[1] == "with the service":
        await ignores_its_end()

sys.exit(cli._until_signalled(serve, 0.5))
"""


@pytest.mark.parametrize("where", ["beside the service", "with the service"])
def test_what_ignores_its_end_is_ended(where: str) -> None:
    """Neither a task that is left over nor one that the stop waits for keeps the process."""
    with subprocess.Popen(
        [sys.executable, "-c", STUBBORN, where], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        began_s = time.monotonic()
        process.terminate()
        _, said = process.communicate(timeout=20)
        assert process.returncode == 1
        assert time.monotonic() - began_s < 10
        assert b"not everything stopped in time" in said
