"""What the deploy tests install from: the release, and nothing else of the repository."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]


def dist_script() -> ModuleType:
    """``deploy/dist.py``, which lies in no package."""
    spec = importlib.util.spec_from_file_location("dist", ROOT / "deploy" / "dist.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(name="dist", scope="session")
def _dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the wheel, its lock, the bill of materials and their checksums, as ``make dist`` builds them."""
    folder = tmp_path_factory.mktemp("release") / "dist"
    dist_script().build(folder, ["wheel", "sbom"])
    return folder


@pytest.fixture(name="wheelhouse", scope="session")
def _wheelhouse(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The distributions of the lock, for where there is no network."""
    folder = tmp_path_factory.mktemp("wheelhouse")
    pip = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--require-hashes", "-r", dist / "requirements.lock", "-d", folder], check=True)
    return folder
