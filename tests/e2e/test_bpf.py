"""``otelbee run`` as root: the kernel's own events in the real Collector, from a receiver without any privilege."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from bpf.live import require_bpf
from peers.processes import Collector, Otelbee, open_to_others

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SHUTDOWN_TIMEOUT_S = 3.0


class Family(Otelbee):
    """The command as root, and what is seen of its two children."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        """Give it a socket of its own."""
        self.socket = folder / "run" / "bpf.sock"
        sources = {"bpf": {"socket": str(self.socket)}}
        super().__init__(folder, {"sources": sources, "shutdown_timeout": f"{SHUTDOWN_TIMEOUT_S:g}s", **config})

    def ready(self) -> bool:
        """Whether it is ready and the kernel's events come."""
        return super().ready() and bool(self.source("bpf")["up"])

    @property
    def receiver(self) -> int:
        """The pid of the receiver; 0 while there is none."""
        return self._child(b"receiver.cli")

    @property
    def bpf(self) -> int:
        """The pid of the bpf process; 0 while there is none."""
        return self._child(b"--socket-gid")

    def _child(self, word: bytes) -> int:
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                parent = re.search(r"^PPid:\t(\d+)$", (folder / "status").read_text(), re.MULTILINE)
                if parent and int(parent[1]) == self.pid and word in (folder / "cmdline").read_bytes().split(b"\0"):
                    return int(folder.name)
        return 0


@pytest.fixture
def collector(tmp_path: Path, peers: None) -> Iterator[Collector]:  # noqa: ARG001 - the fixture that builds it
    """The real Collector."""
    require_bpf()
    with Collector(open_to_others(tmp_path)) as running:
        yield running


@pytest.fixture
def family(tmp_path: Path, collector: Collector) -> Iterator[Callable[..., Family]]:
    """A function that starts the command; nobody is left at the end."""
    with contextlib.ExitStack() as stack:

        def start(**config: Any) -> Family:
            exporter = {"otlp_grpc": {"endpoint": collector.endpoint, "tls": {"insecure": True}}}
            return stack.enter_context(Family(tmp_path, {"exporter": exporter, **config}))

        yield start


def status(pid: int) -> dict[str, str]:
    """The kernel's own words on a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {line.partition(":")[0]: line.partition(":")[2].strip() for line in lines}


def attributes(record: Any) -> dict[str, Any]:
    """A record's attributes, lists as lists."""
    return {
        each.key: [value.string_value for value in each.value.array_value.values]
        if each.value.HasField("array_value")
        else getattr(each.value, each.value.WhichOneof("value"))
        for each in record.attributes
    }


def events_of(collector: Collector, pid: int) -> dict[str, dict[str, Any]]:
    """What the Collector has on a process, by event name."""
    found = ((record.event_name, attributes(record)) for record in collector.records())
    return {name: seen for name, seen in found if seen.get("process.pid") == pid}


def test_live_exec_is_seen_with_arguments_exit_code_and_duration(
    family: Callable[..., Family], collector: Collector
) -> None:
    """A program that runs now is in the Collector's output, its start and its end."""
    family()
    child = subprocess.Popen(["/bin/sh", "-c", "sleep 0.2; exit 7", "--password=Sommer2026"])
    assert child.wait() == 7
    collector.until(lambda: len(events_of(collector, child.pid)) == 2, "it has start and end")
    seen = events_of(collector, child.pid)
    started, ended = seen["otelbee.process.exec"], seen["otelbee.process.exit"]
    expected = ["/bin/sh", "-c", "sleep 0.2; exit 7", "--password=<redacted:password>"]
    assert started["process.command_args"] == expected
    assert ended["process.exit.code"] == 7
    assert 200_000_000 < ended["otelbee.process.duration_ns"] < 10_000_000_000
    assert started["otelbee.process.exec_id"] == ended["otelbee.process.exec_id"]
    assert started["process.parent_pid"] == os.getpid()


@pytest.mark.parametrize("run_as", [{}, {"user": "65534"}], ids=["owner", "another user"])
def test_receiver_has_no_capability_and_no_new_privileges(
    family: Callable[..., Family], run_as: dict[str, str]
) -> None:
    """Whoever it is, every set is empty; the parent holds no socket but those of its event loop."""
    running = family(run_as=run_as)
    seen = status(running.receiver)
    assert {seen[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert seen["NoNewPrivs"] == "1"
    assert seen["Uid"].split() == [run_as.get("user", str(Path(__file__).stat().st_uid))] * 4
    assert "with no new privileges" in running.errors()
    bpf = status(running.bpf)
    assert int(bpf["CapEff"], 16) == int(bpf["CapBnd"], 16) == 1 << 38 | 1 << 39
    assert not _listening(running.pid)


def test_killed_children_come_back(family: Callable[..., Family], collector: Collector) -> None:
    """Either is started again, and events come again; what was missed is reported."""
    running = family()
    for name in ("receiver", "bpf"):
        before = getattr(running, name)
        os.kill(before, signal.SIGKILL)
        running.until(lambda: getattr(running, name) not in {0, before}, f"a new {name}")  # noqa: B023 - used in this turn
        running.until(running.ready, "it is ready again")
    child = subprocess.Popen(["/bin/true"])
    child.wait()
    collector.until(lambda: events_of(collector, child.pid), "it has what came after")
    assert any(record.event_name == "otelbee.source.gap" for record in collector.records())
    assert running.errors().count("killed by SIGKILL; restarted in") == 2


def test_sighup_reaches_the_receiver(family: Callable[..., Family], collector: Collector) -> None:
    """Who started the parent tells it to reload; what the bpf process was started with stays, and is said to."""
    running = family()
    exporter = {"otlp_grpc": {"endpoint": collector.endpoint, "tls": {"insecure": True}}}
    sources = {"bpf": {"socket": str(running.socket), "programs": ["exit"]}}
    receiver, bpf = running.receiver, running.bpf
    running.configure({"sources": sources, "exporter": exporter, "resource": {"host_name": "renamed"}})
    running.signal(signal.SIGHUP)
    running.until(lambda: "Reload done: restarted bpf" in running.errors(), "it reloads")
    running.until(
        lambda: "the bpf process's programs and socket takes effect with a restart" in running.errors(), "it says so"
    )
    running.until(running.ready, "it is ready again")
    assert (running.receiver, running.bpf) == (receiver, bpf)
    child = subprocess.Popen(["/bin/true"])
    child.wait()
    collector.until(lambda: events_of(collector, child.pid), "events come again")


@pytest.mark.parametrize("stopped", [(), ("bpf",), ("receiver", "bpf")], ids=["all well", "bpf hangs", "both hang"])
def test_sigterm_stops_all_in_time(family: Callable[..., Family], stopped: tuple[str, ...]) -> None:
    """Within shutdown_timeout where all is well, and a few seconds later where a child does not even run (SIGSTOP)."""
    running = family()
    children = (running.bpf, running.receiver)
    for name in stopped:
        os.kill(getattr(running, name), signal.SIGSTOP)
    began_s = time.monotonic()
    assert running.stop() == 0
    assert time.monotonic() - began_s < SHUTDOWN_TIMEOUT_S + (5 if stopped else 0)
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)
    assert not running.socket.exists() or stopped


def test_a_wrong_configuration_starts_nothing(tmp_path: Path) -> None:
    """The parent checks it first, with the exit code of any other wrong configuration."""
    require_bpf()
    running = Family(tmp_path, {"exporter": {"debug": {"verbose": True}}})
    with pytest.raises(AssertionError, match="unknown key"):
        running.start()
    assert running.wait() == 2
    assert not running.socket.parent.exists()


def test_without_root_there_is_no_bpf_process(tmp_path: Path, collector: Collector) -> None:
    """One clear line says why; the source waits for a bpf process that somebody else starts."""
    sources = {"bpf": {"socket": str(tmp_path / "bpf.sock")}}
    exporter = {"otlp_grpc": {"endpoint": collector.endpoint, "tls": {"insecure": True}}}
    running = Otelbee(tmp_path, {"sources": sources, "exporter": exporter})
    running.as_user(65534)
    with running:
        assert not running.source("bpf")["up"]
        (line,) = [line for line in running.errors().splitlines() if "no bpf process is started" in line]
        assert "not root" in line
        assert "python3 -I bpf/" in line


def _listening(pid: int) -> list[str]:
    """The sockets of a process that listen, or are connected beyond itself."""
    inodes = {
        match[1]
        for each in Path(f"/proc/{pid}/fd").iterdir()
        if (match := re.fullmatch(r"socket:\[(\d+)\]", str(each.readlink())))
    }
    tables = ("tcp", "tcp6", "udp", "udp6")
    return [
        line
        for table in tables
        for line in Path("/proc/net", table).read_text().splitlines()
        if inodes & set(line.split())
    ]
