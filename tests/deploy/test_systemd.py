"""The units: installed from the release on a machine with systemd, run, upgraded and removed as docs/deploy/systemd.md says."""

from __future__ import annotations

import json
import re
import subprocess
import textwrap
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from bpf.live import require_bpf, unavailable
from peers.processes import Collector, until

from tests.deploy.machine import Machine, missing

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
UNITS = ROOT / "deploy" / "systemd"
PAGE = ROOT / "docs" / "deploy" / "systemd.md"
CONFIG = "/etc/otelbee/otelbee.yaml"
SERVICES = ("otelbee", "otelbee-bpf")
_GET = "import urllib.request; print(urllib.request.urlopen('http://localhost:8877/ready').read().decode())"

pytestmark = pytest.mark.timeout(300)


def commands(title: str) -> str:
    """The shell commands of a section of the page."""
    section = PAGE.read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    (block,) = re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    return str(block)


def page_blocks(word: str, language: str) -> str:
    """The page's block of a language that has a word; blocks in lists are indented."""
    found = re.findall(rf"^ *```{language}\n(.*?)^ *```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (block,) = [textwrap.dedent(each) for each in found if word in each]
    return block


class Inside(Collector):
    """A Collector on the machine's own localhost."""

    def __init__(self, machine: Machine, folder: Path, port: int = 4317, **settings: Any) -> None:
        """Write its configuration; its files are the host's."""
        super().__init__(folder, signals=("logs", "traces", "metrics"), port=port, **settings)
        self._command = machine.entered(*self._command)

    def ready(self) -> bool:
        """Whether it says so; its health check is out of reach."""
        return "Everything is ready" in self.errors()


class Installed:
    """A machine on which the release was installed, and the Collector that it found there."""

    def __init__(self, machine: Machine, collector: Inside) -> None:
        """Install."""
        self.machine = machine
        self.collector = collector
        self.said = self.install()

    def install(self) -> str:
        """Run the page's command; what it said."""
        command = commands("Install").replace("sudo ", "")
        found = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheelhouse"}
        return self.machine.run("sh", "-ec", f"cd /release; {command}", environment=found).stderr

    def pid(self, unit: str) -> int:
        """The pid of a service, in the machine."""
        return int(self.machine.show(unit, "MainPID"))

    def restarted(self, unit: str, before: int) -> bool:
        """Whether it runs, and not as the process of before."""
        return self.pid(unit) not in {0, before}

    def up(self) -> bool:
        """Whether ``/ready`` says that the source has its peer."""
        done = self.machine.run("python3", "-c", _GET, check=False)
        return done.returncode == 0 and json.loads(done.stdout)["sources"].get("bpf", {}).get("up") is True

    def status(self, unit: str) -> dict[str, str]:
        """What the kernel says about a service's process (proc(5), ``status``)."""
        text = self.machine.text(f"/proc/{self.pid(unit)}/status")
        return dict(re.findall(r"^(\w+):\s+(.*)$", text, re.MULTILINE))

    def sees(self, mark: str, collector: Inside | None = None) -> None:
        """Run a program on the machine, and wait until the Collector has its start."""
        has = collector or self.collector
        self.machine.run("/bin/true", mark)
        has.until(lambda: mark in str(has.records()), f"it has the exec of {mark}")

    def write(self, path: str, text: str) -> None:
        """Write a file of the machine, for root alone."""
        self.machine.run("install", "-D", "-m", "600", "/dev/null", path)
        self.machine.run("sh", "-c", 'printf %s "$TEXT" > "$0"', path, environment={"TEXT": text})


@pytest.fixture(name="installed", scope="module")
def _installed(
    tmp_path_factory: pytest.TempPathFactory, dist: Path, wheelhouse: Path, request: pytest.FixtureRequest
) -> Iterator[Installed]:
    """The machine, from boot to halt."""
    request.getfixturevalue("peers")
    require_bpf()
    if reason := missing():
        unavailable(reason)
    folder = tmp_path_factory.mktemp("machine")
    release = folder / "release"
    (release / "dist").mkdir(parents=True)
    subprocess.run(["cp", "-r", "--link", *dist.iterdir(), release / "dist"], check=True)
    with (
        Machine(folder, {"/release": release, "/wheelhouse": wheelhouse}) as machine,
        Inside(machine, folder) as collector,
    ):
        yield Installed(machine, collector)


@pytest.mark.parametrize(("unit", "exposure"), [("otelbee", 1.1), ("otelbee-bpf", 1.2)])
def test_exposure_is_as_the_page_says(unit: str, exposure: float) -> None:
    """``systemd-analyze security`` gives the score that the page states, and finds the unit right."""
    path = UNITS / f"{unit}.service"
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", path], capture_output=True, text=True, check=True
    )
    (found,) = re.findall(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert float(found) <= exposure
    assert f"| `{unit}` | {exposure} |" in re.sub(r" \| [^|]+ \|$", " |", PAGE.read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize("unit", SERVICES)
def test_units_are_right(unit: str, tmp_path: Path) -> None:
    """``systemd-analyze verify`` has nothing to say, once what the units start exists."""
    text = (UNITS / f"{unit}.service").read_text()
    (tmp_path / f"{unit}.service").write_text(
        re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE)
    )
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", tmp_path / f"{unit}.service"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


class TestMachine:
    """One machine, installed, used, upgraded and removed in this order."""

    def test_what_is_there_is_found(self, installed: Installed) -> None:
        """The configuration is for this machine: the kernel, the Collector that answers, a queue on disk."""
        assert "takes an empty request" in installed.said
        config = yaml.safe_load(installed.machine.text("/etc/otelbee/otelbee.yaml"))
        assert set(config["sources"]) == {"bpf"}
        assert config["storage"] == "/var/lib/otelbee"
        for unit in SERVICES:
            assert installed.machine.show(unit, "ActiveState") == "active"
            assert installed.machine.show(unit, "UnitFileState") == "enabled"

    def test_a_live_exec_reaches_the_collector(self, installed: Installed) -> None:
        """From the kernel through both services, each shut in as its unit says."""
        installed.sees("first-of-all")

    @pytest.mark.parametrize(
        ("unit", "uid", "capabilities"), [("otelbee", "otelbee", 0), ("otelbee-bpf", "root", 0xC0 << 32)]
    )
    def test_privileges(self, installed: Installed, unit: str, uid: str, capabilities: int) -> None:
        """What the kernel knows about both: user, capabilities, seccomp, no new privileges, a read-only root."""
        status = installed.status(unit)
        assert status["Uid"].split()[1] == installed.machine.run("id", "-u", uid).stdout.strip()
        assert {int(status[each], 16) for each in ("CapEff", "CapBnd")} == {capabilities}
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
        mounts = installed.machine.text(f"/proc/{installed.pid(unit)}/mountinfo")
        assert re.findall(r"^(?:\S+ ){4}/ (\w+)", mounts, re.MULTILINE)[-1] == "ro"

    def test_a_reload_is_taken_up(self, installed: Installed) -> None:
        """``systemctl reload`` and the service goes on in the same process."""
        before = installed.pid("otelbee")
        installed.machine.run("systemctl", "reload", "otelbee")
        until(lambda: "eload" in installed.machine.journal("otelbee"), "the reload is in the log")
        assert installed.pid("otelbee") == before

    def test_what_dies_comes_back(self, installed: Installed) -> None:
        """Both after a kill; events of the time between are in the queue or counted."""
        for unit in SERVICES:
            before = installed.pid(unit)
            installed.machine.run("systemctl", "kill", "--signal=KILL", unit)
            until(partial(installed.restarted, unit, before), f"{unit} is started again")
        until(installed.up, "the source is up again")
        installed.sees("after-the-kill")

    def test_a_token_that_is_roots(self, installed: Installed, tmp_path: Path) -> None:
        """The page's drop-in hands it over: the Collector that asks for it takes what comes."""
        drop_in, settings = page_blocks("LoadCredential", "ini"), yaml.safe_load(page_blocks("bearertokenauth", "yaml"))
        token = {"bearertokenauth": {"token": "only-root-knows"}}
        guarded = {"receiver": {"auth": {"authenticator": "bearertokenauth"}}, "extensions": token}
        with Inside(installed.machine, tmp_path, 4327, **guarded) as collector:
            settings["exporter"]["otlp_grpc"] |= {"endpoint": "localhost:4327", "tls": {"insecure": True}}
            before = installed.machine.text(CONFIG)
            installed.write("/etc/otelbee/collector-token", "only-root-knows")
            installed.write("/etc/systemd/system/otelbee.service.d/token.conf", drop_in)
            installed.machine.run(
                "sh", "-c", f"cat > {CONFIG} <<'END'\n{yaml.safe_dump(yaml.safe_load(before) | settings)}END"
            )
            installed.machine.run("systemctl", "daemon-reload")
            installed.machine.run("systemctl", "restart", "otelbee")
            until(installed.up, "the source is up")
            installed.sees("with-the-token", collector)
        installed.machine.run("rm", "-r", "/etc/systemd/system/otelbee.service.d")
        installed.machine.run("sh", "-c", f"cat > {CONFIG} <<'END'\n{before}END")
        installed.machine.run("systemctl", "daemon-reload")

    def test_an_upgrade_keeps_what_is_yours(self, installed: Installed) -> None:
        """The same command again: configuration and queue stay, and it runs."""
        installed.machine.run("sh", "-c", "echo '# mine' >> /etc/otelbee/otelbee.yaml")
        installed.install()
        until(installed.up, "the source is up again")
        assert installed.machine.text("/etc/otelbee/otelbee.yaml").endswith("# mine\n")
        installed.sees("after-the-upgrade")

    def test_removed_nothing_is_left(self, installed: Installed) -> None:
        """The page's commands take everything away that the installation brought."""
        installed.machine.run("sh", "-ec", commands("Remove it").replace("sudo ", ""))
        places = ("/etc", "/opt", "/run/otelbee", "/var/lib")
        assert installed.machine.run("find", *places, "-name", "*otelbee*", check=False).stdout == ""
        assert installed.machine.run("id", "otelbee", check=False).returncode != 0
        for unit in SERVICES:
            assert installed.machine.show(unit, "LoadState") == "not-found"
