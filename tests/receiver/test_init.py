"""``otelbee init``: what it writes for what is really there."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from bpf.live import require_bpf
from peers.processes import Collector, Otelbee, TetragonPeer, free_port, run_otelbee

from receiver.config import load_text
from receiver.init import First, Places, first
from receiver.parent import UNDER_PARENT
from receiver.registry import SOURCES

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]


def nowhere(folder: Path) -> Places:
    """A machine on which nothing is."""
    return Places(
        discovery_file=folder / "tetragon-info.json",
        tetragon_socket=folder / "tetragon.sock",
        export_files=(folder / "tetragon.log",),
        bpf_socket=folder / "bpf.sock",
        collector=f"127.0.0.1:{free_port()}",
        own=f"127.0.0.1:{free_port()}",
        storage=folder / "storage",
    )


def written(made: First) -> dict[str, object]:
    """The configuration, without what is in comments."""
    loaded: dict[str, object] = yaml.safe_load(made.text)
    return loaded


def reason(made: First, key: str) -> str:
    """The comment above a key, whether that is on or off."""
    (block,) = [block for block in made.text.split("\n\n") if re.search(rf"^ *(# )?{key}:", block, re.MULTILINE)]
    return " ".join(re.findall(r"# (.*)", block.partition(f"{key}:")[0]))


@pytest.fixture(name="unprivileged")
def _unprivileged(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a receiver that has a parent: it loads no kernel program itself, whoever runs the test."""
    monkeypatch.setenv(UNDER_PARENT, "1")


@pytest.mark.usefixtures("unprivileged")
async def test_on_a_machine_with_nothing_it_listens(tmp_path: Path) -> None:
    """Only what is pushed can come, so that is on, on localhost; all else stands in comments with its reason."""
    made = await first(nowhere(tmp_path))
    sources = written(made)["sources"]
    assert isinstance(sources, dict)
    assert set(sources) == {name for name, entry in SOURCES.items() if "protocols" in entry.config.model_fields}
    endpoints = re.findall(r"endpoint: (\S+)", yaml.safe_dump(sources))
    assert endpoints
    assert all(endpoint.startswith("localhost:") for endpoint in endpoints)
    assert "does not exist" in reason(made, "tetragon")
    assert "does not exist" in reason(made, "tetragon_file")
    assert "no bpf process runs" in reason(made, "bpf")
    assert "Connection refused" in reason(made, "otlp_grpc")
    assert [finding.verdict for finding in made.findings if finding.check != "storage"] == ["note"] * 4


@pytest.mark.usefixtures("unprivileged")
async def test_every_block_that_is_off_can_be_switched_on(tmp_path: Path) -> None:
    """Taking the marks away from a block gives a valid configuration that has the section."""
    text = (await first(nowhere(tmp_path))).text
    for name in ("tetragon", "tetragon_file", "bpf"):
        (block,) = re.findall(rf"^  # {name}:.*\n(?:  #   .*\n)*", text, re.MULTILINE)
        assert name in load_text(text.replace(block, block.replace("# ", ""))).sources


async def test_the_kernel(tmp_path: Path) -> None:
    """Root with BCC reads it, where no Tetragon is; the kernel's are not the agent's processes once more."""
    require_bpf()
    places = nowhere(tmp_path)
    made = await first(places)
    assert written(made)["sources"] == {"bpf": {"socket": str(places.bpf_socket)}}
    places.export_files[0].touch()
    made = await first(places)
    assert written(made)["sources"] == {"tetragon_file": {"path": str(places.export_files[0])}}
    assert "the same processes" in reason(made, "bpf")


@pytest.mark.usefixtures("peers")
@pytest.mark.parametrize("discovery", [True, False])
async def test_the_agent_s_stream(tmp_path: Path, shared_data: Callable[..., Path], *, discovery: bool) -> None:
    """An agent that answers is read, by its discovery file or by its usual socket; its export file is then off."""
    places = nowhere(tmp_path)
    (tmp_path / "exported.log").touch()
    with TetragonPeer(tmp_path, shared_data("tetragon", "recordings", "net.pb.gz")) as peer:
        if discovery:
            told = {"server_address": peer.address, "export_fname": str(tmp_path / "exported.log")}
            places.discovery_file.write_text(json.dumps(told))
        else:
            places.export_files[0].touch()
        made = await first(places)
        expected = {"discovery_file": str(places.discovery_file)} if discovery else {"endpoint": peer.address}
        assert written(made)["sources"] == {"tetragon": expected}
    assert "connected to" in reason(made, "tetragon")
    assert "the same events" in reason(made, "tetragon_file")
    if discovery:
        assert f"# path: {tmp_path / 'exported.log'}" in re.sub(" +", " ", made.text)
    assert "off until some do" in reason(made, "otlp")


@pytest.mark.usefixtures("unprivileged")
async def test_the_export_file_of_an_agent_that_does_not_answer(tmp_path: Path) -> None:
    """A stale socket is named, and the file is read."""
    places = nowhere(tmp_path)
    places.export_files[0].touch()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(places.tetragon_socket))
    made = await first(places)
    assert written(made)["sources"] == {"tetragon_file": {"path": str(places.export_files[0])}}
    assert str(places.tetragon_socket) in reason(made, "tetragon")


@pytest.mark.usefixtures("peers")
async def test_a_collector_that_answers(tmp_path: Path) -> None:
    """It is asked with an empty request."""
    with Collector(tmp_path, signals=("logs", "traces", "metrics")) as collector:
        made = await first(nowhere(tmp_path)._replace(collector=collector.endpoint))
        assert collector.records() == []
    assert written(made)["exporter"] == {"otlp_grpc": {"endpoint": collector.endpoint, "tls": {"insecure": True}}}
    assert reason(made, "otlp_grpc").startswith("a Collector answers here")


async def test_ports_that_are_taken(tmp_path: Path) -> None:
    """Each listener gets the next port that nobody has, none the same one."""
    made = await first(nowhere(tmp_path))
    usual = re.findall(r"endpoint: localhost:(\d+)", made.text)
    with socket.create_server(("127.0.0.1", 0)) as own:
        address = f"127.0.0.1:{own.getsockname()[1]}"
        with socket.create_server(("127.0.0.1", int(usual[0]))):
            made = await first(nowhere(tmp_path)._replace(own=address))
    telemetry = written(made)["telemetry"]
    assert isinstance(telemetry, dict)
    assert telemetry["endpoint"] != address
    assert f"{address} is another process's" in made.text
    chosen = re.findall(r"endpoint: localhost:(\d+)", made.text)
    assert usual[0] not in chosen
    assert len(set(chosen)) == len(chosen) == len(usual)
    assert any("is taken" in finding.cause for finding in made.findings)


def test_the_otelbee_that_runs_is_to_be_replaced(tmp_path: Path) -> None:
    """Its own port is kept: what is written is for the one that comes after it."""
    config = {
        "sources": {"otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{free_port()}"}}}},
        "exporter": {"file": {"path": str(tmp_path / "out.jsonl")}},
    }
    with Otelbee(tmp_path, config) as running:
        made = asyncio.run(first(nowhere(tmp_path)._replace(own=running._own)))
    assert "telemetry" not in written(made)


async def test_what_cannot_be_stored(tmp_path: Path) -> None:
    """Without a folder that may be written, storage is off."""
    (tmp_path / "file").touch()
    made = await first(nowhere(tmp_path)._replace(storage=tmp_path / "file"))
    assert "storage" not in written(made)
    assert "is no directory" in reason(made, "storage")


class TestCommand:
    """The command itself, on this very machine."""

    def test_writes_a_file_that_is_valid(self, tmp_path: Path) -> None:
        """With the folder it lies in; what was found goes to stderr, and the next command."""
        path = tmp_path / "etc" / "otelbee.yaml"
        done = run_otelbee("init", "-o", path)
        assert (done.returncode, done.stdout) == (0, b"")
        assert "sources::tetragon" in done.stderr.decode()
        assert f"otelbee doctor --config {path}" in done.stderr.decode()
        checked = run_otelbee("validate", "--config", path)
        assert (checked.returncode, checked.stderr) == (0, b"")

    def test_does_not_write_over_a_file(self, tmp_path: Path) -> None:
        """Unless told to."""
        path = tmp_path / "otelbee.yaml"
        path.write_text("mine")
        done = run_otelbee("init", "-o", path)
        assert (done.returncode, path.read_text()) == (2, "mine")
        assert "--force" in done.stderr.decode()
        assert run_otelbee("init", "-o", path, "--force").returncode == 0
        assert path.read_text() != "mine"

    def test_says_where_it_cannot_write(self, tmp_path: Path) -> None:
        """Below a file there is no folder."""
        (tmp_path / "file").touch()
        done = run_otelbee("init", "-o", tmp_path / "file" / "otelbee.yaml")
        assert done.returncode == 2
        assert "cannot be written" in done.stderr.decode()

    def test_writes_to_standard_output_without_root(self) -> None:
        """And nothing else than the configuration."""
        command = [sys.executable, "-m", "receiver.cli", "init"]
        if os.geteuid() == 0:
            command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr
        load_text(done.stdout)
        assert "Traceback" not in done.stderr
