"""Root's small parent: what its children may, and that it brings them back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from bpf.live import require_bpf
from peers.processes import open_to_others

from receiver import parent
from receiver.config import RunAs
from receiver.errors import StartError
from receiver.net.backoff import Backoff
from receiver.parent import Identity, Setup

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

NOBODY = 65534
DEADLINE_S = 20.0

RECEIVER = """
import json, os, signal, sys
status = {line.partition(":")[0]: line.partition(":")[2].strip() for line in open("/proc/self/status")}
told = {"pid": os.getpid(), "groups": os.getgroups(), "child": os.environ.get("OTELBEE_UNDER_PARENT"), **status}
with open(sys.argv[1], "a") as report:
    print(json.dumps(told), file=report)
if len(sys.argv) > 2:
    sys.exit(int(sys.argv[2]))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
while True:
    signal.pause()
"""


class Family:
    """The parent under test and what is seen of its children."""

    def __init__(self, folder: Path, identity: Identity, *arguments: str) -> None:
        """Prepare a receiver that reports its privileges, then waits or exits as told."""
        self.report = folder / "report"
        self.report.touch()
        self.report.chmod(0o666)
        script = folder / "receiver.py"
        script.write_text(RECEIVER, encoding="ascii")
        self.setup = Setup(
            identity=identity,
            programs=("exit",),
            socket=folder / "run" / "bpf.sock",
            # The system's Python: every user may run it.
            receiver=("/usr/bin/python3", str(script), str(self.report), *arguments),
            stop_timeout_s=1.0,
            backoff=Backoff(0.05, 0.1),
        )
        self.shutdown = asyncio.Event()

    def reports(self) -> list[dict[str, str]]:
        """What each start of the receiver told, oldest first."""
        return [json.loads(line) for line in self.report.read_text(encoding="ascii").splitlines()]

    def bpf_pids(self) -> list[int]:
        """The bpf processes with this family's socket."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command = (folder / "cmdline").read_bytes().split(b"\0")
                if str(self.setup.socket).encode() in command and b"python3" in command[0]:
                    found.append(int(folder.name))
        return found

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for what happens in other processes."""
        async with asyncio.timeout(DEADLINE_S):
            while not condition():  # noqa: ASYNC110 - nothing in this process tells of it
                await asyncio.sleep(0.02)

    async def run(self) -> int:
        """Run the parent."""
        return await parent.run(self.setup, self.shutdown.wait())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that other users may look into."""
    require_bpf()
    return open_to_others(tmp_path)


@contextlib.asynccontextmanager
async def running(family: Family) -> AsyncIterator[asyncio.Task[int]]:
    """Run the parent; ask it to stop at the end, and see that nobody is left."""
    task = asyncio.create_task(family.run())
    try:
        yield task
    finally:
        family.shutdown.set()
        await task
        assert family.bpf_pids() == []
        for report in family.reports():
            assert not alive(report)


def status_of(pid: int) -> str:
    """The kernel's own words on a process."""
    return Path(f"/proc/{pid}/status").read_text(encoding="ascii")


def alive(report: dict[str, str]) -> bool:
    """Whether the receiver that reported still runs."""
    return Path(f"/proc/{report['pid']}").exists()


def privileges(report: dict[str, str]) -> set[str]:
    """The capability sets of a process."""
    return {report[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}


@pytest.mark.parametrize(
    "identity", [Identity(0, 0, ()), Identity(NOBODY, NOBODY, ()), Identity(NOBODY, NOBODY, (4, 1234))]
)
async def test_receiver_has_no_privilege(folder: Path, identity: Identity) -> None:
    """Whoever it runs as, it has no capability and can gain none; the bpf process has its two."""
    family = Family(folder, identity)
    async with running(family):
        await family.until(lambda: family.reports() and family.setup.socket.exists())
        (report,) = family.reports()
        (bpf,) = family.bpf_pids()
        status = status_of(bpf)
    assert privileges(report) == {"0" * 16}
    assert report["NoNewPrivs"] == "1"
    assert report["Uid"].split() == [str(identity.uid)] * 4
    assert report["Gid"].split() == [str(identity.gid)] * 4
    assert report["groups"] == list(identity.groups)
    assert report["child"] == "1"
    assert f"CapEff:\t{1 << 38 | 1 << 39:016x}\n" in status
    assert "NoNewPrivs:\t1\n" in status


async def test_receiver_may_connect(folder: Path) -> None:
    """The socket belongs to the receiver's group, and nobody else but root."""
    family = Family(folder, Identity(NOBODY, NOBODY, ()))
    async with running(family):
        await family.until(family.setup.socket.exists)
        await family.until(lambda: family.setup.socket.stat().st_gid == NOBODY)
        assert family.setup.socket.stat().st_uid == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
async def test_children_that_die_come_back(folder: Path, number: signal.Signals) -> None:
    """Each is started again by itself, and the other is left alone."""
    family = Family(folder, Identity(0, 0, ()))
    async with running(family):
        await family.until(lambda: family.reports() and family.setup.socket.exists())
        (first,) = family.bpf_pids()
        os.kill(first, number)
        await family.until(lambda: family.bpf_pids() not in ([], [first]))
        (report,) = family.reports()
        os.kill(int(report["pid"]), number)
        await family.until(lambda: len(family.reports()) == 2)
        assert len(family.bpf_pids()) == 1


@pytest.mark.parametrize("code", [0, 2])
async def test_receiver_that_ends_for_good_ends_the_parent(folder: Path, code: int) -> None:
    """A wrong configuration (exit code 2) is not tried again; the parent ends with the receiver's code."""
    family = Family(folder, Identity(0, 0, ()), str(code))
    async with asyncio.timeout(DEADLINE_S):
        assert await family.run() == code
    assert len(family.reports()) == 1
    assert family.bpf_pids() == []


async def test_receiver_that_fails_is_restarted(folder: Path) -> None:
    """Any other end is a failure."""
    family = Family(folder, Identity(0, 0, ()), "1")
    async with running(family):
        await family.until(lambda: len(family.reports()) >= 3)


async def test_bpf_process_that_cannot_run_here_is_left(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The receiver goes on without it, and it is not tried again."""
    caplog.set_level("INFO")
    (folder / "run").write_text("no folder", encoding="ascii")
    family = Family(folder, Identity(0, 0, ()))
    async with running(family):
        await family.until(lambda: "the bpf process ended with exit code 2 and is not restarted" in caplog.text)
        await family.until(family.reports)


async def test_cancelled_parent_leaves_nobody(folder: Path) -> None:
    """Cancelling is a stop, too."""
    family = Family(folder, Identity(0, 0, ()))
    task = asyncio.create_task(family.run())
    await family.until(family.reports)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert family.bpf_pids() == []


async def test_killed_parent_leaves_nobody(folder: Path) -> None:
    """Children end with the parent even when it had no time to stop them (PR_SET_PDEATHSIG)."""
    family = Family(folder, Identity(NOBODY, NOBODY, ()))
    code = (
        "import asyncio, sys; from pathlib import Path; from receiver import parent as p\n"
        f"setup = p.Setup(p.Identity({NOBODY}, {NOBODY}, ()), ('exit',), Path({str(family.setup.socket)!r}), "
        f"{family.setup.receiver!r})\n"
        "asyncio.run(p.run(setup, asyncio.sleep(60)))"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    await family.until(lambda: family.reports() and family.setup.socket.exists())
    process.kill()
    await process.wait()
    (report,) = family.reports()
    await family.until(lambda: not family.bpf_pids() and not alive(report))


def test_default_user_is_the_owner_of_the_installation(tmp_path: Path) -> None:
    """Files in a user's home run as that user; installed by root they run as root without a capability."""
    os.chown(tmp_path, 4242, 4243)
    identity = parent.resolve(RunAs(), tmp_path)
    assert identity == Identity(4242, 4243, ())
    assert identity.describe() == "the receiver runs as uid 4242, gid 4243, with no new privileges"
    assert "root (uid 0) without a single capability" in Identity(0, 0, ()).describe()


def test_users_and_groups_by_name_and_number() -> None:
    """A name is looked up; a number need not have a name."""
    nobody = pwd.getpwnam("nobody")
    assert parent.resolve(RunAs(user="nobody", groups=("root", "12"))) == (nobody.pw_uid, nobody.pw_gid, (0, 12))
    assert parent.resolve(RunAs(user="54321")) == (54321, 54321, ())


@pytest.mark.parametrize(
    ("run_as", "message"),
    [
        (RunAs(user="nosuchuser"), "run_as::user: there is no user 'nosuchuser' on this machine"),
        (RunAs(groups=("nosuchgroup",)), "run_as::groups: there is no group 'nosuchgroup' on this machine"),
    ],
)
def test_unknown_names(run_as: RunAs, message: str) -> None:
    """The error has the path that the user typed."""
    with pytest.raises(StartError) as failure:
        parent.resolve(run_as)
    assert str(failure.value) == message


def test_who_becomes_a_parent() -> None:
    """Root does, unless it has a parent already."""
    assert parent.why_not({parent.UNDER_PARENT: "1"}) == ""
    expected: Sequence[str | None] = [None] if os.geteuid() == 0 else [parent.why_not({})]
    assert parent.why_not({}) in expected
