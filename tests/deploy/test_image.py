"""The two images: who they run as, what they hold, and that the same sources give the same layers."""

from __future__ import annotations

import json
import subprocess
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import pytest
from deploy.images import docker

from deploy.compose import FOLDER, compose

if TYPE_CHECKING:
    from deploy.images import Images

pytestmark = pytest.mark.timeout(900)

HARDENED = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=none")
MIB = 1024 * 1024


def files(image: str) -> set[PurePosixPath]:
    """Every path in an image."""
    container = docker("create", image, "nothing")
    try:
        archive = subprocess.run(["docker", "export", container], check=True, capture_output=True).stdout
    finally:
        docker("rm", container)
    listed = subprocess.run(["tar", "-t"], input=archive, check=True, capture_output=True).stdout.decode()
    return {PurePosixPath("/", line) for line in listed.splitlines()}


def inspected(image: str) -> Any:
    """What the engine knows of an image."""
    return json.loads(docker("image", "inspect", image))[0]


def test_receiver_runs_without_any_privilege(product: Images) -> None:
    """Read-only, without a capability, new privileges or a network, the receiver's interpreter is uid 65532."""
    say = "print(open('/proc/self/status').read()); open('/tmp/x', 'w')"
    python = ("--entrypoint=/opt/otelbee/bin/python", product.otelbee, "-I", "-c")
    done = subprocess.run(
        ["docker", "run", "--rm", *HARDENED, *python, say], check=False, capture_output=True, text=True
    )
    status = dict(line.split(":\t", 1) for line in done.stdout.splitlines() if ":\t" in line)
    assert status["Uid"].split() == status["Gid"].split() == ["65532"] * 4
    assert status["CapEff"] == status["CapPrm"] == status["CapBnd"] == "0" * 16
    assert status["NoNewPrivs"] == "1"
    assert "Read-only file system" in done.stderr
    assert docker("run", "--rm", *HARDENED, product.otelbee, "version").startswith("otelbee ")


@pytest.mark.parametrize("name", ["otelbee", "otelbee_bpf"])
def test_image_holds_what_runs_and_nothing_else(product: Images, name: str) -> None:
    """No program but Python and the command; no pip, no cache, no test, no header; each side has only its own code."""
    held = files(getattr(product, name))
    programs = {path.name for path in held if path.parent.name in {"bin", "sbin", "libexec"}}
    assert {name for name in programs if not name.startswith("python3")} <= {"otelbee", "python"}
    assert not [path for path in held if {"pip", "tests", "test", ".cache", "apt"} & set(path.parts)]
    assert not [
        path for path in held if path.suffix in {".h", ".hpp", ".a", ".pyx"} and "otelbee" not in path.parts[:4]
    ]
    ours = {path.parts[4] for path in held if path.is_relative_to("/usr/lib/otelbee") and len(path.parts) > 4}
    assert ours == ({"receiver", "translators"} if name == "otelbee" else {"bpf"})
    assert any(path.name.startswith("libLLVM") for path in held) == (name == "otelbee_bpf")


def test_images_stay_small(product: Images) -> None:
    """The receiver's has 205 MiB, of which pyarrow is 100; the bpf process's has 262 MiB, of which LLVM and clang are 165."""
    assert inspected(product.otelbee)["Size"] < 220 * MIB
    assert inspected(product.otelbee_bpf)["Size"] < 280 * MIB


def test_image_says_what_it_is(product: Images) -> None:
    """Labels of the OCI, a fixed user, a health check and defaults that read a mounted configuration."""
    config = inspected(product.otelbee)["Config"]
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in config["Labels"].items()}
    assert labels["title"] == "otelbee"
    assert labels["licenses"] == "Apache-2.0"
    assert {"description", "version", "revision"} <= set(labels)
    assert config["User"] == "65532:65532"
    assert config["Cmd"] == ["run", "--config", "/etc/otelbee/otelbee.yaml"]
    assert "/ready" in config["Healthcheck"]["Test"][-1]


def test_same_sources_give_the_same_layers(product: Images) -> None:
    """The other builder, BuildKit, without any cache, makes the very layers that the classic one made."""
    again = {"OTELBEE_IMAGE": f"{product.otelbee}-again", "OTELBEE_BPF_IMAGE": f"{product.otelbee_bpf}-again"}
    files = [part for name in ("compose.yaml", "compose.local.yaml") for part in ("--file", FOLDER / name)]
    build = ("build", "--no-cache", "otelbee", "otelbee-bpf")
    try:
        compose(*files, *build, environment=again | {"BASE": product.debian})
        for first in (product.otelbee, product.otelbee_bpf):
            assert inspected(f"{first}-again")["RootFS"]["Layers"] == inspected(first)["RootFS"]["Layers"]
    finally:
        subprocess.run(["docker", "rmi", *again.values()], check=False, capture_output=True)
