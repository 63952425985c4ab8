"""Bad input is answered with what is wrong and where; its neighbours are kept and nothing is ever raised."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from translators.batch import Origin
from translators.pb import tetragon_pb2 as full
from translators.tetragon import FieldFilter, Options, Translator

if TYPE_CHECKING:
    from collections.abc import Callable

GOOD = full.GetEventsResponse(
    process_exec=full.ProcessExec(process=full.Process(exec_id="x", binary="/bin/ls", arguments="-l")),
    node_name="n",
).SerializeToString()
SHARED = Translator(Options(environment=("*",), pod_labels=("*",), node_labels=("*",)))
FILTERED = Translator(Options(field_filters=(FieldFilter(fields=("process.arguments",), action="EXCLUDE"),)))


def field(number: int, payload: bytes) -> bytes:
    """A length-delimited field."""
    tag = number << 3 | 2
    head = bytes([tag]) if tag < 128 else bytes([tag & 0x7F | 0x80, tag >> 7])
    return head + bytes([len(payload)]) + payload


def translated(data: bytes, kind: str = "protobuf") -> None:
    """Translate between good neighbours, which must both be there."""
    neighbour = GOOD if kind == "protobuf" else b'{"process_exec": {"process": {"binary": "/bin/ls"}}}'
    for translator in (SHARED, FILTERED):
        made = translator.translate(kind, [neighbour, data, neighbour], Origin(), 1_800_000_000_000_000_000)
        assert made.batches[0].items + len(made.rejected) == 3
        assert all(rejection.index == 1 and rejection.reason == "malformed" for rejection in made.rejected)


@given(st.binary(max_size=400))
def test_random_bytes(data: bytes) -> None:
    """Whatever they are, they are one record or one rejection."""
    translated(data)


@given(st.sampled_from([1, 5, 9, 10, 11, 12, 27, 28, 29]), st.binary(max_size=120))
def test_random_bytes_inside_of_a_kind(number: int, data: bytes) -> None:
    """So that they reach the decoders below."""
    body = field(number, data)
    translated(body)
    translated(field(number, field(1, data[:100])))


@given(st.binary(max_size=300), st.sampled_from(["protobuf", "json"]))
def test_random_json(data: bytes, kind: str) -> None:
    """Lines that are no lines."""
    translated(data, kind)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "process_exec",
                    "process_kprobe",
                    "process",
                    "parent",
                    "pid",
                    "binary",
                    "time",
                    "start_time",
                    "args",
                    "file_arg",
                    "bytes_arg",
                    "pod",
                    "container",
                    "pod_labels",
                    "node_labels",
                    "cap",
                    "permitted",
                    "action",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=25,
)


@given(_JSON)
def test_json_of_wrong_types(value: Any) -> None:
    """Known names with values of any type."""
    translated(json.dumps(value).encode(), "json")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.data())
def test_truncations_and_flips(vectors: list[Any], data: st.DataObject) -> None:
    """Of real events, at any byte."""
    wire = data.draw(st.sampled_from([vector.wire for vector in vectors if vector.wire]))
    cut = data.draw(st.integers(0, len(wire)))
    translated(wire[:cut])
    flipped = bytearray(wire)
    flipped[min(cut, len(wire) - 1)] ^= data.draw(st.integers(1, 255))
    translated(bytes(flipped))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xff\xff", "Error parsing message with type 'tetragon.lazy.Event'"),
        (field(1, b"\x0a\x05ab"), "process_exec: truncated inside the process"),
        (field(9, b"\x0a\x00\x12\x7f"), "process_kprobe: truncated inside the parent"),
        (field(1, b"\x0a\xff\xff\xff\xff\xff\xff\x01"), "a length is truncated or has more than five bytes"),
        (
            field(1, field(1, field(5, b"\xff\xfe"))),
            "Error parsing message with type 'tetragon.lazy.Process'",
        ),
        (field(9, field(4, b"\xff")), "Error parsing message with type 'tetragon.KprobeArgument'"),
    ],
)
def test_protobuf_is_rejected_with_what_and_where(data: bytes, message: str, translate: Callable[..., Any]) -> None:
    """A string that is not UTF-8 is not proto3 either."""
    made = translate(GOOD, data, GOOD)
    assert len(made.records) == 2
    assert [rejection.index for rejection in made.rejected] == [1]
    assert made.rejected[0].message.startswith(message)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"", "not JSON: "),
        (b'{"process_exec": {"process": {"pid": 1}}', "not JSON: unexpected end of data at line 1 column 41"),
        (b'{"node_name": "\xff"}', "not JSON: "),
        (b"[]", "an event is a JSON object, this is an array"),
        (b'{"process_exec": []}', "process_exec: expected an object, this is an array"),
        (
            b'{"process_exec": {"process": {"pid": "x"}}}',
            "process_exec.process.pid: expected an integer, this is another text",
        ),
        (
            b'{"process_exec": {"process": {"pid": -1}}}',
            "process_exec.process.pid: the integer is not between 0 and 4294967295",
        ),
        (
            b'{"process_kprobe": {"args": [{}, {"bytes_arg": "?"}]}}',
            "process_kprobe.args[1].bytes_arg: not base64",
        ),
        (b'{"time": "yesterday"}', "time: expected a timestamp such as 2026-01-02T03:04:05.678Z, this is a"),
        (b'{"time": "2026-02-31T00:00:00Z"}', "time: no such date or time"),
        (b'{"node_labels": {"a": 1}}', "node_labels.value: expected a string, this is a number"),
        (b'{"process_exec": {"process": {"in_init_tree": "yes"}}}', "process_exec.process.in_init_tree: exp"),
    ],
)
def test_json_is_rejected_with_what_and_where(line: bytes, message: str, translate: Callable[..., Any]) -> None:
    """And never with the content, which may be secret."""
    made = translate(line, kind="json")
    assert made.records == []
    assert made.rejected[0].message.startswith(message)


def test_unknown_fields_are_counted(translate: Callable[..., Any]) -> None:
    """A newer agent sends what the schema does not know; its event is kept."""
    body = full.ProcessKprobe(function_name="f").SerializeToString() + b"\xca\x3e\x01x"
    made = translate(b"\x4a" + bytes([len(body)]) + body)
    assert (len(made.records), made.counts) == (1, {"unknown_fields": 1})
    line = b'{"process_kprobe": {"function_name": "f", "new": 1, "action": "KPROBE_ACTION_NEW"}, "beside": {}}'
    made = translate(line, kind="json")
    assert (len(made.records), made.counts) == (1, {"unknown_fields": 3})


def test_times_before_1970_are_clamped(translate: Callable[..., Any]) -> None:
    """OTLP's times are unsigned; what was sent stays as text."""
    made = translate(b'{"time": "1969-12-31T23:59:59Z"}', kind="json")
    assert made.records[0].message.time_unix_nano == made.records[0].message.observed_time_unix_nano
    assert made.records[0].attributes["tetragon.time"] == "1969-12-31T23:59:59Z"


def test_a_huge_event_neither_grows_the_caches_nor_the_record(run_with: Callable[..., Any]) -> None:
    """What does not fit is used once and forgotten."""
    translator = Translator()
    for number in range(3):
        body = full.ProcessExec(process=full.Process(exec_id=str(number), arguments="x" * 12_000_000))
        made = run_with(translator, [full.GetEventsResponse(process_exec=body).SerializeToString()])
        assert len(made.data) < 50_000
        assert made.counts == {"truncated": 1}
    assert len(translator._processes._latest.young) == 0


def test_caches_are_bounded() -> None:
    """By entries: twice the limit of each generation."""
    translator = Translator()
    bodies = (full.ProcessExec(process=full.Process(exec_id=str(number))) for number in range(70_000))
    events = [full.GetEventsResponse(process_exec=body).SerializeToString() for body in bodies]
    for start in range(0, len(events), 256):
        translator.translate("protobuf", events[start : start + 256], Origin(), 1_800_000_000_000_000_000)
    known, aliases = translator._processes._latest, translator._processes.aliases
    assert len(known.young) + len(known._old) <= 2 * 16_384
    assert len(aliases.young) + len(aliases._old) <= 4 * 16_384
