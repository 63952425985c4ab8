"""``otelbee doctor``, the built command, against the real Collector and everything that can be wrong around it."""

from __future__ import annotations

import json
import os
import pty
import socket
import sqlite3
import subprocess
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from peers.processes import Collector, Otelbee, TetragonPeer, free_port, run_otelbee

from tests.receiver.net.certificates import Authority

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ROOT = Path(__file__).resolve().parents[2]
COLLECTOR = "exporter::otlp_grpc"


class Result(NamedTuple):
    """What it said."""

    code: int
    findings: list[dict[str, str]]

    def of(self, check: str) -> dict[str, str]:
        """The one finding of a check."""
        (found,) = [finding for finding in self.findings if finding["check"] == check]
        return found

    def failed(self) -> dict[str, str]:
        """The one failure, which has a cause and a remedy of one line each."""
        (found,) = [finding for finding in self.findings if finding["verdict"] == "fail"]
        assert self.code == 1
        assert found["cause"]
        assert found["remedy"]
        assert "\n" not in found["cause"] + found["remedy"]
        return found


class Doctor:
    """Runs the command on a configuration of which everything is well unless the test says otherwise."""

    def __init__(self, folder: Path) -> None:
        """Follow a file, export into a file."""
        self.folder = folder
        log = folder / "tetragon.log"
        log.touch()
        self.sources: dict[str, Any] = {"tetragon_file": {"path": str(log)}}
        self.exporter: dict[str, Any] = {"file": {"path": str(folder / "out.jsonl")}}
        self.endpoint = f"127.0.0.1:{free_port()}"

    def to(self, endpoint: str, **settings: Any) -> Doctor:
        """Export to a Collector, in plain text unless ``tls`` is given."""
        self.exporter = {"otlp_grpc": {"endpoint": endpoint, "tls": {"insecure": True}, **settings}}
        return self

    def write(self, **sections: Any) -> Path:
        """Write the configuration."""
        config = {"sources": self.sources, "exporter": self.exporter, "telemetry": {"endpoint": self.endpoint}}
        path = self.folder / "doctor.yaml"
        path.write_text(json.dumps({**config, **sections}))
        return path

    def examine(self, **sections: Any) -> Result:
        """Run the command for programs."""
        done = run_otelbee("doctor", "--json", "--config", self.write(**sections))
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        found = json.loads(done.stdout)
        assert found["works"] == (done.returncode == 0)
        return Result(done.returncode, found["findings"])


@pytest.fixture
def doctor(tmp_path: Path) -> Doctor:
    """A configuration that works."""
    return Doctor(tmp_path)


@pytest.fixture
def collector(tmp_path: Path, peers: None) -> Iterator[Callable[..., Collector]]:  # noqa: ARG001 - the fixture that builds it
    """A function that starts the real Collector."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(Collector(tmp_path, **settings))


def test_all_is_well(doctor: Doctor, collector: Callable[..., Collector], tmp_path: Path) -> None:
    """Exit code 0, every step of the way is named, and nothing was written."""
    running = collector(signals=("logs", "traces", "metrics"))
    doctor.sources["otlp"] = {"protocols": {"grpc": {"endpoint": "127.0.0.1:0"}, "http": {"endpoint": "127.0.0.1:0"}}}
    before = {path for path in tmp_path.iterdir() if path.name != "doctor.yaml"}
    result = doctor.to(running.endpoint).examine(storage=str(tmp_path / "storage"))
    assert (result.code, {finding["verdict"] for finding in result.findings}) == (0, {"ok"})
    assert [finding["check"] for finding in result.findings] == [
        "config",
        "telemetry::endpoint",
        "storage",
        f"{COLLECTOR}::endpoint (DNS)",
        f"{COLLECTOR}::endpoint (TCP)",
        f"{COLLECTOR}::tls",
        f"{COLLECTOR} (logs, traces, metrics)",
        "sources::tetragon_file",
        "sources::otlp",
    ]
    assert {path for path in tmp_path.iterdir() if path.name != "doctor.yaml"} - before == set()
    assert running.records() == []


def test_a_wrong_configuration(tmp_path: Path) -> None:
    """Every problem is a finding, and the exit code is that of a wrong configuration."""
    path = tmp_path / "wrong.yaml"
    path.write_text("sources: {tetragon: {endpont: x}}\nexporter: {debug: {verbosity: loud}}\n")
    done = run_otelbee("doctor", "--config", path)
    assert done.returncode == 2
    assert done.stdout.decode().count("FAIL") == 2
    assert 'did you mean "endpoint"?' in done.stdout.decode()
    assert "It would not work: 2 problems." in done.stdout.decode()


@pytest.mark.parametrize(
    ("endpoint", "check", "cause", "remedy"),
    [
        ("no-such-host.invalid:4317", "endpoint (DNS)", "cannot be resolved", "DNS of this machine"),
        ("127.0.0.1:1", "endpoint (TCP)", "Connection refused", "start the Collector"),
        ("unix:///no/such.sock", "endpoint", "No such file", "start the Collector"),
    ],
)
def test_a_collector_that_cannot_be_reached(doctor: Doctor, endpoint: str, check: str, cause: str, remedy: str) -> None:
    """The first step that fails is named; those behind it are not tried."""
    failed = doctor.to(endpoint).examine().failed()
    assert failed["check"] == f"{COLLECTOR}::{check}"
    assert cause in failed["cause"]
    assert remedy in failed["remedy"]


def test_a_server_that_is_none(doctor: Doctor) -> None:
    """What listens there and says something else is not taken for a Collector."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        process = subprocess.Popen(
            [sys.executable, "-c", _HTTP_1, str(server.fileno())], pass_fds=[server.fileno()], stderr=subprocess.DEVNULL
        )
        try:
            failed = doctor.to(f"127.0.0.1:{server.getsockname()[1]}").examine().failed()
        finally:
            process.kill()
            process.wait()
    assert failed["check"].startswith(f"{COLLECTOR} (logs")
    assert "4318 is OTLP/HTTP" in failed["remedy"]


_HTTP_1 = """
import http.server, socket, sys
server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler, bind_and_activate=False)
server.socket = socket.socket(fileno=int(sys.argv[1]))
server.serve_forever()
"""


def test_certificates(doctor: Doctor, collector: Callable[..., Collector], tmp_path: Path) -> None:
    """Authority, name, plain text on either side: each is told from the others."""
    authority = Authority(tmp_path)
    pair = authority.issue("collector.example")
    tls = {"cert_file": str(pair.cert_file), "key_file": str(pair.key_file)}
    endpoint = collector(receiver={"tls": tls}, signals=("logs", "traces", "metrics")).endpoint
    trusted = {"ca_file": str(authority.ca_file)}
    cases: list[tuple[Mapping[str, Any], str]] = [
        ({}, "tls.ca_file"),
        (trusted, "tls.server_name_override"),
        ({"insecure": True}, "expects TLS"),
        ({"ca_file": str(tmp_path / "none.pem")}, "correct the path"),
    ]
    for settings, remedy in cases:
        assert remedy in doctor.to(endpoint, tls=settings).examine().failed()["remedy"]
    right = doctor.to(endpoint, tls={**trusted, "server_name_override": "collector.example"}).examine()
    assert right.code == 0
    assert right.of(f"{COLLECTOR}::tls")["cause"] == "TLSv1.3 with collector.example"


def test_tls_to_a_server_without(doctor: Doctor, collector: Callable[..., Collector]) -> None:
    """A Collector that speaks plain text is said to."""
    failed = doctor.to(collector().endpoint, tls={}).examine().failed()
    assert failed["check"] == f"{COLLECTOR}::tls"
    assert "tls.insecure: true" in failed["remedy"]


def test_a_wrong_token(doctor: Doctor, collector: Callable[..., Collector], tmp_path: Path) -> None:
    """The Collector's own authenticator refuses it; with the right one all is well."""
    token = tmp_path / "token"
    running = collector(
        receiver={"auth": {"authenticator": "bearertokenauth"}},
        extensions={"bearertokenauth": {"token": "the-right-one"}},
        signals=("logs", "traces", "metrics"),
    )
    doctor.to(running.endpoint, auth={"bearertokenauth": {"filename": str(token)}})
    assert "token" in doctor.examine().failed()["cause"] + doctor.examine().failed()["remedy"]
    token.write_text("another-one")
    failed = doctor.examine().failed()
    assert "UNAUTHENTICATED" in failed["cause"]
    assert "check the token" in failed["remedy"]
    token.write_text("the-right-one")
    assert doctor.examine().code == 0


def test_a_pipeline_that_is_missing(doctor: Doctor, collector: Callable[..., Collector]) -> None:
    """It matters where a source makes that signal, and is a note where none does."""
    doctor.to(collector(signals=("logs",)).endpoint)
    result = doctor.examine()
    assert result.code == 0
    assert result.of(f"{COLLECTOR} (traces)")["verdict"] == "note"
    doctor.sources["tetragon_file"]["process_spans"] = True
    failed = doctor.examine().failed()
    assert failed["check"] == f"{COLLECTOR} (traces)"
    assert "add one, or turn process_spans off" in failed["remedy"]


def test_ports_that_are_taken(doctor: Doctor) -> None:
    """By somebody else: for the own endpoint and for a listener of a source."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        failed = doctor.examine(telemetry={"endpoint": address}).failed()
        assert failed["check"] == "telemetry::endpoint"
        assert "another process listens there" in failed["cause"]
        doctor.sources["otlp"] = {"protocols": {"grpc": {"endpoint": address}}}
        failed = doctor.examine().failed()
        assert failed["check"] == "sources::otlp"
        assert failed["remedy"] == "choose another address"


def test_the_otelbee_that_runs_is_no_problem(doctor: Doctor, tmp_path: Path) -> None:
    """Its ports and its storage are its own, and are noted."""
    port = free_port()
    doctor.sources["otlp"] = {"protocols": {"http": {"endpoint": f"127.0.0.1:{port}"}}}
    config = {"sources": doctor.sources, "exporter": doctor.exporter, "storage": str(tmp_path / "storage")}
    with Otelbee(tmp_path, config) as running:
        doctor.endpoint = running._own
        result = doctor.examine(storage=str(tmp_path / "storage"))
        assert running.ready()
    assert result.code == 0
    notes = [finding["check"] for finding in result.findings if finding["verdict"] == "note"]
    assert notes == ["telemetry::endpoint", "storage", "sources::otlp"]


def test_what_cannot_be_written(doctor: Doctor, tmp_path: Path) -> None:
    """Storage of a newer version or in no directory, and files in folders that are not there."""
    (tmp_path / "file").touch()
    assert "is no directory" in doctor.examine(storage=str(tmp_path / "file")).failed()["cause"]
    storage = tmp_path / "newer"
    storage.mkdir()
    with closing(sqlite3.connect(storage / "otelbee.sqlite3")) as database:
        database.execute("PRAGMA user_version = 1000")
    failed = doctor.examine(storage=str(storage)).failed()
    assert "a newer otelbee" in failed["cause"]
    assert [path.name for path in storage.iterdir()] == ["otelbee.sqlite3"]
    doctor.exporter = {"file": {"path": str(tmp_path / "none" / "out")}}
    failed = doctor.examine().failed()
    assert failed["check"] == "exporter::file::path"
    assert "does not exist" in failed["cause"]


@pytest.mark.usefixtures("peers")
def test_sources(doctor: Doctor, tmp_path: Path, shared_data: Callable[..., Path]) -> None:
    """An agent that is there and one that is not, a file that may not be there: in the words of the source itself."""
    doctor.sources = {"tetragon": {"endpoint": f"unix://{tmp_path}/tetragon.sock"}}
    failed = doctor.examine().failed()
    assert failed["check"] == "sources::tetragon"
    assert "does not exist" in failed["cause"]
    assert "--server-address" in failed["remedy"]
    with TetragonPeer(tmp_path, shared_data("tetragon", "recordings", "net.pb.gz")) as peer:
        doctor.sources = {"tetragon": {"endpoint": peer.address}}
        result = doctor.examine()
        assert result.code == 0
        assert "connected to" in result.of("sources::tetragon")["cause"]
    doctor.sources = {"tetragon_file": {"path": str(tmp_path / "none.log")}}
    assert "--export-filename" in doctor.examine().failed()["remedy"]


def test_for_people(doctor: Doctor) -> None:
    """Cause and remedy stand on lines of their own; colour is for terminals, and not where NO_COLOR is set."""
    path = doctor.to("127.0.0.1:1").write()
    plain = run_otelbee("doctor", "--config", path).stdout.decode()
    assert "\x1b" not in plain
    lines = plain.splitlines()
    (at,) = [number for number, line in enumerate(lines) if line.startswith("FAIL")]
    assert lines[at + 1].strip().startswith("-> start the Collector")
    assert lines[-1] == "It would not work: 1 problem."
    for environment, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        assert ("\x1b[31mFAIL" in _in_a_terminal(path, environment)) is coloured


def _in_a_terminal(path: Path, environment: Mapping[str, str]) -> str:
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "receiver.cli", "doctor", "--config", str(path)]
    done = subprocess.run(command, cwd=ROOT, stdout=slave, env=os.environ | environment, check=False, timeout=60)
    os.close(slave)
    assert done.returncode == 1
    shown = os.read(master, 1 << 16).decode()
    os.close(master)
    return shown
