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
from receiver.fields import Section
from receiver.net.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping, Sequence

_log = logging.getLogger(__name__)

INSTALLATION = Path(__file__).resolve().parent
UNDER_PARENT = "OTELBEE_UNDER_PARENT"
"""Set in the receiver's environment: it has a parent and must not become one."""

_BPF_FOLDER = INSTALLATION.parent / "bpf"
_SYSTEM_PYTHON = "/usr/bin/python3"
"""The distribution's interpreter, where bcc lives; ours may be a virtual environment's."""
_BPF_CAPABILITIES = "-all,+bpf,+perfmon"
_CANNOT_RUN_HERE = 2
"""Exit code of both children for what a restart cannot cure."""
_STEADY_S = 60.0
_KILL_AFTER_S = 5.0
"""What a child gets beyond its own deadline before it is killed."""


class RunAs(Section):
    """Who the receiver runs as when root starts it; the bpf process stays root with two capabilities."""

    user: str = ""
    """A user's name or number; empty: the owner of the installation."""
    groups: tuple[str, ...] = ()
    """Supplementary groups, by name or number: for sockets and files that a source has to open."""


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


def why_not(environ: Mapping[str, str] = os.environ) -> str | None:
    """Say why this process is no such parent, "" where it already has one; None where it can be one."""
    if environ.get(UNDER_PARENT) == "1":
        return ""
    if os.geteuid() != 0:
        return "not root: no bpf process is started; run as root, or start 'python3 -I bpf/' yourself as root"
    if not _BPF_FOLDER.is_dir():
        return f"no bpf process is started: this installation has no {_BPF_FOLDER}"
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
        *(_SYSTEM_PYTHON, "-I", "-B", str(setup.bpf), *programs, "--socket", str(setup.socket)),
        *("--socket-gid", gid, "--allow-uid", str(setup.identity.uid)),
    ]


def _setpriv() -> list[str]:
    found = shutil.which("setpriv")
    if found is None:
        raise StartError("setpriv is missing, which takes privileges away; install util-linux")
    return [found, "--no-new-privs", "--pdeathsig", "TERM"]


async def run(setup: Setup, shutdown: Awaitable[object]) -> int:
    """Run both children until ``shutdown`` is done or the receiver ends for good; return the exit code.

    Cancelling this coroutine stops them as well; cancelling it again kills them.

    Raises:
        StartError: setpriv is missing.
    """
    commands = receiver_command(setup), bpf_command(setup)
    _log.info("%s", setup.identity.describe())
    await _mount_tracefs(setup)
    asked = asyncio.ensure_future(shutdown)
    bpf = asyncio.create_task(_keep("bpf process", commands[1], _bpf_environment(), setup), name="bpf process")
    environment = {**os.environ, UNDER_PARENT: "1"}
    receiver = asyncio.create_task(_keep("receiver", commands[0], environment, setup), name="receiver")
    try:
        await asyncio.wait({asked, receiver}, return_when=asyncio.FIRST_COMPLETED)
        return await receiver if receiver.done() else 0
    finally:
        for task in (receiver, bpf):  # in this order: the receiver still takes what the bpf process has sent
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        asked.cancel()


async def _keep(name: str, command: Sequence[str], environment: Mapping[str, str], setup: Setup) -> int:
    """Start a child again whenever it fails; return its exit code when it ends for good. Cancelling stops it."""
    loop = asyncio.get_running_loop()
    delays_s = setup.backoff.delays_s()
    while True:
        began_s = loop.time()
        child = await asyncio.create_subprocess_exec(
            *command, env=environment, stdin=asyncio.subprocess.DEVNULL, start_new_session=True
        )
        try:
            code = await child.wait()
        except asyncio.CancelledError:
            await _stop(child, setup.stop_timeout_s + _KILL_AFTER_S)
            raise
        if code in {0, _CANNOT_RUN_HERE}:
            _log.info("the %s ended with exit code %d and is not restarted", name, code)
            return code
        if loop.time() - began_s > _STEADY_S:
            delays_s = setup.backoff.delays_s()
        delay_s = next(delays_s)
        _log.warning("the %s ended: %s; restarted in %.1f s", name, _ending(code), delay_s)
        await asyncio.sleep(delay_s)


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
    command = (_SYSTEM_PYTHON, "-I", "-B", str(setup.bpf), "--mount-tracefs")
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
