"""The package that users install."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from translators.version import VERSION

ROOT = Path(__file__).resolve().parent.parent


def test_installed_package_has_the_command_and_the_licence(tmp_path: Path) -> None:
    """What ``pip install .`` puts down brings ``otelbee``, everything it imports of ours, and LICENSE."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", tmp_path, ROOT], check=True, capture_output=True, timeout=60)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [tmp_path / "bin" / "otelbee", "version"], cwd=tmp_path, env=environment, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert VERSION in done.stdout.decode()
    assert (tmp_path / "bpf" / "programs" / "records.h").is_file()
    (licence,) = tmp_path.glob("otelbee-*.dist-info/licenses/LICENSE")
    assert licence.read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} <= {
        "bin",
        "bpf",
        "receiver",
        "share",
        "translators",
        f"otelbee-{VERSION}.dist-info",
    }
