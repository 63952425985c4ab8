"""The guard of the process's memory."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from receiver.errors import TryLater
from receiver.intake import SourceIntake
from receiver.memory import Config, MemoryGuard, container_limit, resident
from receiver.registry import share
from receiver.telemetry import Telemetry
from tests.receiver.tiny import LineTranslator, TinyQueue, until
from translators.batch import Origin

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20


class Machine:
    """Memory as a test says it is."""

    def __init__(self, resident_mib: int, held_mib: int) -> None:
        """So many MiB resident and queued."""
        self.resident_mib, self.held_mib = resident_mib, held_mib

    def guard(self, soft_mib: int | None) -> MemoryGuard:
        """A guard that looks at it often."""
        soft = None if soft_mib is None else soft_mib * MIB
        return MemoryGuard(
            soft, lambda: self.held_mib * MIB, resident_bytes=lambda: self.resident_mib * MIB, check_s=0.01
        )


async def test_senders_are_refused_above_the_limit_and_let_in_below(caplog: pytest.LogCaptureFixture) -> None:
    """Each change is logged once, with the figures."""
    caplog.set_level("INFO")
    machine = Machine(50, 10)
    async with machine.guard(100) as guard:
        guard.check()
        machine.resident_mib = 150
        await until(lambda: guard.refusing)
        with pytest.raises(TryLater, match="memory is short here; retry after 5 s"):
            guard.check()
        machine.resident_mib = 99
        await until(lambda: not guard.refusing)
        await guard.room()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "150 MiB resident, 100 MiB allowed, 10 MiB queued" in caplog.text


async def test_refusal_ends_when_waiting_can_free_nothing_more(caplog: pytest.LogCaptureFixture) -> None:
    """With empty queues what is resident is otelbee's own; refusing for ever would help nobody."""
    machine = Machine(150, 10)
    async with machine.guard(100) as guard:
        await until(lambda: guard.refusing)
        machine.held_mib = 0
        await until(lambda: not guard.refusing)
    assert caplog.text.count("nothing is queued; raise limit_mib") == 1


async def test_who_waits_for_room_is_let_go_when_the_guard_stops() -> None:
    """A stop is not held up."""
    machine = Machine(150, 10)
    async with machine.guard(100) as guard:
        await until(lambda: guard.refusing)
    await guard.room()


async def test_what_is_pulled_waits_while_memory_is_short() -> None:
    """A source that may wait is not refused; it goes on by itself."""
    machine, queue, shared = Machine(150, 10), TinyQueue(), share({}, "", None)
    async with machine.guard(100) as guard:
        intake = SourceIntake("tiny", LineTranslator(), queue, Telemetry(CollectorRegistry()), shared, memory=guard)
        await until(lambda: guard.refusing)
        with pytest.raises(TryLater):
            await intake.emit("line", [b"pushed"], Origin(), wait=False)
        pulled = asyncio.create_task(intake.emit("line", [b"pulled"], Origin(), wait=True))
        done, _ = await asyncio.wait({pulled}, timeout=0.1)
        assert not done
        machine.resident_mib = 50
        assert (await pulled).accepted == 1
        assert queue.held == 1


async def test_without_a_limit_nothing_is_refused() -> None:
    """There is no task either."""
    async with Machine(10**6, 10).guard(None) as guard:
        guard.check()
        assert guard._task is None


def test_resident_memory_is_that_of_this_process() -> None:
    """Within what a test process can have."""
    assert 10 * MIB < resident() < 4096 * MIB


@pytest.mark.parametrize(
    ("section", "container_mib", "soft_mib"),
    [
        ({}, None, None),
        ({}, 1000, 640),
        ({"limit_percentage": 50}, 1000, 400),
        ({"limit_mib": 500}, 1000, 400),
        ({"limit_mib": 500, "spike_limit_mib": 50}, None, 450),
        ({"spike_limit_mib": 100}, 1000, 700),
    ],
)
def test_the_soft_limit(section: dict[str, int], container_mib: int | None, soft_mib: int | None) -> None:
    """A fifth below the limit, which is four fifths of the container's."""
    container = None if container_mib is None else container_mib * MIB
    soft = Config(**section).soft_limit_bytes(container)  # type: ignore[arg-type] - all are numbers
    assert soft == (None if soft_mib is None else soft_mib * MIB)


def test_a_spike_as_large_as_the_limit_is_an_error() -> None:
    """In the Collector's words."""
    with pytest.raises(ValidationError, match="spike_limit_mib must be smaller than limit_mib"):
        Config(limit_mib=100, spike_limit_mib=100)


@pytest.mark.parametrize(
    ("line", "files", "limit"),
    [
        ("0::/", {"memory.max": "max\n"}, None),
        ("0::/", {"memory.max": "1048576\n"}, MIB),
        (
            "0::/kubepods/pod1/c1",
            {"kubepods/pod1/memory.max": "2097152", "kubepods/pod1/c1/memory.max": "max"},
            2 * MIB,
        ),
        ("0::/a", {"memory.max": "9", "a/memory.max": "5"}, 5),
        ("7:cpu,memory:/docker/x", {"memory/memory.limit_in_bytes": "4096"}, 4096),
        ("7:cpu,memory:/x", {"memory/x/memory.limit_in_bytes": "9223372036854771712"}, None),
        ("0::/gone", {}, None),
    ],
)
def test_the_containers_limit(tmp_path: Path, line: str, files: dict[str, str], limit: int | None) -> None:
    """From cgroup v2 and v1, with and without a cgroup namespace; a parent's limit counts."""
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text(f"{line}\n1:name=systemd:/\n")
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert container_limit(tmp_path / "cgroup", tmp_path / "proc") == limit
