"""docs/deploy/sidecar.md, followed to the letter: what it says to run, to look at and to remove."""

from __future__ import annotations

import json
import os
import re
import shlex
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from deploy.images import ROOT, docker, run
from peers.processes import until

from deploy.compose import SEEN_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from deploy.images import Images

pytestmark = pytest.mark.timeout(900)

PAGE = (ROOT / "docs/deploy/sidecar.md").read_text()
NAME = f"otelbee-test-{os.getpid()}"


@contextmanager
def collector(images: Images, folder: Path) -> Iterator[str]:
    """A Collector in a container, with the receiver that everybody has; its name."""
    receivers = {"otlp": {"protocols": {"grpc": {"endpoint": "localhost:4317"}}}}
    pipeline = {"receivers": ["otlp"], "exporters": ["debug"]}
    service = {"pipelines": dict.fromkeys(("logs", "traces", "metrics"), pipeline)}
    config = {"receivers": receivers, "exporters": {"debug": {}}, "service": service}
    (folder / "collector.yaml").write_text(json.dumps(config))
    mount = f"--volume={folder}/collector.yaml:/etc/collector.yaml:ro"
    docker("run", "--detach", f"--name={NAME}-collector", mount, images.collector, "--config=/etc/collector.yaml")
    try:
        yield f"{NAME}-collector"
    finally:
        docker("rm", "--force", "--volumes", f"{NAME}-collector")


def commands(section: str, images: Images) -> list[str]:
    """The commands of a section, with the names that this test gives to containers and images."""
    (block,) = re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    block = re.sub(r"\botelbee:[\d.]+$", images.otelbee, block.replace("\\\n", " "), flags=re.MULTILINE)
    for name in ("otelbee-sidecar", "otelbee-queue"):
        block = block.replace(name, NAME)
    block = block.replace("COLLECTOR", f"{NAME}-collector")
    return [command for line in block.strip().splitlines() for command in line.split(" && ")]


def test_the_page_is_right(product: Images, tmp_path: Path) -> None:
    """The container is healthy, its doctor finds the Collector, and nothing of it is left in the end."""
    head, see, remove = PAGE.split("\n## ")
    (example,) = re.findall(r"^```yaml\n(.*?)^```", head, re.MULTILINE | re.DOTALL)
    (tmp_path / "otelbee.yaml").write_text(example)
    _, start = commands(re.sub(r"```yaml.*", "", head, flags=re.DOTALL), product)
    doctor, health = commands(see, product)
    delete, volume, image = commands(remove, product)
    with collector(product, tmp_path):
        # The image asks every ten seconds.
        asked_often = start.replace("docker run", "docker run --health-interval=1s", 1)
        run(*shlex.split(asked_often.replace("$PWD", str(tmp_path))))
        try:
            until(lambda: run(*shlex.split(health)) == "healthy\n", "the container is healthy", SEEN_S)
            assert "FAIL" not in run(*shlex.split(doctor))
        finally:
            run(*shlex.split(delete))
    run(*shlex.split(volume))
    assert NAME not in docker("ps", "--all", "--format={{.Names}}")
    assert image.split() == ["docker", "rmi", product.otelbee]
