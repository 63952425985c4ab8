"""How good bytes become bad ones, and what runs a check on them: in a test, or by hand for as long as asked.

By hand, from the repository:

    PYTHONPATH=.:tests .venv/bin/python tests/fuzz/fuzz_tetragon.py --seconds 60
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import time
import tracemalloc
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_ROOT = Path(__file__).resolve().parent.parent.parent
_DEMO = _ROOT / "examples" / "tetragon-demo.pb.gz"
_SHARED = _ROOT.parent / "shared" / "data" / "tetragon"

_SEEDS = 60
_MIB = 2**20
_VARINTS = [b"\xff" * 10, b"\xff\xff\xff\xff\x0f", b"\xff" * 9 + b"\x01", b"\x80" * 12, b"\xff\xff\xff\x7f", b"\x00"]
_DEPTHS = [50, 99, 101, 1_000, 20_000]


def nested(tag: int, depth: int, inside: bytes = b"") -> bytes:
    """A message in a message, ``depth`` times, each as field ``tag >> 3``."""
    for _ in range(depth):
        inside = bytes((tag,)) + _varint(len(inside)) + inside
    return inside


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*out, number))


@st.composite
def damaged(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """Bytes that begin as one of ``seeds`` and go through up to six kinds of damage."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 6))):
        data = _damage(draw, data, seeds)
    return data


def _damage(draw: st.DrawFn, data: bytes, seeds: Sequence[bytes]) -> bytes:
    at = draw(st.integers(0, len(data)))
    until = min(len(data), at + draw(st.integers(0, 40)))
    kind = draw(st.sampled_from(["cut", "byte", "bits", "varint", "random", "text", "drop", "repeat", "join", "nest"]))
    if kind == "cut":
        return data[:at]
    if kind == "byte":
        return data[:at] + draw(st.binary(min_size=1, max_size=1)) + data[at + 1 :]
    if kind == "bits":  # a tag with another wire type
        return data[:at] + bytes(byte ^ draw(st.integers(1, 7)) for byte in data[at : at + 1]) + data[at + 1 :]
    if kind == "varint":
        return data[:at] + draw(st.sampled_from(_VARINTS)) + data[at + 1 :]
    if kind == "random":
        return data[:at] + draw(st.binary(max_size=30)) + data[at:]
    if kind == "text":
        return (
            data[:at]
            + draw(st.sampled_from([b"\xff\xfe", b"\xc3", b"\xed\xa0\x80", b"\x00", b'"', b"\xf0\x9f"]))
            + data[until:]
        )
    if kind == "drop":
        return data[:at] + data[until:]
    if kind == "repeat":
        return data[:until] + data[at:until] * draw(st.integers(1, 5)) + data[until:]
    if kind == "join":
        return data + draw(st.sampled_from(seeds))
    return data[:at] + nested(
        draw(st.sampled_from([0x0A, 0x12, 0x1A, 0x22])), draw(st.sampled_from(_DEPTHS[:3])), data[at:until]
    )


def any_bytes(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Damaged seeds mostly; also bytes out of nothing, and messages nested too deep."""
    bombs = st.builds(nested, st.sampled_from([0x0A, 0x12, 0x4A]), st.sampled_from(_DEPTHS[:4]), st.binary(max_size=10))
    return st.one_of(damaged(seeds), damaged(seeds), damaged(seeds), st.binary(max_size=400), bombs)


@st.composite
def damaged_json(draw: st.DrawFn, seeds: Sequence[Any]) -> bytes:
    """A JSON document in which one value is another one, of any type, or nested too deep."""
    document = json.loads(json.dumps(draw(st.sampled_from(seeds))))
    parent, key = document, draw(st.sampled_from(list(document)))
    while isinstance(parent[key], dict | list) and parent[key] and draw(st.integers(0, 3)):
        parent, value = parent[key], parent[key]
        key = draw(st.sampled_from(list(value) if isinstance(value, dict) else range(len(value))))
    replacement = draw(
        st.one_of(
            st.none() | st.booleans() | st.text(max_size=12) | st.floats() | st.integers(),
            st.sampled_from(
                [2**63, 2**64, -(2**63) - 1, "18446744073709551616", "9" * 5_000, "1e999", "\ud800", "=", {}, []]
            ),
            st.sampled_from([{"value": 1}, {"a": {"b": []}}, [[[]]], [None], [{}], {"": ""}]),
        )
    )
    parent[key] = replacement
    text = json.dumps(document).encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 9)) == 0:
        depth = draw(st.sampled_from(_DEPTHS))
        text = text.replace(b"{", b'{"process_exec":' + b"[" * depth + b"]" * depth + b",", 1)
    return text


def protobuf_events() -> list[bytes]:
    """Good events of Tetragon: the bundled ones, and where the shared data is, every kind and field."""
    with gzip.open(_DEMO) as stream:
        data = stream.read()
    events, position = [], 0
    while position < len(data):
        size = int.from_bytes(data[position : position + 4], "big")
        events.append(data[position + 4 : position + 4 + size])
        position += 4 + size
    return _few(events)


def json_events() -> list[dict[str, Any]]:
    """Good events of Tetragon as JSON objects, from the same places."""
    from google.protobuf import json_format  # noqa: PLC0415 - only here, and slow to import

    from translators.pb import tetragon_pb2  # noqa: PLC0415 - likewise

    events = [
        json_format.MessageToDict(tetragon_pb2.GetEventsResponse.FromString(event), preserving_proto_field_name=True)
        for event in protobuf_events()
    ]
    for path in sorted(_SHARED.glob("*.jsonl")) if _SHARED.is_dir() else []:
        events += [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    return [event for event in events if event]


def _few(events: list[bytes]) -> list[bytes]:
    """A spread of events that is small enough to be drawn from."""
    return events[:: max(1, len(events) // _SEEDS)]


@contextmanager
def bounded(input_bytes: int, *, factor: int = 64, room_mib: int = 8) -> Iterator[None]:
    """Fail when Python allocates more at one time than ``factor`` times the input and some room."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    limit = factor * input_bytes + room_mib * _MIB
    assert peak < limit, f"{input_bytes} bytes of input took {peak} bytes of memory at their peak; the bound is {limit}"


def in_a_test(check: Callable[[Any], None], inputs: st.SearchStrategy[Any], examples: int) -> None:
    """Run ``check`` on the same ``examples`` inputs every time."""
    _run(check, inputs, settings(derandomize=True, max_examples=examples, database=None, **_PATIENT))


def by_hand(targets: dict[str, tuple[Callable[[Any], None], st.SearchStrategy[Any]]]) -> None:
    """Run the targets in turns, each time on other inputs, for ``--seconds``; a failure ends it with its input."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60.0)
    end_s = time.monotonic() + parser.parse_args().seconds
    counts = dict.fromkeys(targets, 0)

    while time.monotonic() < end_s:
        for name, (check, inputs) in targets.items():
            _run(seed(random.getrandbits(64))(check), inputs, settings(max_examples=200, database=None, **_PATIENT))
            counts[name] += 200
    for name, count in counts.items():
        print(f"{name}: {count} inputs, nothing found")  # noqa: T201 - a script's result


_PATIENT: dict[str, Any] = {"deadline": None, "suppress_health_check": list(HealthCheck)}


def _run(check: Callable[[Any], None], inputs: st.SearchStrategy[Any], how: settings) -> None:
    how(given(inputs)(check))()
