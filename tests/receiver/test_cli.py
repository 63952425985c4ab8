"""The command, run as a program: what it writes where, and its exit codes."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from receiver.cli import main
from receiver.recording import read_numbered
from translators.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
CASES = Path(__file__).parent / "config"
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("OTELBEE__")}
COMMAND = [sys.executable, "-W", "error", "-m", "receiver.cli"]


def otelbee(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run the command to its end."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        cwd=ROOT,
        env=ENVIRONMENT,
        timeout=30,
        check=False,
    )


class Started:
    """A command that runs on."""

    def __init__(self, *arguments: str | Path) -> None:
        """Start it."""
        self.process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            env=ENVIRONMENT,
            text=True,
        )
        self.said: list[str] = []

    def until_it_says(self, pattern: str) -> re.Match[str]:
        """Read stderr until a line matches."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)
            if found := re.search(pattern, line):
                return found
        pytest.fail(f"it ended without saying {pattern!r}:\n{''.join(self.said)}")

    def ends(self) -> int:
        """Wait for the end; gives the exit code."""
        assert self.process.stderr is not None
        self.said += self.process.stderr.readlines()
        return self.process.wait(timeout=20)


@pytest.fixture(name="start")
def _start() -> Iterator[Callable[..., Started]]:
    started: list[Started] = []

    def start(*arguments: str | Path) -> Started:
        started.append(Started(*arguments))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()
        if each.process.stderr is not None:
            each.process.stderr.close()


class TestHelp:
    """What it says about itself."""

    def test_version(self) -> None:
        """The version of the package."""
        done = otelbee("version")
        assert (done.returncode, done.stdout.decode(), done.stderr) == (0, f"otelbee {VERSION}\n", b"")

    def test_components(self) -> None:
        """Sources with their stability, and exporters."""
        lines = otelbee("components").stdout.decode().splitlines()
        assert lines[:3] == ["sources:", "  - name: tetragon", "    stability: alpha"]
        assert lines[-4:] == ["exporters:", "  - name: otlp_grpc", "  - name: debug", "  - name: file"]

    def test_help_names_every_command(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Each command has one line, and a help of its own."""
        shown = otelbee("--help").stdout.decode()
        for name in ("init", "run", "validate", "components", "translate", "replay", "version"):
            assert re.search(rf"^  {name} +\S", shown, re.MULTILINE)
            with pytest.raises(SystemExit, match=r"^0$"):
                main([name, "--help"])
            assert capsys.readouterr().out.startswith(f"usage: otelbee {name}")

    @pytest.mark.parametrize("arguments", [(), ("runn",), ("run", "x"), ("translate", "tetragon", "a", "b")])
    def test_wrong_usage(self, arguments: tuple[str, ...]) -> None:
        """Wrong usage is exit code 2, and the usage on stderr."""
        done = otelbee(*arguments)
        assert (done.returncode, done.stdout) == (2, b"")
        assert b"usage: otelbee" in done.stderr


class TestValidate:
    """``otelbee validate``."""

    def test_right_is_silent(self) -> None:
        """Nothing is said about what is right, and nothing is started."""
        done = otelbee("validate", "--config", CASES / "full.yaml", "--config", CASES / "overlay.yaml")
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")

    def test_wrong_is_all_that_is_wrong(self) -> None:
        """Every problem is a line on stderr."""
        done = otelbee("validate", "--config", CASES / "typo_value.yaml", "--set", "x=1")
        assert (done.returncode, done.stdout) == (2, b"")
        assert len(done.stderr.splitlines()) == 4
        assert b'did you mean "detailed"?' in done.stderr


class TestTranslate:
    """``otelbee translate``."""

    def test_json_and_protobuf_in_json_and_protobuf_out(self, shared_data: Callable[..., Path], tmp_path: Path) -> None:
        """Both inputs of one recording, in both formats, hold the same records."""
        recordings = shared_data("tetragon", "recordings")
        requests = []
        for name in ("base_default.pb.gz", "base_default.jsonl.gz"):
            proto = otelbee("translate", "tetragon", recordings / name, "--format", "proto")
            assert (proto.returncode, proto.stderr) == (0, b"")
            (tmp_path / "out").write_bytes(proto.stdout)
            with (tmp_path / "out").open("rb") as stream:
                requests.append([ExportLogsServiceRequest.FromString(each.data) for each in read_numbered(stream)])
            as_json = otelbee("translate", "tetragon", "-", stdin=(recordings / name).read_bytes())
            assert as_json.returncode == 0
            assert [count(json.loads(line)) for line in as_json.stdout.splitlines()] == [
                sum(len(scope.log_records) for each in request.resource_logs for scope in each.scope_logs)
                for request in requests[-1]
            ]
        assert uids(requests[0]) == uids(requests[1])
        assert len(uids(requests[0])) == 349

    def test_a_bad_line_is_named_and_its_neighbours_are_kept(self, shared_data: Callable[..., Path]) -> None:
        """Exit code 1; the number is that of the file, blank lines counted."""
        lines = gzip.decompress(shared_data("tetragon", "recordings", "throttle.jsonl.gz").read_bytes()).splitlines()
        done = otelbee("translate", "tetragon", stdin=b"\n".join([lines[0], b"", b"not json", lines[1]]))
        assert done.returncode == 1
        assert sum(count(json.loads(line)) for line in done.stdout.splitlines()) == 2
        assert re.match(rb"^standard input: line 3: malformed: ", done.stderr)
        assert len(done.stderr.splitlines()) == 1

    def test_a_recording_that_is_cut_off(self, shared_data: Callable[..., Path], tmp_path: Path) -> None:
        """What is whole is translated, then the damage is reported."""
        data = gzip.decompress(shared_data("tetragon", "recordings", "throttle.pb.gz").read_bytes())
        cut = tmp_path / "cut.pb"
        cut.write_bytes(data[:5000])
        done = otelbee("translate", "tetragon", cut)
        assert done.returncode == 1
        assert sum(count(json.loads(line)) for line in done.stdout.splitlines()) > 3
        assert re.fullmatch(rf"{cut}: message \d+ at offset \d+ is cut off: \d+ of \d+ bytes\n", done.stderr.decode())

    def test_options(self, shared_data: Callable[..., Path]) -> None:
        """--set reaches the source, the resource and redaction, before or after the file."""
        path = shared_data("tetragon", "recordings", "throttle.jsonl.gz")
        done = otelbee(
            "translate", "tetragon", "--set", "log_record_uid=false", path, "--set", "resource.attributes={team: blue}"
        )
        assert done.returncode == 0
        assert b"log.record.uid" not in done.stdout
        assert b'{"key":"team","value":{"stringValue":"blue"}}' in done.stdout

    def test_secrets_are_redacted_unless_told_otherwise(self) -> None:
        """Redaction is on here as everywhere."""
        event = b'{"process_exec":{"process":{"binary":"/bin/x","arguments":"--password hunter2"}}}'
        assert b"hunter2" not in otelbee("translate", "tetragon", stdin=event).stdout
        shown = otelbee("translate", "tetragon", "--set", "redaction.enabled=false", stdin=event)
        assert b"hunter2" in shown.stdout

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["tetragn"], 'unknown source; did you mean "tetragon"'),
            (["otlp"], "otlp: unknown source of recorded data"),
            (["tetragon_file"], 'did you mean "tetragon"'),
            (["tetragon", "/does/not/exist"], "/does/not/exist: No such file or directory"),
            (["tetragon", "--set", "command_arg=1"], 'did you mean "command_args"'),
        ],
    )
    def test_what_cannot_begin(self, arguments: list[str], message: str) -> None:
        """Exit code 2 and the reason."""
        done = otelbee("translate", *arguments)
        assert (done.returncode, done.stdout) == (2, b"")
        assert message in done.stderr.decode()

    @pytest.mark.parametrize("rate", ["many", "0", "-1", "nan", "inf"])
    def test_a_rate_that_is_none(self, rate: str) -> None:
        """The message says what a rate is."""
        done = otelbee("replay", "tetragon", "x", "--listen", "127.0.0.1:0", f"--rate={rate}")
        assert (done.returncode, done.stdout) == (2, b"")
        assert f"--rate: '{rate}' is not a number above 0" in done.stderr.decode()

    def test_nobody_reads_on(self, shared_data: Callable[..., Path]) -> None:
        """A reader that has seen enough (``| head``) is no reason to complain."""
        command = [*COMMAND, "translate", "tetragon", str(shared_data("tetragon", "recordings", "argtypes.pb.gz"))]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, env=ENVIRONMENT
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.read(10)
            process.stdout.close()
            said = process.stderr.read()
            assert (process.wait(timeout=20), said) == (141, b"")


class TestRun:
    """``otelbee run`` and ``otelbee replay``, against each other."""

    def test_without_a_configuration_it_says_what_to_do(self, tmp_path: Path) -> None:
        """The command that writes one, and the command that starts with it; the first gives what the second needs."""
        done = otelbee("run")
        assert done.returncode == 2
        assert b"    otelbee init -o otelbee.yaml\n    otelbee run --config otelbee.yaml\n" in done.stderr
        assert otelbee("init", "-o", tmp_path / "otelbee.yaml").returncode == 0
        assert otelbee("validate", "--config", tmp_path / "otelbee.yaml").returncode == 0

    def test_events_of_a_replay_reach_the_file(
        self, start: Callable[..., Started], shared_data: Callable[..., Path], tmp_path: Path
    ) -> None:
        """Every recorded event is one log record, behind the gap of the start; SIGTERM drains and is a success."""
        replay = start(
            "replay", "tetragon", shared_data("tetragon", "recordings", "net.pb.gz"), "--listen", "127.0.0.1:0"
        )
        agent = replay.until_it_says(r"is served at (\S+)")[1]
        output = tmp_path / "out.jsonl"
        service = start(*minimal(output, agent))
        address = service.until_it_says(r"served at (http://\S+)")[1]
        service.until_it_says("Everything is ready")
        wait_for_metric(address, 'otelbee_receiver_accepted_log_records{receiver="tetragon"}', 260)
        service.process.send_signal(signal.SIGTERM)
        assert service.ends() == 0
        assert "Shutdown complete." in service.said[-1]
        requests = output.read_text().splitlines()
        gaps = sum(request.count('"eventName":"otelbee.source.gap"') for request in requests)
        assert (gaps, sum(count(json.loads(request)) for request in requests) - gaps) == (1, 260)
        replay.process.send_signal(signal.SIGINT)
        assert replay.ends() == 0

    def test_a_second_signal_stops_at_once(
        self, start: Callable[..., Started], shared_data: Callable[..., Path]
    ) -> None:
        """Draining towards a Collector that is away ends with the second signal, exit code 1, and says what is lost."""
        recording = shared_data("tetragon", "recordings", "net.pb.gz")
        replay = start("replay", "tetragon", recording, "--listen", "127.0.0.1:0")
        agent = replay.until_it_says(r"is served at (\S+)")[1]
        exporter = "exporter={otlp_grpc: {endpoint: 127.0.0.1:1, tls: {insecure: true}}}"
        service = start(
            "run",
            "--set",
            f"sources.tetragon={{endpoint: '{agent}', exclude_self: false}}",
            "--set",
            exporter,
            "--set",
            "telemetry.endpoint=127.0.0.1:0",
            "--set",
            "shutdown_timeout=60s",
        )
        address = service.until_it_says(r"served at (http://\S+)")[1]
        wait_for_metric(address, 'otelbee_receiver_accepted_log_records{receiver="tetragon"}', 260)
        service.process.send_signal(signal.SIGTERM)
        service.until_it_says("Starting shutdown")
        began = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        assert service.ends() == 1
        assert time.monotonic() - began < 15
        assert "stopped at once by a second signal" in service.said[-1]

    def test_a_wrong_start_is_exit_code_2(self, tmp_path: Path) -> None:
        """A file that cannot be opened is a start error with its reason, not a traceback."""
        done = otelbee(*minimal(tmp_path / "none" / "out", "unix:///none"))
        assert done.returncode == 2
        assert b"Traceback" not in done.stderr
        assert str(tmp_path / "none").encode() in done.stderr


def minimal(output: Path, agent: str) -> list[str]:
    """Arguments that run the tetragon source into a file."""
    settings = {
        "sources.tetragon.endpoint": agent,
        "sources.tetragon.exclude_self": "false",  # a recorded pid may be ours by chance
        "exporter.file.path": output,
        "telemetry.endpoint": "127.0.0.1:0",
    }
    return ["run", *(part for path, value in settings.items() for part in ("--set", f"{path}={value}"))]


def wait_for_metric(address: str, name: str, value: float) -> None:
    """Poll /metrics until a sample has a value."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with urllib.request.urlopen(f"{address}/metrics") as response:
            text = response.read().decode()
        if f"{name} {value}" in text:
            return
        time.sleep(0.05)
    pytest.fail(f"{name} did not become {value}:\n{text}")


def count(request: dict[str, list[dict[str, list[dict[str, list[object]]]]]]) -> int:
    """Log records in one line of JSON."""
    return sum(len(scope["logRecords"]) for each in request["resourceLogs"] for scope in each["scopeLogs"])


def uids(requests: list[ExportLogsServiceRequest]) -> list[str]:
    """log.record.uid of every record, sorted."""
    return sorted(
        attribute.value.string_value
        for request in requests
        for each in request.resource_logs
        for scope in each.scope_logs
        for record in scope.log_records
        for attribute in record.attributes
        if attribute.key == "log.record.uid"
    )
