"""Root's small parent: starts and restarts the bpf process and the receiver, each with no more privilege than it needs.

It opens no socket and reads nothing from its children but their exit codes; ``setpriv`` (util-linux) takes privileges
away between fork and exec. Children are sessions of their own, so a terminal's Ctrl+C reaches only the parent, which
stops the receiver first and waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import grp
import logging
import os
import pwd
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from receiver.errors import StartError
from receiver.net.backoff import Backoff
from receiver.registry import source_type
from receiver.sources import bpf

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping, Sequence

    from receiver.config import Config, RunAs

_log = logging.getLogger(__name__)

INSTALLATION = Path(__file__).resolve().parent
UNDER_PARENT = "OTELBEE_UNDER_PARENT"
"""Set in the receiver's environment: it has a parent and must not become one."""

_BPF_FOLDER = INSTALLATION.parent / "bpf"
SYSTEM_PYTHON = "/usr/bin/python3"
"""The distribution's interpreter, where bcc lives; ours may be a virtual environment's."""
_BPF_CAPABILITIES = "-all,+bpf,+perfmon"
_CANNOT_RUN_HERE = 2
"""Exit code of both children for what a restart cannot cure."""
_STEADY_S = 60.0
_KILL_AFTER_S = 2.0
"""What a child gets beyond its own deadline before it is killed."""
STOP_MARGIN_S = 2 * _KILL_AFTER_S + 1.0
"""What a stop of both children may take beyond the receiver's own deadline."""


class Identity(NamedTuple):
    """A resolved :class:`RunAs`."""

    uid: int
    gid: int
    groups: tuple[int, ...]

    def describe(self) -> str:
        """Say it in words for the log's one line."""
        who = "root (uid 0) without a single capability" if self.uid == 0 else f"uid {self.uid}, gid {self.gid}"
        extra = f", groups {', '.join(map(str, self.groups))}" if self.groups else ""
        return f"the receiver runs as {who}{extra}, with no new privileges"


class Setup(NamedTuple):
    """What the parent starts."""

    identity: Identity
    programs: Sequence[str]
    """Kernel programs to load."""
    socket: Path
    receiver: Sequence[str]
    """The receiver's command line: the parent's own, as a rule (:func:`own_command`)."""
    stop_timeout_s: float = 10.0
    """The receiver's own ``shutdown_timeout``."""
    bpf: Path = _BPF_FOLDER
    backoff: Backoff = Backoff()


def setup(config: Config) -> Setup | None:
    """Return what this process has to start as a parent; None where it is none, with one line in the log why.

    Raises:
        StartError: ``run_as`` names nobody on this machine.
    """
    sources = [section for name, section in config.sources.items() if source_type(name) == "bpf"]
    if not sources:
        return None
    if reason := why_not():
        _log.warning("%s", reason)
    if reason is not None:
        return None
    (source,) = sources  # the configuration allows no second one
    assert isinstance(source, bpf.Config)
    return Setup(
        identity=resolve(config.run_as),
        programs=source.programs,
        socket=source.socket,
        receiver=own_command(),
        stop_timeout_s=config.shutdown_timeout.total_seconds(),
    )


def why_not(environ: Mapping[str, str] = os.environ) -> str | None:
    """Say why this process is no such parent, "" where it already has one; None where it can be one."""
    if environ.get(UNDER_PARENT) == "1":
        return ""
    if os.geteuid() != 0:
        return "not root: no bpf process is started; run as root, or start 'python3 -I bpf/' yourself as root"
    if not _BPF_FOLDER.is_dir():
        return f"no bpf process is started: this installation has no {_BPF_FOLDER}"
    if not Path(SYSTEM_PYTHON).exists():
        return f"no bpf process is started: it needs the distribution's own Python, and there is no {SYSTEM_PYTHON}"
    return None


def own_command() -> list[str]:
    """Return the command line of this process, to be run again as the receiver."""
    return [sys.executable, *sys.orig_argv[1:]]


def resolve(run_as: RunAs, installation: Path = INSTALLATION) -> Identity:
    """Look users and groups up; raises StartError with the path that the user typed."""
    owner = installation.stat()
    uid, gid = owner.st_uid, owner.st_gid
    if run_as.user:
        try:
            user = pwd.getpwuid(int(run_as.user)) if run_as.user.isdecimal() else pwd.getpwnam(run_as.user)
            uid, gid = user.pw_uid, user.pw_gid
        except KeyError:
            if not run_as.user.isdecimal():
                raise StartError(f"run_as::user: there is no user {run_as.user!r} on this machine") from None
            uid = gid = int(run_as.user)
    return Identity(uid, gid, tuple(_group(name) for name in run_as.groups))


def _group(name: str) -> int:
    if name.isdecimal():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise StartError(f"run_as::groups: there is no group {name!r} on this machine") from None


def receiver_command(setup: Setup) -> list[str]:
    """Return the receiver's command line: another user where asked for, no capability, no new privileges."""
    identity = setup.identity
    groups = ["--groups", ",".join(map(str, identity.groups))] if identity.groups else ["--clear-groups"]
    user = ["--reuid", str(identity.uid), "--regid", str(identity.gid), *groups]
    return [*_setpriv(), *user, "--bounding-set", "-all", "--inh-caps", "-all", "--", *setup.receiver]


def bpf_command(setup: Setup) -> list[str]:
    """Return the bpf process's command line: uid 0 with two capabilities, in the receiver's group for the socket."""
    gid = str(setup.identity.gid)
    programs = [argument for name in setup.programs for argument in ("--program", name)]
    return [
        *(*_setpriv(), "--groups", gid, "--bounding-set", _BPF_CAPABILITIES, "--inh-caps", _BPF_CAPABILITIES, "--"),
        *(SYSTEM_PYTHON, "-I", "-B", str(setup.bpf), *programs, "--socket", str(setup.socket)),
        *("--socket-gid", gid, "--allow-uid", str(setup.identity.uid)),
    ]


def _setpriv() -> list[str]:
    found = shutil.which("setpriv")
    if found is None:
        raise StartError("setpriv is missing, which takes privileges away; install util-linux")
    return [found, "--no-new-privs", "--pdeathsig", "TERM"]


async def run(setup: Setup, shutdown: Awaitable[object], reload: asyncio.Event | None = None) -> int:
    """Run both children until ``shutdown`` is done or the receiver ends for good; return the exit code.

    Each time ``reload`` is set, the receiver is told to reload (SIGHUP). Cancelling this coroutine stops both children
    as well; cancelling it again kills them.

    Raises:
        StartError: setpriv is missing.
    """
    receiver = _Child("receiver", receiver_command(setup), {**os.environ, UNDER_PARENT: "1"}, setup.backoff)
    bpf = _Child("bpf process", bpf_command(setup), _bpf_environment(), setup.backoff)
    _log.info("%s", setup.identity.describe())
    await _mount_tracefs(setup)
    asked = asyncio.ensure_future(shutdown)
    tasks = [
        asyncio.create_task(bpf.keep(_KILL_AFTER_S), name=bpf.name),
        asyncio.create_task(receiver.keep(setup.stop_timeout_s + _KILL_AFTER_S), name=receiver.name),
    ]
    if reload is not None:
        tasks.append(asyncio.create_task(_pass_on(reload, receiver), name="reload"))
    try:
        await asyncio.wait({asked, tasks[1]}, return_when=asyncio.FIRST_COMPLETED)
        return tasks[1].result() if tasks[1].done() else 0
    finally:
        for task in reversed(tasks):  # the receiver first: it still takes what the bpf process has sent
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        asked.cancel()


async def _pass_on(reload: asyncio.Event, receiver: _Child) -> int:
    while True:
        await reload.wait()
        reload.clear()
        receiver.hang_up()


class _Child:
    """A process that is started again whenever it fails."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], backoff: Backoff) -> None:
        self.name = name
        self._command = command
        self._environment = environment
        self._backoff = backoff
        self._process: asyncio.subprocess.Process | None = None

    async def keep(self, stop_timeout_s: float) -> int:
        """Run it; return its exit code when it ends for good. Cancelling stops it, within ``stop_timeout_s``."""
        loop = asyncio.get_running_loop()
        delays_s = self._backoff.delays_s()
        while True:
            began_s = loop.time()
            self._process = child = await asyncio.create_subprocess_exec(
                *self._command, env=self._environment, stdin=asyncio.subprocess.DEVNULL, start_new_session=True
            )
            try:
                code = await child.wait()
            except asyncio.CancelledError:
                await _stop(child, stop_timeout_s)
                raise
            if code in {0, _CANNOT_RUN_HERE}:
                _log.info("the %s ended with exit code %d and is not restarted", self.name, code)
                return code
            if loop.time() - began_s > _STEADY_S:
                delays_s = self._backoff.delays_s()
            delay_s = next(delays_s)
            _log.warning("the %s ended: %s; restarted in %.1f s", self.name, _ending(code), delay_s)
            await asyncio.sleep(delay_s)

    def hang_up(self) -> None:
        """Send it SIGHUP, if it runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGHUP)


async def _stop(child: asyncio.subprocess.Process, timeout_s: float) -> None:
    with contextlib.suppress(ProcessLookupError):
        child.terminate()
    try:
        await asyncio.wait_for(child.wait(), timeout_s)
    except (TimeoutError, asyncio.CancelledError):
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()


async def _mount_tracefs(setup: Setup) -> None:
    """Have tracefs mounted where it is not: the bpf process itself lacks the privilege. It reports its own failure."""
    command = (SYSTEM_PYTHON, "-I", "-B", str(setup.bpf), "--mount-tracefs")
    child = await asyncio.create_subprocess_exec(*command, env=_bpf_environment(), stdin=asyncio.subprocess.DEVNULL)
    await child.wait()


def _bpf_environment() -> dict[str, str]:
    return {name: os.environ[name] for name in ("PATH", "LANG", "SUDO_UID") if name in os.environ}


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return f"killed by {signal.Signals(-code).name}"
    return f"killed by signal {-code}"
