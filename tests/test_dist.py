"""What ``make dist`` builds, and that a wheel alone is a working otelbee."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml
from bpf.live import require_bpf
from peers.processes import Program, free_port

from deploy import dist
from translators.version import VERSION

ROOT = Path(__file__).resolve().parent.parent
WHEEL = f"otelbee-{VERSION}-py3-none-any.whl"
COMPOSE = f"otelbee-compose-{VERSION}.tar.gz"


@pytest.fixture(name="release", scope="session")
def _release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What can be built without helm and docker."""
    folder = tmp_path_factory.mktemp("release") / "dist"
    dist.build(folder, ["wheel", "sbom", "compose"])
    return folder


def test_wheel_has_what_runs_and_nothing_else(release: Path) -> None:
    """The three packages with every committed file of theirs, and the units; no tests, no caches."""
    with zipfile.ZipFile(release / WHEEL) as wheel:
        names = set(wheel.namelist())
    parts = ("bpf", "receiver", "translators", "deploy/systemd")
    committed = subprocess.run(["git", "ls-files", *parts], cwd=ROOT, capture_output=True, text=True, check=True)
    data = f"otelbee-{VERSION}.data/data/share/otelbee/systemd"
    expected = {re.sub("^deploy/systemd", data, name) for name in committed.stdout.splitlines()}
    assert expected <= names
    assert {name.partition("/")[0] for name in names - expected} == {f"otelbee-{VERSION}.dist-info"}


def test_compose_demo_has_all_that_it_mounts(release: Path, tmp_path: Path) -> None:
    """Every file of the tree that a service mounts, at its place, and the names of the release's images."""
    with tarfile.open(release / COMPOSE) as tar:
        tar.extractall(tmp_path, filter="data")
    folder = tmp_path / f"otelbee-compose-{VERSION}" / "deploy" / "compose"
    assert (
        folder / ".env"
    ).read_text() == f"OTELBEE_IMAGE=otelbee:{VERSION}\nOTELBEE_BPF_IMAGE=otelbee-bpf:{VERSION}\n"
    services = yaml.safe_load((folder / "compose.yaml").read_text())["services"].values()
    mounted = [volume.partition(":")[0] for service in services for volume in service.get("volumes", ())]
    ours = [name for name in mounted if name.startswith(".")]
    assert len(ours) > 5
    assert not [name for name in ours if not (folder / name).exists()]


def test_archives_are_the_same_from_everywhere(release: Path, tmp_path: Path) -> None:
    """Another checkout of the same tree, by a user with other habits, gives the same bytes."""
    tracked = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(tracked, cwd=ROOT, capture_output=True, check=True)
    for name in reversed([each for each in listed.stdout.decode().split("\0") if each and (ROOT / each).is_file()]):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, tmp_path / name)
        (tmp_path / name).chmod(0o600 | (ROOT / name).stat().st_mode & 0o100)
    epoch = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=True)
    environment = {**os.environ, "SOURCE_DATE_EPOCH": epoch.stdout.strip(), "TZ": "Asia/Kathmandu", "LC_ALL": "C"}
    command = [sys.executable, "deploy/dist.py", "wheel", "compose"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    for name in (WHEEL, COMPOSE):
        assert (tmp_path / "dist" / name).read_bytes() == (release / name).read_bytes()


def test_bill_of_materials_has_every_distribution_of_the_lock(release: Path) -> None:
    """With its exact version and hashes, and otelbee itself as what is described."""
    made = json.loads((release / f"otelbee-{VERSION}.cdx.json").read_text())
    assert made["bomFormat"] == "CycloneDX"
    described = made["metadata"]["component"]
    assert (described["name"], described["version"]) == ("otelbee", VERSION)
    locked = set(re.findall(r"^([\w.-]+==[^\s;\\]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert len(locked) > 10
    assert {f"{each['name']}=={each['version']}" for each in made["components"]} == locked
    for component in made["components"]:
        assert component["purl"].startswith("pkg:pypi/")
        (archive,) = component["externalReferences"]
        assert {each["alg"] for each in archive["hashes"]} == {"SHA-256"}


def test_checksums_hold(release: Path, tmp_path: Path) -> None:
    """sha256sum accepts what was built, and refuses it once a byte is another."""
    copy = shutil.copytree(release, tmp_path / "copy")
    check = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    assert subprocess.run(check, cwd=copy, capture_output=True, check=False).returncode == 0
    listed = re.findall(r"^[0-9a-f]{64}  (\S+)$", (copy / "SHA256SUMS").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(path.name for path in copy.iterdir() if path.name != "SHA256SUMS")
    with (copy / WHEEL).open("ab") as wheel:
        wheel.write(b"\0")
    assert subprocess.run(check, cwd=copy, capture_output=True, check=False).returncode == 1


@pytest.mark.parametrize(("part", "program"), [("chart", "helm"), ("images", "docker")])
def test_what_is_missing_is_named(part: str, program: str, tmp_path: Path) -> None:
    """Without the program that a part needs, the release fails and says which, and how to do without it."""
    (tmp_path / "git").symlink_to(str(shutil.which("git")))
    environment = {**os.environ, "PATH": str(tmp_path)}
    copied = tmp_path / "tree"
    (copied / "deploy").mkdir(parents=True)
    shutil.copyfile(ROOT / "deploy" / "dist.py", copied / "deploy" / "dist.py")
    command = [sys.executable, copied / "deploy" / "dist.py", part]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"dist: {program} is missing; install it, or name the parts that you want" in done.stderr


def test_unknown_parts_are_refused() -> None:
    """With the list of those that there are."""
    command = [sys.executable, ROOT / "deploy" / "dist.py", "whel"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "there are wheel, sbom, compose, chart, images" in done.stderr


@pytest.fixture(name="environment")
def _environment(release: Path, tmp_path: Path) -> Path:
    """A virtual environment with the wheel, and of everything else only what the lock has."""
    home = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    pip = [sys.executable, "-m", "pip", "--python", home / "bin" / "python", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--no-index", "--disable-pip-version-check", release / WHEEL], check=True)
    (site,) = home.glob("lib/python*/site-packages")
    (site / "lock.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home


def test_installed_wheel_runs_with_both_processes(environment: Path, tmp_path: Path) -> None:
    """``otelbee run`` as root starts the bpf process from the installation, and live events come out."""
    require_bpf()
    own, out = free_port(), tmp_path / "out.jsonl"
    config = {
        "sources": {"bpf": {"socket": str(tmp_path / "bpf.sock")}},
        "exporter": {"file": {"path": str(out), "format": "json"}},
        "telemetry": {"endpoint": f"127.0.0.1:{own}"},
        "run_as": {"user": "root"},
    }
    (tmp_path / "otelbee.yaml").write_text(json.dumps(config))
    command = ["env", "--chdir", tmp_path, environment / "bin" / "otelbee", "run", "--config", "otelbee.yaml"]
    with Program("installed", command, tmp_path) as program:
        program.until(lambda: "source bpf is up" in program.errors(), "the source is up")
        subprocess.run(["/bin/true", "from-the-wheel"], check=True)
        program.until(lambda: out.exists() and "from-the-wheel" in out.read_text(), "the exec is exported")
        children = Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split()
        lines = [Path(f"/proc/{pid}/cmdline").read_text() for pid in children]
        assert any(f"{environment}/lib" in line and "site-packages/bpf\0" in line for line in lines)
        assert program.stop() == 0


def test_installed_units_are_those_of_the_repository(environment: Path) -> None:
    """Where pip puts them: share/otelbee/systemd."""
    installed = environment / "share" / "otelbee" / "systemd"
    for path in (ROOT / "deploy" / "systemd").iterdir():
        assert (installed / path.name).read_bytes() == path.read_bytes()
