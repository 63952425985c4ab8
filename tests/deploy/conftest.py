"""A Docker Engine with the images, for the tests of what is shipped."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from peers import build

from deploy import images
from deploy.compose import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deploy.images import Images

PROGRAMS = {
    "docker": "docker.io",
    "dockerd": "docker.io",
    "debootstrap": "debootstrap",
    "busybox": "busybox-static",
    "prometheus": "prometheus",
}
"""By program, the Debian package that has it."""


def unavailable(reason: str) -> None:
    """Skip the calling test where it cannot run; fail it where CI runs."""
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Docker Engine."""
    missing = {package for program, package in PROGRAMS.items() if shutil.which(program) is None}
    if os.geteuid() != 0:
        unavailable("the deploy tests need root: they run debootstrap and a Docker Engine")
    if missing:
        unavailable(f"apt-get install {' '.join(sorted(missing))}")
    if not all(peer.path.exists() for peer in (build.OTELCOL, *build.DEPLOY_PEERS)):
        unavailable("the Collector, Docker Compose and the like are not built: make test-deploy does")
    with images.engine(tmp_path_factory.mktemp("docker")):
        yield


@pytest.fixture(scope="session")
def product(engine: None) -> Iterator[Images]:  # noqa: ARG001 - building needs it
    """The images of this commit, and the others that tests run beside them."""
    with images.built() as names:
        yield names


@pytest.fixture(scope="module")
def stack(product: Images, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The Compose demo, up."""
    with Stack(product, tmp_path_factory.mktemp("output")) as running:
        yield running
