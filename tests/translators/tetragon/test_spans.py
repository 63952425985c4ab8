"""Processes of real recordings as spans: one for each that ends, hung on its parent, in the trace of its tree."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.translators.tetragon.conftest import plain, read
from translators import lineage
from translators.batch import Exclude, Origin, Signal
from translators.pb import tetragon_pb2 as full
from translators.redact import Redactor
from translators.spans import Selection
from translators.tetragon import Options, Translator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

NOW_NS = 1_800_000_000_000_000_000
MINUTE_NS = 60_000_000_000
DAMAGED = 1 << 40


class Span(NamedTuple):
    """A span with its Resource."""

    attributes: dict[str, Any]
    resource: dict[str, Any]
    message: Any

    @property
    def exec_id(self) -> str:
        """Of its process."""
        value: str = self.attributes["tetragon.process.exec_id"]
        return value


class Made(NamedTuple):
    """What a translator made of some records."""

    requests: list[bytes]
    spans: list[Span]

    def logs(self) -> Iterator[Any]:
        """Every log record."""
        for data in self.requests:
            yield from read(data)

    def by_id(self) -> dict[str, Span]:
        """Spans by exec_id; there is one for each."""
        found = {span.exec_id: span for span in self.spans}
        assert len(found) == len(self.spans)
        return found


def spans_of(data: bytes) -> Iterator[Span]:
    """Every span of an export request; a key that occurs twice is an error."""
    for resource in ExportTraceServiceRequest.FromString(data).resource_spans:
        about = {each.key: plain(each.value) for each in resource.resource.attributes}
        for scope in resource.scope_spans:
            assert scope.scope.name == "otelbee"
            for message in scope.spans:
                attributes = {each.key: plain(each.value) for each in message.attributes}
                assert len(attributes) == len(message.attributes)
                yield Span(attributes, about, message)


def make(translator: Translator, records: Sequence[bytes], kind: str = "protobuf", **origin: Any) -> Made:
    """Translate records, 256 at a time."""
    made = Made([], [])
    for start in range(0, len(records), 256):
        translation = translator.translate(kind, records[start : start + 256], Origin(**origin), NOW_NS)
        assert not translation.rejected
        for batch in translation.batches:
            assert batch.signal is Signal.LOGS
            made.requests.append(batch.data)
        for batch in translation.derived:
            assert batch.signal is Signal.TRACES
            found = list(spans_of(batch.data))
            assert batch.items == len(found) == sum(part.items for part in batch.parts)
            made.spans.extend(found)
    return made


class Known(NamedTuple):
    """What a recording says of a process, put together from all its events; the test's own reading of it."""

    exec_id: str
    parent: str
    pid: int
    ktime_ns: int
    procfs: bool


class Truth(NamedTuple):
    """A recording as the test understands it."""

    processes: dict[str, Known]
    ended: list[str]
    """exec_ids of exits, and of images that an exec without a fork replaced."""


def parts(exec_id: str) -> tuple[int, int]:
    """(ktime, pid) of an exec_id."""
    _, ktime, pid = base64.b64decode(exec_id).decode().rsplit(":", 2)
    return int(ktime), int(pid)


def truth(messages: Sequence[bytes]) -> Truth:
    """Read a recording event by event, without any of the product's code."""
    processes: dict[str, Known] = {}
    ended = []
    for data in messages:
        event = full.GetEventsResponse.FromString(data)
        kind = event.WhichOneof("event")
        of = getattr(event, kind)
        if not hasattr(of, "process"):
            continue
        for process, above in [(of.process, of.parent.exec_id), (of.parent, ""), *((one, "") for one in of.ancestors)]:
            if process.exec_id:
                ktime_ns, pid = parts(process.exec_id)
                parent = process.parent_exec_id or above
                if process.exec_id not in processes or not processes[process.exec_id].parent:
                    procfs = "procFS" in process.flags or ktime_ns % 10_000_000 == 0
                    processes[process.exec_id] = Known(process.exec_id, parent, pid, ktime_ns, procfs)
        if kind == "process_exit" and of.process.exec_id:
            ended.append(of.process.exec_id)
        lives_on = kind == "process_exec" and of.parent.exec_id and "procFS" not in of.process.flags
        if lives_on and parts(of.parent.exec_id)[1] == parts(of.process.exec_id)[1]:
            ended.append(of.parent.exec_id)
    return Truth(processes, ended)


def is_boundary(child: Known, parent: Known | None) -> bool:
    """The rules of docs/sources/process-spans.md, for the recordings, which have no containers."""
    return (
        parent is None
        or parent.pid <= 2
        or parent.procfs
        or child.ktime_ns - parent.ktime_ns > MINUTE_NS
        or child.ktime_ns < parent.ktime_ns
    )


def tree_of(known: Truth, exec_id: str) -> str:
    """The root of a process's tree, as far as the recording holds it."""
    while True:
        process = known.processes[exec_id]
        if is_boundary(process, known.processes.get(process.parent)):
            return exec_id
        exec_id = process.parent


_READ: dict[str, tuple[Truth, Made]] = {}


@pytest.fixture(name="spans")
def _spans(recording: Callable[[str], Any], scenario: str) -> tuple[Truth, Made]:
    """One recording: what it says, and what becomes of it; read once."""
    if scenario not in _READ:
        messages = recording(scenario).messages
        options = Options(process_spans=True, max_record_bytes=0)
        _READ[scenario] = truth(messages), make(Translator(options), messages)
    return _READ[scenario]


def test_every_end_is_one_span(spans: tuple[Truth, Made]) -> None:
    """An exit with an exec_id, or an image that was replaced; and nothing else is a span."""
    known, made = spans
    assert sorted(span.exec_id for span in made.spans) == sorted(known.ended)


def test_spans_hang_on_their_parents(spans: tuple[Truth, Made]) -> None:
    """No parent is missing that the recording holds; behind a boundary it is a link."""
    known, made = spans
    found = made.by_id()
    for exec_id, span in found.items():
        process = known.processes[exec_id]
        parent = known.processes.get(process.parent)
        assert span.message.span_id == lineage.span_id(exec_id)
        linked = [link.span_id for link in span.message.links]
        if is_boundary(process, parent):
            assert span.message.parent_span_id == b""
            expected = parent is not None and parent.pid > 2
            assert linked == ([lineage.span_id(process.parent)] if expected else [])
        else:
            assert span.message.parent_span_id == lineage.span_id(process.parent)
            assert linked == []
            if process.parent in found:
                assert found[process.parent].message.trace_id == span.message.trace_id


def test_a_trace_is_a_tree(spans: tuple[Truth, Made]) -> None:
    """Processes of one tree share a trace, those of different trees never do."""
    known, made = spans
    tree_by_trace: dict[bytes, str] = {}
    trace_by_tree: dict[str, bytes] = {}
    for exec_id, span in made.by_id().items():
        tree = tree_of(known, exec_id)
        assert tree_by_trace.setdefault(span.message.trace_id, tree) == tree
        if "otelbee.trace.partial" not in span.attributes:
            assert trace_by_tree.setdefault(tree, span.message.trace_id) == span.message.trace_id


def test_times_and_outcomes(spans: tuple[Truth, Made]) -> None:
    """A span begins with its process, ends with it, and fails as it does."""
    _, made = spans
    for span in made.spans:
        message, said = span.message, span.attributes
        assert message.start_time_unix_nano <= message.end_time_unix_nano
        assert message.kind == message.SPAN_KIND_INTERNAL
        assert message.flags == 1
        assert message.name == said.get("process.executable.name", "unknown")
        assert (message.status.code == message.status.STATUS_CODE_ERROR) == ("error.type" in said)
        assert message.status.message == said.get("tetragon.process.exit.signal", "")
        replaced = "tetragon.process.replaced_by" in said
        assert replaced != ("process.exit.code" in said or "tetragon.process.exit.signal" in said)


def test_logs_and_spans_join(spans: tuple[Truth, Made]) -> None:
    """Every log of a process has the ids of its span, and nothing else has any."""
    _, made = spans
    found = made.by_id()
    for record in made.logs():
        exec_id = record.attributes.get("tetragon.process.exec_id")
        if exec_id is None:
            assert (record.message.trace_id, record.message.span_id, record.message.flags) == (b"", b"", 0)
            continue
        assert record.message.span_id == lineage.span_id(exec_id)
        assert record.message.flags == 1
        if exec_id in found:
            assert record.message.trace_id == found[exec_id].message.trace_id
            assert record.resource == found[exec_id].resource
        if record.name == "tetragon.process.exit":
            said = {key: value for key, value in record.attributes.items() if not key.startswith("tetragon.parent.")}
            for key in ("tetragon.event.type", "log.record.uid", "process.parent_pid"):
                said.pop(key, None)
            own = dict(found[exec_id].attributes)
            own.pop("otelbee.trace.partial", None)
            own.pop("otelbee.span.start_missing", None)
            assert own == said


def test_both_inputs_give_the_same_spans(
    recording: Callable[[str], Any], scenario: str, spans: tuple[Truth, Made]
) -> None:
    """The stream and the export file."""
    recorded = recording(scenario)
    if not recorded.same:
        pytest.skip("the export holds other events")
    options = Options(process_spans=True, max_record_bytes=0)
    from_file = make(Translator(options), recorded.lines, "json").spans
    assert [span.message for span in from_file] == [span.message for span in spans[1].spans]


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_a_restart_keeps_span_ids_and_parents(
    recording: Callable[[str], Any], scenario: str, share: float, spans: tuple[Truth, Made]
) -> None:
    """A translator that begins in the middle hangs every span where it hung before, and merges no trees."""
    messages = recording(scenario).messages
    known, whole = spans[0], spans[1].by_id()
    second = make(Translator(Options(process_spans=True)), messages[int(len(messages) * share) :]).by_id()
    trees: dict[bytes, str] = {}
    for exec_id, span in second.items():
        before = whole[exec_id].message
        assert span.message.span_id == before.span_id
        assert span.message.parent_span_id == before.parent_span_id
        assert [link.span_id for link in span.message.links] == [link.span_id for link in before.links]
        tree = tree_of(known, exec_id)
        assert trees.setdefault(span.message.trace_id, tree) == tree
        if "otelbee.trace.partial" not in span.attributes:
            assert span.message.trace_id == before.trace_id


def test_a_seed_keeps_every_id_over_a_restart(
    recording: Callable[[str], Any], scenario: str, spans: tuple[Truth, Made]
) -> None:
    """With the agent's process cache a second translator gives what the first would have given."""
    messages = recording(scenario).messages
    cut = len(messages) // 2
    whole = spans[1].by_id()
    cache: dict[str, bytes] = {}
    for data in messages[:cut]:
        event = full.GetEventsResponse.FromString(data)
        of = getattr(event, event.WhichOneof("event"))
        for process in (of.process, of.parent, *of.ancestors) if hasattr(of, "process") else ():
            if process.parent_exec_id:
                cache[process.exec_id] = process.SerializeToString()
    translator = Translator(Options(process_spans=True))
    seeded = translator.translate("processes", list(cache.values()), Origin(), NOW_NS)
    assert seeded == ((), (), {}, ())
    second = make(translator, messages[cut:]).by_id()
    for exec_id, span in second.items():
        before = whole[exec_id].message
        assert (span.message.span_id, span.message.parent_span_id) == (before.span_id, before.parent_span_id)
        if "otelbee.trace.partial" not in span.attributes and "otelbee.trace.partial" not in whole[exec_id].attributes:
            assert span.message.trace_id == before.trace_id


def test_without_the_option_nothing_is_a_span(recording: Callable[[str], Any]) -> None:
    """Records then have no ids: nobody could follow them."""
    made = make(Translator(Options()), recording("base_default").messages)
    assert made.spans == []
    assert {record.message.trace_id for record in made.logs()} == {b""}
    assert {record.message.flags for record in made.logs()} == {0}


@pytest.mark.parametrize(
    "selection", [Selection(binaries=(r"/bash$",)), Selection(namespaces=("",)), Selection(namespaces=("shop",))]
)
def test_a_selection_decides_by_the_process_alone(recording: Callable[[str], Any], selection: Selection) -> None:
    """Logs and spans of the same processes have ids, and no span hangs on a process that has none."""
    messages = recording("base_default").messages
    everything = make(Translator(Options(process_spans=True)), messages)
    made = make(Translator(Options(process_spans=selection)), messages)
    chosen = {
        span.exec_id
        for span in everything.spans
        if not selection.binaries or span.attributes["process.executable.path"].endswith("/bash")
    }
    chosen = set() if selection.namespaces == ("shop",) else chosen
    found = made.by_id()
    assert set(found) == chosen
    assert not chosen or len(chosen) > 10
    ids = {span.message.span_id for span in everything.spans if span.exec_id in chosen}
    for record in made.logs():
        path = record.attributes["process.executable.path"]
        expected = (not selection.binaries or path.endswith("/bash")) and selection.namespaces != ("shop",)
        assert bool(record.message.span_id) == expected
    for span in made.spans:
        if span.message.parent_span_id:
            assert span.message.parent_span_id in ids or selection.namespaces == ("",)


def test_excluded_processes_have_no_span(recording: Callable[[str], Any]) -> None:
    """Nor does anything hang on them."""
    messages = recording("base_default").messages
    everything = make(Translator(Options(process_spans=True)), messages).by_id()
    parents = {lineage.span_id(exec_id): exec_id for exec_id in everything}
    above = [(exec_id, parents.get(span.message.parent_span_id)) for exec_id, span in everything.items()]
    pid = next(parts(parent)[1] for child, parent in above if parent and parts(parent)[1] != parts(child)[1])
    left_out = {exec_id for exec_id in everything if parts(exec_id)[1] == pid}
    made = make(Translator(Options(process_spans=True)), messages, exclude=Exclude(pids=frozenset({pid}))).by_id()
    assert set(made) == set(everything) - left_out
    gone = {lineage.span_id(exec_id) for exec_id in left_out}
    assert not gone & {span.message.parent_span_id for span in made.values()}


def exit_of(exec_id: str, parent: str, *, path: str = "/bin/sh", docker: str = "", above: str | None = None) -> bytes:
    """The exit of a process; ``above`` is the container of the parent's own message, None where there is none."""
    event = full.GetEventsResponse(node_name="n")
    process = event.process_exit.process
    process.exec_id, process.parent_exec_id = made_id(exec_id), made_id(parent)
    process.binary, process.docker = path, docker
    process.start_time.seconds = event.time.seconds = 1_700_000_000
    if above is not None:
        event.process_exit.parent.exec_id = made_id(parent)
        event.process_exit.parent.docker = above
    return event.SerializeToString()


def made_id(text: str) -> str:
    """The exec_id of ``node:ktime:pid``."""
    return base64.b64encode(text.encode()).decode()


PARENT, CHILD = "n:1000000007:700", "n:2000000007:701"


@pytest.mark.parametrize(
    ("own", "above", "boundary"),
    [
        pytest.param("a" * 31, "a" * 31, False, id="the same container"),
        pytest.param("a" * 31, "", True, id="the first process of a container"),
        pytest.param("a" * 31, "b" * 31, True, id="from one container into another"),
        pytest.param("a" * 31, None, False, id="nobody knows where the parent runs"),
    ],
)
def test_a_container_is_a_boundary(own: str, above: str | None, boundary: bool) -> None:  # noqa: FBT001 - a column
    """Its first process links to whoever is outside."""
    (span,) = make(Translator(Options(process_spans=True)), [exit_of(CHILD, PARENT, docker=own, above=above)]).spans
    expected = lineage.span_id(made_id(PARENT))
    assert span.message.parent_span_id == (b"" if boundary else expected)
    assert [link.span_id for link in span.message.links] == ([expected] if boundary else [])


def test_an_unseen_parent_is_not_taken_for_a_selected_one() -> None:
    """Its children might be trees of their own: nothing hangs on it, and they share no trace."""
    siblings = [exit_of(f"n:200000000{number}:{number}", PARENT, path="/usr/bin/make") for number in (7, 8)]
    some, every = (
        make(Translator(Options(process_spans=spans)), siblings).spans
        for spans in (Selection(binaries=("make",)), True)
    )
    assert {span.message.parent_span_id for span in some} == {b""}
    assert len({span.message.trace_id for span in some}) == 2
    assert all(span.attributes["otelbee.trace.partial"] for span in (*some, *every))
    assert len({span.message.trace_id for span in every}) == 1


def test_spans_are_redacted_and_cut_like_records() -> None:
    """No secret leaves in a span that a record would hide, and none is longer than a record may be."""
    event = full.GetEventsResponse(node_name="n")
    process = event.process_exit.process
    process.exec_id = base64.b64encode(b"n:1234567891:77").decode()
    process.pid.value = 77
    process.binary = "/usr/bin/mysql"
    process.arguments = "--password hunter2 " + "x" * 10_000
    event.process_exit.signal = "SIGKILL"
    event.time.seconds = 1_700_000_000
    options = Options(process_spans=True, redactor=Redactor(), max_record_bytes=2048)
    (span,) = make(Translator(options), [event.SerializeToString()]).spans
    assert "hunter2" not in str(span)
    assert span.attributes["otelbee.truncated"] is True
    assert span.attributes["otelbee.span.start_missing"] is True
    assert span.message.ByteSize() <= 2048
    assert span.message.status.message == "SIGKILL"
    assert span.message.start_time_unix_nano == span.message.end_time_unix_nano == 1_700_000_000 * 10**9


@pytest.mark.parametrize("exec_id", ["x", "bm9kZQ==", "bm9kZTphOmI=", "////", "bm9kZTotMTotMQ=="])
def test_an_exec_id_may_be_anything(exec_id: str) -> None:
    """A span all the same; nothing is told by the id alone."""
    event = full.GetEventsResponse(node_name="n")
    event.process_exit.process.exec_id = exec_id
    event.process_exit.process.parent_exec_id = exec_id + "A"
    event.process_exit.parent.exec_id = exec_id + "A"
    (span,) = make(Translator(Options(process_spans=True)), [event.SerializeToString()]).spans
    assert span.message.span_id == lineage.span_id(exec_id)
    assert span.message.name == "unknown"
