"""Processes of the kernel's records placed in traces: the same rules as for Tetragon's, on our own identities."""

from __future__ import annotations

from typing import TYPE_CHECKING

from translators import lineage, spans
from translators.bpf.place import place_of
from translators.bpf.process import decoded
from translators.bpf.records import Identity

if TYPE_CHECKING:
    from translators.bpf.exec import Exec
    from translators.bpf.exit import Exit
    from translators.bpf.place import Place
    from translators.bpf.process import Context


class Lives:
    """Gives processes their place in a trace. One per translator with process_spans."""

    def __init__(self, process_spans: bool | spans.Selection) -> None:  # noqa: FBT001 - it is the option itself
        """Start with no process known."""
        self._selector = spans.Selector(process_spans)
        self._lineage = lineage.Lineage(self._skeleton)

    def executed(
        self, record: Exec, replaced: Identity | None, place: Place, context: Context, *, excluded: bool
    ) -> lineage.Placement | None:
        """Place the image that an exec started; None where it has no span.

        Its parent is the image that it ``replaced``, or else the parent that the record names.
        """
        if record.identity is None:
            return None
        process = self._process(record, record.identity, place, context)
        selected = self._selector.selects(decoded(record.path)) and not excluded
        if replaced is not None:
            parent = replaced.text(context.boot_id, record.pid)
            return self._place(process._replace(parent_identity=parent, selected=selected), [])
        parent, ancestors = self._parent(record, place_of(record.parent_cgroup).container_id, context)
        return self._place(process._replace(parent_identity=parent, selected=selected), ancestors)

    def ended(self, record: Exit, place: Place, context: Context, *, excluded: bool) -> lineage.Placement | None:
        """Place a process that ended and whose last exec was not seen: it had none, or that was before our time.

        A fork inherits its parent's count of execs, so the counts tell whether the last image replaced another.
        """
        if record.identity is None:
            return None
        process = self._process(record, record.identity, place, context)
        selected = self._selector.everything and not excluded
        count = record.identity.exec_count
        if record.parent is not None and count - record.parent.exec_count > 1:
            replaced = record.identity._replace(exec_count=count - 1).text(context.boot_id, record.pid)
            return self._place(process._replace(parent_identity=replaced, selected=selected), [])
        parent, ancestors = self._parent(record, None, context)
        return self._place(process._replace(parent_identity=parent, selected=selected), ancestors)

    def _process(self, record: Exec | Exit, identity: Identity, place: Place, context: Context) -> lineage.Process:
        return lineage.Process(
            identity=identity.text(context.boot_id, record.pid),
            parent_identity="",
            pid=record.pid,
            started_ns=identity.start_ns,
            container=place.container_id,
        )

    def _parent(
        self, record: Exec | Exit, container: str | None, context: Context
    ) -> tuple[str, list[lineage.Process]]:
        if record.parent is None or record.parent_pid is None:
            return "", []
        parent = self._relative(record.parent, record.parent_pid, container, context.boot_id)
        return record.parent.text(context.boot_id, record.parent_pid), [parent] if parent is not None else []

    def _place(self, process: lineage.Process, ancestors: list[lineage.Process]) -> lineage.Placement | None:
        placement = self._lineage.place(process, ancestors)
        return placement if process.selected else None

    def _relative(self, identity: Identity, pid: int, container: str | None, boot_id: str) -> lineage.Process | None:
        """Say what a record tells of a parent: where there is a selection, only if it is a boundary in any case."""
        if not self._selector.everything and pid > lineage.KTHREADD_PID:
            return None
        return lineage.Process(
            identity=identity.text(boot_id, pid),
            parent_identity="",
            pid=pid,
            started_ns=identity.start_ns,
            container=container,
            kernel=pid == 0,
        )

    def _skeleton(self, text: str) -> lineage.Process | None:
        boot_id, _, numbers = text.partition(":")
        if not numbers:
            return None
        start_ns, pid, exec_count = map(int, numbers.split(":"))
        return self._relative(Identity(start_ns, exec_count), pid, None, boot_id)
