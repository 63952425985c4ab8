"""What every test stands on: the shared data, free ports, and the checks that nothing outlives its test."""

from __future__ import annotations

import asyncio
import faulthandler
import multiprocessing
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from faults.account import ROW, Row, lines
from peers import build, processes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"

faulthandler.enable()


def must_have(what: str) -> bool:
    """Whether a missing ``what`` (``SHARED``, ``PEERS``) fails the run instead of skipping a test."""
    return os.environ.get("CI", "").lower() == "true" or os.environ.get(f"OTELBEE_REQUIRE_{what}") == "1"


def require_shared(path: Path = SHARED) -> Path:
    """The folder of shared data; skips the calling test where it is absent, fails it where CI needs it."""
    if path.is_dir():
        return path
    reason = f"no shared data: put the folder 'shared' beside the repository ({path})"
    if must_have("SHARED"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of recordings, vectors and facts that lies beside the repository."""
    return require_shared()


@pytest.fixture
def shared_data(shared: Path) -> Callable[..., Path]:
    """A function from path parts to a file of the shared data, for example ``shared_data("tetragon", "x.jsonl")``."""

    def find(*parts: str) -> Path:
        path = shared.joinpath("data", *parts)
        assert path.exists(), f"the shared data has no {path.relative_to(shared)}"
        return path

    return find


@pytest.fixture
def free_port() -> Callable[[], int]:
    """A function that finds another free TCP port at each call. Prefer port 0 where the listener can tell its port."""
    return processes.free_port


@pytest_asyncio.fixture
async def _tasks_end() -> AsyncIterator[None]:
    """Fail the test that leaves an asyncio task behind; fixtures that the test uses are closed before this looks."""
    before = asyncio.all_tasks()
    yield
    left = {task for task in asyncio.all_tasks() - before if not task.done()} - {asyncio.current_task()}
    if left:
        # What was cancelled needs some turns of the loop to end: the calls of a gRPC server outlive its stop() by a few.
        _, left = await asyncio.wait(left, timeout=1)
    for task in left:
        task.cancel()
    if left:
        names = "\n".join(f"  {task.get_name()}: {task.get_coro()!r}" for task in left)
        pytest.fail(f"{len(left)} asyncio task(s) outlive the test:\n{names}", pytrace=False)


@pytest.fixture(autouse=True)
def _no_task_outlives(request: pytest.FixtureRequest) -> None:
    """Put every coroutine test under the check above; the others need no event loop."""
    if request.node.get_closest_marker("asyncio") is not None:
        request.getfixturevalue("_tasks_end")


@pytest.fixture(autouse=True)
def _no_thread_or_child_outlives() -> Iterator[None]:
    """Fail a test that leaves a non-daemon thread or a multiprocessing child behind."""
    before = set(threading.enumerate())
    yield
    left = [thread for thread in set(threading.enumerate()) - before if thread.is_alive() and not thread.daemon]
    # asyncio's default executor and asyncio.to_thread are joined when the loop closes, after this.
    left = [thread for thread in left if not thread.name.startswith(("asyncio_", "ThreadPoolExecutor"))]
    if left:
        pytest.fail(f"{len(left)} thread(s) outlive the test: {left}", pytrace=False)
    if children := multiprocessing.active_children():
        pytest.fail(f"child processes outlive the test: {children}", pytrace=False)


def require_program(path: Path) -> Path:
    """A program that ``make peers`` builds; skips the calling test where it is absent, fails it where CI needs it."""
    if path.exists():
        return path
    reason = f"{path.name} is not built: run make peers"
    if must_have("PEERS"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def peers() -> None:
    """The real programs are built; ``peers.processes`` starts them."""
    for peer in build.PEERS:
        require_program(peer.path)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what became of every record in the tests of faults, whichever process ran them."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    tests = [report for report in reports if isinstance(report, pytest.TestReport) and report.when == "call"]
    if rows := [Row(*value) for test in tests for name, value in test.user_properties if name == ROW]:
        terminalreporter.section("faults")
        for line in lines(rows):
            terminalreporter.write_line(line)
