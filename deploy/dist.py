"""What a release consists of, built into ``dist/``: ``make dist``.

    python deploy/dist.py [wheel] [sbom] [compose] [chart] [images]     all of them without any

- ``otelbee-VERSION-py3-none-any.whl``; ``requirements.lock``, which is what it runs with; ``install.sh``, which makes
  systemd services of both;
- ``otelbee-VERSION.cdx.json``, the bill of materials (CycloneDX) of that lock;
- ``otelbee-compose-VERSION.tar.gz``, the Compose demo, for the images below;
- ``otelbee-VERSION.tgz``, the Helm chart; needs ``helm``;
- ``otelbee-VERSION-ARCHITECTURE.tar``, both container images for ``docker load``; needs ``docker`` and runs ``make image``;
- ``SHA256SUMS`` of all these, as ``sha256sum --check`` reads it.

The same commit gives the same bytes, but for the images: of these the layers are the same, from the same Debian packages.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

ROOT = Path(__file__).resolve().parent.parent
SUMS = "SHA256SUMS"
IMAGES = ("otelbee", "otelbee-bpf")


class MissingError(Exception):
    """A program that a part needs is not there; the text names it and the remedy."""


def version() -> str:
    """The version of this tree."""
    (found,) = re.findall(r'^VERSION = "([^"]+)"', (ROOT / "translators" / "version.py").read_text(), re.MULTILINE)
    return str(found)


def wheel(folder: Path) -> None:
    """The wheel, whose times are the last commit's or ``$SOURCE_DATE_EPOCH``, and what installs it."""
    _run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder))
    for beside in (ROOT / "requirements.lock", ROOT / "deploy" / "systemd" / "install.sh"):
        shutil.copyfile(beside, folder / beside.name)


def sbom(folder: Path) -> None:
    """Every distribution of the lock with its hashes."""
    cyclonedx = str(Path(sys.executable).with_name("cyclonedx-py"))
    options = ("--pyproject", "pyproject.toml", "--output-reproducible", "--short-PURLs", "--output-file", "-")
    made = json.loads(_run(cyclonedx, "requirements", "requirements.lock", *options))
    made["metadata"]["component"]["version"] = version()  # which pyproject.toml leaves to translators/version.py
    for component in made["components"]:
        del component["description"]  # the lock's lines once more
    (folder / f"otelbee-{version()}.cdx.json").write_text(json.dumps(made, indent=1) + "\n")


def compose(folder: Path) -> None:
    """The Compose demo as it lies in the tree, with the names of the release's images."""
    where = ROOT / "deploy" / "compose"
    paths = [*where.glob("*.yaml"), *where.glob("dashboards/*"), ROOT / "examples" / "tetragon-demo.pb.gz"]
    members = {str(path.relative_to(ROOT)): path.read_bytes() for path in paths}
    named = [f"{name.upper().replace('-', '_')}_IMAGE={name}:{version()}\n" for name in IMAGES]
    members["deploy/compose/.env"] = "".join(named).encode()
    top = f"otelbee-compose-{version()}"
    _archive(folder / f"{top}.tar.gz", ((f"{top}/{name}", data) for name, data in members.items()))


def chart(folder: Path) -> None:
    """The Helm chart, with the version of everything else."""
    helm = _program(
        "helm", "install it, or name the parts that you want: python deploy/dist.py wheel sbom compose images"
    )
    numbers = ("--version", version(), "--app-version", version())
    with tempfile.TemporaryDirectory() as scratch:
        _run(helm, "package", "helm/otelbee", *numbers, "--destination", scratch)
        (packed,) = Path(scratch).iterdir()
        # Helm writes the time of the packing into it.
        with tarfile.open(packed) as tar:
            members = {member.name: tar.extractfile(member) for member in tar}
            _archive(folder / packed.name, ((name, file.read()) for name, file in members.items() if file))


def images(folder: Path) -> None:
    """Both images, for this machine's architecture."""
    docker = _program(
        "docker", "install it, or name the parts that you want: python deploy/dist.py wheel sbom compose chart"
    )
    _run("make", "image")
    names = [f"{name}:{version()}" for name in IMAGES]
    _run(docker, "save", "--output", str(folder / f"otelbee-{version()}-{platform.machine()}.tar"), *names)


PARTS: Mapping[str, Callable[[Path], None]] = {
    "wheel": wheel,
    "sbom": sbom,
    "compose": compose,
    "chart": chart,
    "images": images,
}


def build(folder: Path, parts: list[str]) -> list[Path]:
    """Build ``parts`` into ``folder``, which is emptied first; returns its files.

    Raises:
        MissingError: a program is not installed.
        subprocess.CalledProcessError: one failed; it has said why on stderr.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for part in parts:
        PARTS[part](folder)
    files = sorted(folder.iterdir())
    sums = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files]
    (folder / SUMS).write_text("".join(sums))
    return [*files, folder / SUMS]


def _archive(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    """Write a tar.gz whose bytes depend on names, contents and the commit's time alone."""
    epoch_s = int(_epoch())
    with (
        path.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=epoch_s) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for name, data in sorted(members):
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(data), epoch_s
            tar.addfile(member, io.BytesIO(data))


def _program(name: str, remedy: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise MissingError(f"{name} is missing; {remedy}")
    return found


def _run(*command: str) -> str:
    environment = {**os.environ, "SOURCE_DATE_EPOCH": _epoch(), "PYTHONWARNINGS": "ignore"}
    return subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


def _epoch() -> str:
    """Unix seconds: ``$SOURCE_DATE_EPOCH``, or the time of the last commit."""
    return os.environ.get("SOURCE_DATE_EPOCH") or _last_commit()


def _last_commit() -> str:
    git = _program("git", "install it, or set SOURCE_DATE_EPOCH")
    asked = subprocess.run((git, "log", "-1", "--format=%ct"), cwd=ROOT, capture_output=True, text=True, check=True)
    return asked.stdout.strip()


def main() -> int:
    """Build what was asked for; return the exit code."""
    parts = sys.argv[1:] or list(PARTS)
    if unknown := set(parts) - set(PARTS):
        print(f"dist: unknown: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    try:
        files = build(ROOT / "dist", parts)
    except MissingError as error:
        print(f"dist: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"dist: {error}", file=sys.stderr)
        return 1
    for file in files:
        print(f"{file.stat().st_size:>12,}  dist/{file.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
