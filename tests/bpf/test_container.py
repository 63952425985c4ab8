"""Processes in a real container of the Docker Engine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from bpf.live import require_bpf, unavailable

from translators.bpf.place import place_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bpf.live import Peer

IMAGE = "otelbee-test-busybox"
BUSYBOX = Path("/bin/busybox")
START_S = 40.0


def docker(*arguments: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run the client against whichever engine is chosen."""
    return subprocess.run(["docker", *arguments], input=stdin, check=False, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Docker Engine with the image: the machine's own, or one for this test that leaves nothing behind."""
    require_bpf()
    if shutil.which("docker") is None or not BUSYBOX.exists():
        unavailable("no Docker Engine or no static busybox: apt-get install docker.io busybox-static")
    folder = tmp_path_factory.mktemp("docker")
    daemon = None
    if docker("info").returncode:
        address = f"unix://{folder}/docker.sock"
        command = ["dockerd", "-H", address, "--data-root", folder / "data", "--exec-root", folder / "exec"]
        command += ["--pidfile", folder / "pid", "--bridge", "none", "--iptables=false", "--ip6tables=false"]
        with (folder / "log").open("wb") as log:
            daemon = subprocess.Popen(command, stdout=log, stderr=log)
        os.environ["DOCKER_HOST"] = address
        deadline = time.monotonic() + START_S
        while docker("info").returncode:
            assert daemon.poll() is None, (folder / "log").read_text(encoding="utf-8")[-2000:]
            assert time.monotonic() < deadline, "dockerd did not come up"
            time.sleep(0.2)
    (folder / "root/bin").mkdir(parents=True)
    shutil.copy(BUSYBOX, folder / "root/bin/busybox")
    archive = subprocess.run(["tar", "-C", folder / "root", "-c", "."], check=True, capture_output=True).stdout
    imported = docker("import", "-", IMAGE, stdin=archive)
    assert imported.returncode == 0, imported.stderr
    yield
    docker("rmi", "-f", IMAGE)
    if daemon is not None:
        daemon.terminate()
        daemon.wait(START_S)
        del os.environ["DOCKER_HOST"]


@pytest.mark.usefixtures("engine")
@pytest.mark.timeout(120)
def test_container_of_the_docker_engine(peer: Peer, tmp_path: Path) -> None:
    """Exec and exit in a container have its full id, as the engine knows it, with arguments and exit code."""
    started = docker(
        *("run", "--network", "none", "--cidfile", str(tmp_path / "id"), IMAGE),
        *("/bin/busybox", "sh", "-c", "/bin/busybox true 'b c'; exit 3"),
    )
    assert started.returncode == 3, started.stderr
    container_id = (tmp_path / "id").read_text(encoding="ascii")
    inspected = json.loads(docker("inspect", container_id).stdout)[0]
    docker("rm", container_id)
    shell = [b"/bin/busybox", b"sh", b"-c", b"/bin/busybox true 'b c'; exit 3"]
    peer.wait_for(lambda: any(b"\0".join(shell) in record for record in peer.raw["exec"]))
    execs = [record for record in peer.all_execs() if place_of(record.cgroup).container_id == container_id]
    (outer,) = [record for record in execs if record.args == b"\0".join(shell) + b"\0"]
    exited = peer.exit_of(outer.pid)
    assert inspected["Id"] == container_id
    assert inspected["State"]["ExitCode"] == 3
    assert exited.status == 3 << 8
    assert place_of(exited.cgroup).container_id == container_id
    assert exited.identity == outer.identity
    (inner,) = [record for record in execs if record.args == b"/bin/busybox\0true\0b c\0"]
    assert inner.parent == outer.identity
    assert place_of(inner.parent_cgroup).container_id == container_id
    assert inner.path == b"/bin/busybox"
