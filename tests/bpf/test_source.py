"""From the kernel to OTLP: the real bpf process, the source and the translator."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from receiver.net.backoff import Backoff
from receiver.sources.bpf import Config, Source
from receiver.types import Outcome
from translators.bpf import Options, Translator
from translators.redact import Redactor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from bpf.live import BpfProcess
    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

    from translators.batch import Origin

ORPHAN = ["/bin/sh", "-c", "exit 6", "orphan of test_source"]


class Translating:
    """An intake that translates and keeps the log records."""

    def __init__(self) -> None:
        """Start with nothing."""
        self.translator = Translator(Options(redactor=Redactor()))
        self.records: list[LogRecord] = []
        self.up = asyncio.Event()
        self._changed = asyncio.Event()

    def started(self, address: str | None) -> None:
        """Nothing to note."""

    def state(self, up: bool, reason: str) -> None:  # noqa: FBT001 - the seam's own wording
        """Note that the bpf process is there."""
        assert up, reason
        self.up.set()

    async def emit(self, kind: str, records: Sequence[bytes], origin: Origin, *, wait: bool) -> Outcome:
        """Translate."""
        assert wait
        translation = self.translator.translate(kind, records, origin, 0)
        assert not translation.rejected
        for batch in translation.batches:
            request = ExportLogsServiceRequest.FromString(batch.data)
            self.records += (
                record for group in request.resource_logs for scope in group.scope_logs for record in scope.log_records
            )
        self._changed.set()
        return Outcome(len(records), (), asyncio.get_running_loop().create_future())

    async def event(self, name: str, attributes: Mapping[str, str | int | float | bool]) -> None:
        """Nothing is lost here."""
        raise AssertionError(name, attributes)

    def of(self, pid: int) -> list[tuple[str, dict[str, Any]]]:
        """(event name, attributes) of a process's records."""
        return [(name, values) for name, values in self.all() if values["process.pid"] == pid]

    def all(self) -> list[tuple[str, dict[str, Any]]]:
        """(event name, attributes) of every record."""
        found = []
        for record in self.records:
            values = {
                pair.key: [item.string_value for item in pair.value.array_value.values]
                if pair.value.HasField("array_value")
                else getattr(pair.value, pair.value.WhichOneof("value") or "string_value")
                for pair in record.attributes
            }
            found.append((record.event_name, values))
        return found

    def exits_with(self, code: int) -> list[dict[str, Any]]:
        """The exits with an exit code."""
        exits = (values for name, values in self.all() if name == "otelbee.process.exit")
        return [values for values in exits if values.get("process.exit.code") == code]

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until the condition holds."""
        async with asyncio.timeout(20):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


def orphans(intake: Translating) -> list[dict[str, Any]]:
    """The exits of the orphan that this test makes."""
    return [values for values in intake.exits_with(6) if values.get("process.command_args") == ORPHAN]


async def test_known_program(bpf_process: BpfProcess, program: Path) -> None:
    """Arguments, exit code, duration, redaction; an orphan's exit has the parent of its exec; our own are left out."""
    intake = Translating()
    task = asyncio.create_task(Source(Config(socket=bpf_process.path), backoff=Backoff(0.01, 0.05)).run(intake))
    try:
        async with asyncio.timeout(20):
            await intake.up.wait()
        script = "sleep 0.2; exit 7"
        child = await asyncio.create_subprocess_exec("/bin/sh", "-c", script, "", "--password", "hunter2")
        assert await child.wait() == 7
        await intake.until(lambda: len(intake.of(child.pid)) == 2)
        orphan = await asyncio.create_subprocess_exec(program, "orphan", *ORPHAN)
        await orphan.wait()
        await intake.until(lambda: orphans(intake))
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    (started_name, started), (ended_name, ended) = intake.of(child.pid)
    assert (started_name, ended_name) == ("otelbee.process.exec", "otelbee.process.exit")
    assert started["process.command_args"] == ["/bin/sh", "-c", script, "", "--password", "<redacted:password>"]
    assert ended["process.command_args"] == started["process.command_args"]
    assert started["process.parent_pid"] == ended["process.parent_pid"] == os.getpid()
    assert ended["process.exit.code"] == 7
    assert 200_000_000 < ended["otelbee.process.duration_ns"] < 20_000_000_000
    assert ended["otelbee.process.exec_id"] == started["otelbee.process.exec_id"]
    (exited,) = orphans(intake)
    *_, executed = (values for name, values in intake.of(exited["process.pid"]) if name == "otelbee.process.exec")
    assert exited["otelbee.process.exec_id"] == executed["otelbee.process.exec_id"]
    assert exited["otelbee.process.parent_exec_id"] == executed["otelbee.process.parent_exec_id"]
    assert exited["process.parent_pid"] == executed["process.parent_pid"]
    assert intake.of(os.getpid()) == []
    assert intake.of(bpf_process.process.pid) == []
