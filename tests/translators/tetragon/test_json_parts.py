"""Recognising a line's parts by their text never reads anything else than parsing the line does."""

from __future__ import annotations

import gzip
import json
import random
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from google.protobuf.message import DecodeError

from translators.pb import tetragon_lazy_pb2 as lazy
from translators.tetragon.envelope import Envelopes
from translators.tetragon.json_lines import MalformedLine, encode_line
from translators.tetragon.json_parts import JsonParts
from translators.tetragon.kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path


def parsed(line: bytes) -> tuple[Any, ...]:
    """What a line says, by parsing it."""
    raw = encode_line(line).raw
    event, node = Envelopes().parse(raw)
    kind = KINDS[event.WhichOneof("event")]
    message: Any = kind.message.FromString(getattr(event, kind.name))
    found = message.process, message.parent
    message.ClearField("process")
    message.ClearField("parent")
    time_ns = event.time.seconds * 1_000_000_000 + event.time.nanos
    return node.name, node.cluster, time_ns, kind.name, *map(without_refcnt, found), message


def without_refcnt(data: bytes) -> lazy.Process:
    """A process without what no record has."""
    process = lazy.Process.FromString(data)
    process.refcnt = 0
    return process


def read_by_parts(parts: JsonParts, line: bytes) -> tuple[Any, ...] | None:
    """The same, by the texts that are known; None where they are not."""
    found = parts.read(line)
    if found is None:
        return None
    node, time_ns, kind, process, parent, rest = found
    message = kind.message.FromString(rest)
    return node.name, node.cluster, time_ns, kind.name, *map(without_refcnt, (process, parent)), message


def known(lines: Iterable[bytes]) -> JsonParts:
    """One that has read these lines before."""
    parts = JsonParts()
    for line in lines:
        raw = encode_line(line).raw
        parts.learn(line, Envelopes().parse(raw)[1])
        parts.read(line)
    return parts


def recorded(shared: Path, name: str) -> list[bytes]:
    """The lines of a recording."""
    return gzip.decompress((shared / "data" / "tetragon" / "recordings" / f"{name}.jsonl.gz").read_bytes()).splitlines()


@pytest.mark.parametrize("comma", ["", " "])
@pytest.mark.parametrize("name", ["highvol", "base_full", "tracepoints", "creds"])
def test_recorded_lines_are_read_by_their_parts(name: str, comma: str, shared: Path) -> None:
    """Both forms that the agent's JSON may have; nearly every event with a parent."""
    lines = recorded(shared, name)[:2000]
    if comma:
        lines = [json.dumps(json.loads(line), separators=(", ", ":"), ensure_ascii=False).encode() for line in lines]
    parts, quick = known(lines[:1]), 0
    for line in lines:
        found = read_by_parts(parts, line)
        if found is not None:
            quick += 1
            assert found == parsed(line)
    having = sum(b'"parent":{' in line and not line.startswith(b'{"process_loader"') for line in lines)
    assert quick > 0.98 * having > 10


def test_any_change_is_read_as_if_nothing_were_known(shared: Path) -> None:
    """Thousands of lines with a few bytes changed, doubled or cut away."""
    lines = recorded(shared, "highvol")[:40] + recorded(shared, "tracepoints")[:10]
    parts, dice, read = known(lines), random.Random(3), 0
    pieces = [b'"', b"}", b"{", b",", b"\\", b'"parent":{', b'"refcnt":1,', b'"time":"', b'"tid":1,', b"null", b"[]"]
    for _ in range(20_000):
        line = dice.choice(lines)
        at, stop = sorted(dice.choices(range(len(line)), k=2))
        match dice.randrange(4):
            case 0:
                line = line[:at] + dice.choice(pieces) + line[at + dice.randrange(3) :]
            case 1:
                line = line[:at] + bytes([dice.randrange(256)]) + line[at + 1 :]
            case 2:
                line = line[:at] + line[stop:]
            case _:
                line = line[:stop] + line[at:]
        found = read_by_parts(parts, line)
        if found is not None:
            read += 1
            assert found == parsed(line)
    assert read > 500


def _line(**process: object) -> bytes:
    """An exec event."""
    own = {"exec_id": "YTox", "pid": 7, "start_time": "2026-01-02T03:04:05.678901234Z", **process}
    own |= {"parent_exec_id": "YTow", "tid": 7}
    event = {"process_exec": {"process": own, "parent": {"exec_id": "YTow", "pid": 1}}, "node_name": "n"}
    return orjson.dumps({**event, "time": "2026-01-02T03:04:05.678901234Z"})


@pytest.mark.parametrize(
    "text",
    [
        '"parent":{"exec_id":"x"}',
        '},"node_name":"n","time":"',
        '{"a":"',
        "\\",
        '"refcnt":9,',
        '","tid":9',
        '"start_time":"',
    ],
)
def test_strings_are_no_structure(text: str) -> None:
    """What a process chose as its arguments may look like JSON."""
    lines = [_line(arguments="-v"), _line(arguments=text), _line(arguments=f"{text} again")]
    parts = known(lines[:1])
    for line in lines:
        assert read_by_parts(parts, line) == parsed(line)


@pytest.mark.parametrize(
    "process",
    [
        {"arguments": 5},
        {"pid": -1},
        {"pid": 1 << 32},
        {"start_time": "2026-13-02T03:04:05.678901234Z"},
        {"start_time": "2026-01-02T03:04:61.678901234Z"},
        {"flags": None},
        {"new": 1},
        {"pod": {"container": {"start_time": "2026-01-02T03:04:05.678901234Z"}}, "start_time": None},
    ],
)
def test_what_is_unusual_is_left_to_the_parser(process: dict[str, object]) -> None:
    """Wrong types, times that are none, fields of newer agents; the parser rejects, counts or reads them."""
    parts = known([_line()])
    line = _line(**process)
    found = read_by_parts(parts, line)
    if found is not None:
        assert found == parsed(line)
        return
    try:
        parsed(line)
    except (MalformedLine, DecodeError):
        return
    assert parts.read(_line(arguments="another")) is not None


def test_json_and_protobuf_give_the_same_records(
    shared: Path, translate: Callable[..., Any], run_with: Callable[..., Any]
) -> None:
    """Of a translator that knows every part, and one that knows none."""
    from translators.tetragon import Translator  # noqa: PLC0415 - beside the function that needs it

    lines = recorded(shared, "highvol")[:3000]
    warm = Translator()
    run_with(warm, lines, kind="json")
    expected = [translate(line, kind="json").records[0].message for line in lines[2500:]]
    assert [record.message for record in run_with(warm, lines[2500:], kind="json").records] == expected
