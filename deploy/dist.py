"""What a release consists of, built into ``dist/``: ``make dist``.

    python deploy/dist.py [wheel] [sbom] [chart] [images]     all of them without any

- ``otelbee-VERSION-py3-none-any.whl``, the same bytes from the same commit; ``requirements.lock``, which is what it runs
  with; ``install.sh``, which makes systemd services of both;
- ``otelbee-VERSION.cdx.json``, the bill of materials (CycloneDX) of that lock;
- ``otelbee-VERSION.tgz``, the Helm chart; needs ``helm``;
- ``otelbee-VERSION-ARCHITECTURE.tar``, both container images for ``docker load``; needs ``docker`` and runs ``make image``;
- ``SHA256SUMS`` of all these, as ``sha256sum --check`` reads it.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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


def chart(folder: Path) -> None:
    """The Helm chart, with the version of everything else."""
    helm = _program("helm", "install it, or name the parts that you want: python deploy/dist.py wheel sbom images")
    numbers = ("--version", version(), "--app-version", version())
    _run(helm, "package", "helm/otelbee", *numbers, "--destination", str(folder))


def images(folder: Path) -> None:
    """Both images, for this machine's architecture."""
    docker = _program("docker", "install it, or name the parts that you want: python deploy/dist.py wheel sbom chart")
    _run("make", "image")
    names = [f"{name}:{version()}" for name in IMAGES]
    _run(docker, "save", "--output", str(folder / f"otelbee-{version()}-{platform.machine()}.tar"), *names)


PARTS: Mapping[str, Callable[[Path], None]] = {"wheel": wheel, "sbom": sbom, "chart": chart, "images": images}


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


def _program(name: str, remedy: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise MissingError(f"{name} is missing; {remedy}")
    return found


def _run(*command: str) -> str:
    epoch = os.environ.get("SOURCE_DATE_EPOCH") or _last_commit()
    environment = {**os.environ, "SOURCE_DATE_EPOCH": epoch, "PYTHONWARNINGS": "ignore"}
    return subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


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
