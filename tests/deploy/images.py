"""The images that the deploy tests run, made without a registry.

They are a Debian by debootstrap, otelbee's two as a release has them, the real Collector, and a container that does
nothing. The Debian alone knows this machine's certificate authorities: builds fetch packages through whatever stands
between them and the registries, and deploy/Dockerfile must not know of it.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from peers import build

from deploy.dist import IMAGES
from translators.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent.parent
SUITE = "bookworm"
AUTHORITIES = Path("/usr/local/share/ca-certificates")
BUSYBOX = Path("/bin/busybox")
START_S = 60.0


class Images(NamedTuple):
    """Names of images in the engine."""

    debian: str
    otelbee: str
    otelbee_bpf: str
    collector: str
    pause: str


def run(*command: str | Path, folder: Path = ROOT, **options: object) -> str:
    """Run a program; its standard output. What it said is in the error where it fails."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=folder, **options)  # type: ignore[call-overload] - options of run()
    assert done.returncode == 0, (
        f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    )
    return str(done.stdout)


def docker(*arguments: str | Path) -> str:
    """Run Docker's client; its standard output without the last line's end."""
    return run("docker", *arguments).removesuffix("\n")


@contextmanager
def engine(folder: Path) -> Iterator[None]:
    """The Docker Engine that runs here, or one of our own in ``folder`` that leaves nothing behind."""
    if subprocess.run(["docker", "info"], check=False, capture_output=True).returncode == 0:
        yield
        return
    address = f"unix://{folder}/docker.sock"
    command = ["dockerd", "-H", address, "--data-root", folder / "data", "--exec-root", folder / "exec"]
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen([*command, "--pidfile", folder / "pid"], stdout=log, stderr=log)
    os.environ["DOCKER_HOST"] = address
    deadline = time.monotonic() + START_S
    try:
        while subprocess.run(["docker", "info"], check=False, capture_output=True).returncode:
            assert daemon.poll() is None, (folder / "log").read_text()[-2000:]
            assert time.monotonic() < deadline, "dockerd did not come up"
            time.sleep(0.2)
        yield
    finally:
        daemon.terminate()
        daemon.wait(START_S)
        # The engine leaves its bridge; none other runs here that might use it.
        subprocess.run(["ip", "link", "delete", "docker0"], check=False, capture_output=True)
        del os.environ["DOCKER_HOST"]


@contextmanager
def loaded(archive: Path) -> Iterator[Images]:
    """Load a release's images, make the others, and remove all in the end but the Debian."""
    product = [f"{name}:{VERSION}" for name in IMAGES]
    names = Images(debian(), *product, *(f"otelbee-test/{name}:{os.getpid()}" for name in Images._fields[3:]))
    # What the release was built from is here as well: only the archive may give the images their names.
    docker("rmi", "--force", "--no-prune", *product)
    try:
        docker("load", "--input", archive)
        import_tree(names.collector, {"otelcol": build.otelcol_in_cluster()}, '["/otelcol"]')
        # What Kubernetes calls pause: it holds the namespaces of a pod open.
        import_tree(names.pause, {"busybox": BUSYBOX}, '["/busybox", "sleep", "2147483647"]')
        yield names
    finally:
        for name in names[1:]:
            subprocess.run(["docker", "rmi", "--force", "--no-prune", name], check=False, capture_output=True)


def debian() -> str:
    """A minimal Debian by debootstrap; made once for a suite, its packages and this machine's authorities."""
    authorities = sorted(path for path in AUTHORITIES.rglob("*") if path.is_file()) if AUTHORITIES.is_dir() else []
    inputs = [SUITE, "minbase", "ca-certificates", *(path.read_text(errors="replace") for path in authorities)]
    key = hashlib.sha256("\n".join(inputs).encode()).hexdigest()[:16]
    name = f"otelbee-test/debian:{SUITE}-{key}"
    if not docker("images", "--quiet", name):
        archive = build.BUILD / "deploy" / f"debian-{SUITE}-{key}.tar"
        if not archive.exists():
            archive.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=archive.parent) as scratch:
                make_debian(Path(scratch), authorities)
                run("tar", "-C", f"{scratch}/root", "-cf", f"{scratch}/tar", ".")
                Path(scratch, "tar").rename(archive)
        bundle = "/etc/ssl/certs/ca-certificates.crt"
        docker("import", "--change", f"ENV PIP_CERT={bundle} SSL_CERT_FILE={bundle}", archive, name)
    return name


def make_debian(scratch: Path, authorities: list[Path]) -> None:
    """Make the Debian in ``scratch``/root; the machine's authorities are added the way Debian's own tool does."""
    root = scratch / "root"
    run("debootstrap", "--variant=minbase", "--include=ca-certificates", SUITE, root)
    for path in authorities:
        shutil.copy(path, root / AUTHORITIES.relative_to("/"))
    run("chroot", root, "update-ca-certificates")
    run("chroot", root, "apt-get", "clean")


def import_tree(name: str, files: dict[str, Path], entrypoint: str) -> None:
    """Make an image of a few files and nothing else."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path, source in files.items():
            tar.add(source, path)
    command = ["docker", "import", "--change", f"ENTRYPOINT {entrypoint}", "-", name]
    done = subprocess.run(command, input=archive.getvalue(), check=False, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
