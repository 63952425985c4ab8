"""Processes of kernel records as spans, by the rules that Tetragon's have."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.translators.test_bpf import BOOT, CONTAINER, OFFSET_NS, ORIGIN, RECORDED_EXEC, RECORDED_EXIT, attributes
from translators.batch import Exclude
from translators.bpf import Options, Translator
from translators.lineage import span_id, trace_id
from translators.spans import Selection

SECOND_NS = 1_000_000_000
NOW_NS = OFFSET_NS + 100 * SECOND_NS


class Image(NamedTuple):
    """A process image: pid, start of the process and count of execs are its identity."""

    pid: int
    start_s: float
    execs: int

    @property
    def identity(self) -> str:
        """As the attribute has it."""
        return f"{BOOT}:{int(self.start_s * SECOND_NS)}:{self.pid}:{self.execs}"


SHELL = Image(100, 10, 4)


def executed(
    image: Image, parent: Image, at_s: float, path: str = "/bin/prog", cgroups: tuple[bytes, bytes] = (b"", b"")
) -> bytes:
    """Pack an exec record; ``cgroups`` are the process's and its parent's."""
    own, above = cgroups
    names = (own, b"", above, b"")
    tail = path.encode() + b"".join(names) + b"prog\0"
    return (
        struct.pack(
            "=IHHQQQQQ6I6H4x",
            *(88 + len(tail), 1, 0x1F, int(at_s * SECOND_NS)),
            *(int(image.start_s * SECOND_NS), image.execs, int(parent.start_s * SECOND_NS), parent.execs),
            *(image.pid, parent.pid, 0, 0, image.pid, 5),
            *(len(path), 5, *map(len, names)),
        )
        + tail
    )


def exited(image: Image, forker: Image | None, at_s: float, status: int = 0, cgroup: bytes = b"") -> bytes:
    """Pack an exit record; ``forker`` as it was at the fork, None where that was before our time."""
    parent = forker or Image(0, 0, 0)
    return (
        struct.pack(
            "=IHHQQQQQ5I2H16s",
            *(88 + len(cgroup), 2, 0x6F if forker else 0x69, int(at_s * SECOND_NS)),
            *(int(image.start_s * SECOND_NS), image.execs, int(parent.start_s * SECOND_NS), parent.execs),
            *(image.pid, parent.pid, 0, 0, status, len(cgroup), 0, b"prog"),
        )
        + cgroup
    )


class Made(NamedTuple):
    """Spans and log records by identity."""

    spans: dict[str, Any]
    logs: list[Any]


def run(translator: Translator, *records: bytes, exclude: Exclude = Exclude()) -> Made:  # noqa: B008 - immutable
    """Translate records one after the other."""
    made = Made({}, [])
    for record in records:
        kind = {1: "exec", 2: "exit"}[struct.unpack_from("=IH", record)[1]]
        translation = translator.translate(kind, [record], ORIGIN._replace(exclude=exclude), NOW_NS)
        assert not translation.rejected
        for batch in translation.batches:
            request = ExportLogsServiceRequest.FromString(batch.data)
            made.logs.extend(each for group in request.resource_logs for each in group.scope_logs[0].log_records)
        for batch in translation.derived:
            traces = ExportTraceServiceRequest.FromString(batch.data)
            for span in (each for group in traces.resource_spans for each in group.scope_spans[0].spans):
                identity = attributes(span)["otelbee.process.exec_id"]
                assert identity not in made.spans
                made.spans[identity] = span
    return made


def spanning(selection: bool | Selection = True) -> Translator:  # noqa: FBT001, FBT002 - the option itself
    """A translator with spans."""
    return Translator(Options(process_spans=selection))


def test_a_process_is_a_span_below_its_parent() -> None:
    """Shell and program: fork, exec, exit; ids, times, attributes and outcome."""
    program = Image(101, 20, 5)
    made = run(
        spanning(),
        executed(SHELL, Image(7, 1, 2), 10.1, "/bin/sh"),
        executed(program, SHELL, 20.1),
        exited(program, SHELL, 25, status=3 << 8),
        exited(SHELL, Image(7, 1, 2), 30),
    )
    shell, child = made.spans[SHELL.identity], made.spans[program.identity]
    assert (shell.name, child.name) == ("sh", "prog")
    assert shell.trace_id == child.trace_id
    assert child.parent_span_id == shell.span_id == span_id(SHELL.identity)
    assert (child.start_time_unix_nano, child.end_time_unix_nano) == (
        OFFSET_NS + 20 * SECOND_NS,
        OFFSET_NS + 25 * SECOND_NS,
    )
    assert child.status.code == child.status.STATUS_CODE_ERROR
    assert shell.status.code == child.status.STATUS_CODE_UNSET
    assert attributes(child)["process.exit.code"] == 3
    assert attributes(child)["process.executable.path"] == "/bin/prog"
    ids = {(record.trace_id, record.span_id) for record in made.logs}
    assert ids == {(span.trace_id, span.span_id) for span in made.spans.values()}
    assert {record.flags for record in made.logs} == {1}


def test_a_chain_of_execs_is_a_chain_of_spans() -> None:
    """``sh -c "exec env prog"``: three images of one process; each ends where the next begins, and is its parent."""
    first, second, third = (Image(101, 20, execs) for execs in (5, 6, 7))
    made = run(
        spanning(),
        executed(first, SHELL, 20.5, "/bin/sh"),
        executed(second, SHELL, 21, "/usr/bin/env"),
        executed(third, SHELL, 22),
        exited(third, SHELL, 23, status=9),
    )
    assert list(made.spans) == [first.identity, second.identity, third.identity]
    spans = list(made.spans.values())
    assert [span.name for span in spans] == ["sh", "env", "prog"]
    assert [span.parent_span_id for span in spans] == [
        span_id(SHELL.identity),
        span_id(first.identity),
        span_id(second.identity),
    ]
    times = [(span.start_time_unix_nano - OFFSET_NS, span.end_time_unix_nano - OFFSET_NS) for span in spans]
    assert times == [(start * SECOND_NS, end * SECOND_NS) for start, end in ((20, 21), (21, 22), (22, 23))]
    assert [attributes(span).get("otelbee.process.replaced_by") for span in spans] == [
        second.identity,
        third.identity,
        None,
    ]
    assert spans[2].status.message == "SIGKILL"
    assert len({span.trace_id for span in spans}) == 1


def test_a_fork_without_exec_hangs_on_its_forker() -> None:
    """Its image has its parent's count of execs, and the name that the kernel keeps."""
    fork = Image(102, 21, SHELL.execs)
    made = run(spanning(), executed(SHELL, Image(7, 1, 2), 10.1), exited(fork, SHELL, 22))
    span = made.spans[fork.identity]
    assert span.parent_span_id == span_id(SHELL.identity)
    assert (span.name, span.start_time_unix_nano) == ("prog", OFFSET_NS + 21 * SECOND_NS)


def test_an_orphan_keeps_its_parent() -> None:
    """The exec record's parent counts, whoever forked or adopted the process."""
    program = Image(101, 20, 5)
    made = run(spanning(), executed(program, SHELL, 20.1), exited(program, Image(1, 0, 1), 50))
    assert made.spans[program.identity].parent_span_id == span_id(SHELL.identity)


@pytest.mark.parametrize(
    ("parent", "linked"),
    [
        pytest.param(Image(1, 0, 3), False, id="init"),
        pytest.param(Image(2, 0, 0), False, id="kthreadd"),
        pytest.param(Image(50, 0.5, 2), True, id="more than a minute older"),
    ],
)
def test_boundaries_are_tetragons(parent: Image, linked: bool) -> None:  # noqa: FBT001 - a table's column
    """Each starts a trace; one with a parent worth a span links to it."""
    program = Image(101, 61, 5)
    span = run(spanning(), executed(program, parent, 61), exited(program, parent, 62)).spans[program.identity]
    assert span.parent_span_id == b""
    assert span.trace_id == trace_id(program.identity)
    assert [link.span_id for link in span.links] == ([span_id(parent.identity)] if linked else [])


def test_a_container_is_a_boundary() -> None:
    """Its first process links to the runtime outside."""
    program, own = Image(101, 20, 5), CONTAINER.encode()
    made = run(
        spanning(),
        executed(program, SHELL, 20.1, cgroups=(own, b"user.slice")),
        exited(program, SHELL, 21, cgroup=own),
    )
    span = made.spans[program.identity]
    assert (span.parent_span_id, len(span.links)) == (b"", 1)


def test_a_restart_keeps_ids_and_parents() -> None:
    """Exits whose execs were seen by another translator: the counts of execs tell a replaced image from a fork."""
    child, second, fork = Image(101, 20, 5), Image(102, 21, 6), Image(103, 22, 4)
    execs = [executed(child, SHELL, 20.1), executed(Image(102, 21, 5), SHELL, 21.1), executed(second, SHELL, 21.2)]
    exits = [exited(one, SHELL, 30) for one in (child, second, fork)]
    before, after = run(spanning(), *execs, *exits).spans, run(spanning(), *exits).spans
    assert after.keys() == {child.identity, second.identity, fork.identity}
    for identity, span in after.items():
        assert (span.span_id, span.parent_span_id) == (before[identity].span_id, before[identity].parent_span_id)


def test_a_process_from_before_is_a_partial_root() -> None:
    """Nobody saw it fork: its trace begins with it, and says so."""
    (span,) = run(spanning(), exited(Image(101, 20, 5), None, 30)).spans.values()
    assert attributes(span)["otelbee.trace.partial"] is True
    assert span.parent_span_id == b""


def test_a_selection_is_by_the_path_of_the_exec() -> None:
    """An unselected parent is a boundary, and a process whose path nobody knows is not selected."""
    shell, program, fork = SHELL, Image(101, 20, 5), Image(102, 21, 4)
    made = run(
        spanning(Selection(binaries=("/prog$",))),
        executed(shell, Image(7, 1, 2), 10.1, "/bin/sh"),
        executed(program, shell, 20.1),
        exited(program, shell, 21),
        exited(fork, shell, 22),
        exited(shell, Image(7, 1, 2), 23),
    )
    (span,) = made.spans.values()
    assert attributes(span)["otelbee.process.exec_id"] == program.identity
    assert (span.parent_span_id, list(span.links)) == (b"", [])
    assert sum(bool(record.span_id) for record in made.logs) == 2


def test_an_unseen_parent_is_not_taken_for_a_selected_one() -> None:
    """Nothing hangs on it, and its children share no trace."""
    one, two = Image(101, 20, 5), Image(102, 21, 5)
    records = [executed(one, SHELL, 20.1), executed(two, SHELL, 21.1), exited(one, SHELL, 22), exited(two, SHELL, 22)]
    spans = run(spanning(Selection(binaries=("/prog$",))), *records).spans.values()
    assert {span.parent_span_id for span in spans} == {b""}
    assert len({span.trace_id for span in spans}) == 2
    assert all(attributes(span)["otelbee.trace.partial"] for span in spans)


def test_excluded_and_off() -> None:
    """Neither what is excluded nor a translator without the option has spans or ids."""
    records = [executed(SHELL, Image(7, 1, 2), 10.1), exited(SHELL, Image(7, 1, 2), 11)]
    assert run(spanning(), *records, exclude=Exclude(pids=frozenset({100}))) == ({}, [])
    off = run(Translator(Options()), *records)
    assert off.spans == {}
    assert {(record.trace_id, record.flags) for record in off.logs} == {(b"", 0)}


def test_recorded_records() -> None:
    """Of a real kernel: a process whose exec replaced the shell that the bpf process had not seen start."""
    made = run(spanning(), RECORDED_EXEC, RECORDED_EXIT)
    (span,) = made.spans.values()
    assert span.name == "true"
    assert span.parent_span_id
    assert [record.span_id for record in made.logs] == [span.span_id] * 2
