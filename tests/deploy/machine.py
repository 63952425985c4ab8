"""A machine with systemd: the host's /usr in a container of its own, everything else empty, gone when it is stopped.

The kernel is the host's, so that its events are real. There is no network but the machine's own localhost.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Self

from peers.processes import until

if TYPE_CHECKING:
    from collections.abc import Mapping


class Machine:
    """Boots with ``with``; ``run`` runs a command in it as root."""

    def __init__(self, folder: Path, bound: Mapping[str, Path]) -> None:
        """``bound`` are folders of the host by their path in the machine, read-only there."""
        self._folder = folder
        binds = [f"--bind-ro={source}:{target}" for target, source in bound.items()]
        self._command = [
            *("systemd-nspawn", "--directory=/", "--volatile=yes", f"--machine=otelbee-{os.getpid()}", "--boot"),
            *("--register=no", "--keep-unit", "--private-network", "--capability=CAP_BPF,CAP_PERFMON"),
            *("--bind-ro=/etc/hosts", *binds, "systemd.unit=sysinit.target", "systemd.firstboot=off"),
        ]
        self.init = 0
        """The pid of its systemd, as the host sees it."""

    def __enter__(self) -> Self:
        """Boot, and wait until units can be started."""
        self._log = (self._folder / "machine.log").open("wb")
        # nspawn's own system call filter would refuse what the units allow: bpf(2) and perf_event_open(2).
        environment = {**os.environ, "SYSTEMD_SECCOMP": "0"}
        self._process = subprocess.Popen(
            self._command, env=environment, stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT
        )
        try:
            until(self._booted, "the machine boots")
            self.run("mount", "-t", "tracefs", "tracefs", "/sys/kernel/tracing")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Halt it, whatever runs in it."""
        self._process.terminate()  # nspawn passes it on as an orderly shutdown
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            for pid in self._children():  # of a killed nspawn they would go on
                os.kill(pid, signal.SIGKILL)
            self._process.wait(30)
        finally:
            self._log.close()

    def _children(self) -> list[int]:
        return [int(pid) for pid in _read(f"/proc/{self._process.pid}/task/{self._process.pid}/children").split()]

    def _booted(self) -> bool:
        assert self._process.poll() is None, self.log()
        # Before systemd nspawn has other children, which only set the machine up.
        self.init = next((pid for pid in self._children() if _read(f"/proc/{pid}/comm") == "systemd\n"), 0)
        if not self.init:
            return False
        return self.run("systemctl", "is-active", "sysinit.target", check=False).stdout.strip() == "active"

    def log(self) -> str:
        """What it wrote to its console."""
        return (self._folder / "machine.log").read_text(errors="replace")

    def entered(self, *command: str | Path) -> list[str]:
        """The host's command line that runs a command with the machine's network and the host's files."""
        return ["nsenter", f"--target={self.init}", "--net", *map(str, command)]

    def run(
        self, *command: str | Path, check: bool = True, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the machine; with ``check`` a failure is the test's, with what it said."""
        whole = ["nsenter", f"--target={self.init}", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]
        whole += ["--root", "--wd", *map(str, command)]
        done = subprocess.run(
            whole,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done

    def show(self, unit: str, what: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={what}", unit).stdout.strip()

    def journal(self, unit: str) -> str:
        """A unit's log."""
        return self.run("journalctl", "--no-pager", "--output=cat", f"--unit={unit}").stdout

    def text(self, path: str) -> str:
        """A file of the machine."""
        return self.run("cat", path).stdout


def _read(path: str) -> str:
    """A file of /proc; empty when its process has ended."""
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def missing() -> str:
    """What this host lacks for a machine; empty when nothing."""
    if os.geteuid() != 0:
        return "booting a machine needs root"
    if shutil.which("systemd-nspawn") is None:
        return "no systemd-nspawn: apt-get install systemd-container"
    return ""
