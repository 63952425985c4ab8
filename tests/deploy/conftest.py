"""A Docker Engine with the images, for the tests of what is shipped."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from bpf.live import SYSTEM_PYTHON
from deploy.kubernetes import Node
from peers import build

from deploy import dist as release
from deploy import images, kubernetes
from deploy.compose import Stack
from translators.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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


@pytest.fixture(name="dist", scope="session")
def _dist(engine: None, helm_program: None, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: ARG001 - building needs them
    """The folder of a release, as ``make dist`` builds it: what is installed below comes from these files only."""
    folder = tmp_path_factory.mktemp("release") / "dist"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("BASE", images.debian())
        environment.setenv("PATH", str(build.kubernetes()), prepend=os.pathsep)
        environment.setenv("DOCKER_BUILDKIT", "0")  # Debian's engine has no buildx, and its client no plug-in for it
        release.build(folder, list(release.PARTS))
    images.run("sha256sum", "--check", "--strict", "--quiet", release.SUMS, folder=folder)
    return folder


@pytest.fixture(scope="session")
def product(dist: Path) -> Iterator[Images]:
    """The release's images, and the others that tests run beside them."""
    (archive,) = dist.glob(f"otelbee-{VERSION}-*.tar")
    with images.loaded(archive) as names:
        yield names


@pytest.fixture(scope="session")
def chart(dist: Path) -> Path:
    """The release's Helm chart."""
    return dist / f"otelbee-{VERSION}.tgz"


@pytest.fixture(scope="session")
def demo(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the release's Compose demo."""
    folder = tmp_path_factory.mktemp("demo")
    images.run("tar", "-xf", dist / f"otelbee-compose-{VERSION}.tar.gz", "-C", folder)
    return folder / f"otelbee-compose-{VERSION}" / "deploy" / "compose"


@pytest.fixture(scope="module")
def stack(product: Images, demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The Compose demo, up."""
    with Stack(product, demo, tmp_path_factory.mktemp("output")) as running:
        yield running


@pytest.fixture(scope="session")
def helm_program() -> None:
    """Helm is built."""
    if not build.kubernetes().exists():
        unavailable("helm is not built: make test-deploy does")
    if shutil.which("promtool") is None:
        unavailable("apt-get install prometheus")


@pytest.fixture(scope="session")
def node(product: Images, dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A Kubernetes node that holds the images; one for all tests, each of which has its own namespaces."""
    if missing := kubernetes.missing():
        unavailable(f"apt-get install {' '.join(sorted(missing))}")
    (archive,) = dist.glob(f"otelbee-{VERSION}-*.tar")
    with Node(tmp_path_factory.mktemp("node"), product.pause) as running:
        for image in (product.collector, product.pause):
            running.load(image)
        running.load_archive(archive)
        yield running


@pytest.fixture(name="wheelhouse", scope="session")
def _wheelhouse(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the lock names, for the distribution's Python where there is no network."""
    folder = tmp_path_factory.mktemp("wheelhouse")
    asked = [SYSTEM_PYTHON, "-c", "import platform; print(platform.python_version())"]
    version = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    pip = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--quiet", "--no-deps"]
    wheels = ["--only-binary=:all:", f"--python-version={version}", "--require-hashes"]
    subprocess.run([*pip, *wheels, "-r", dist / "requirements.lock", "-d", folder], check=True)
    return folder
