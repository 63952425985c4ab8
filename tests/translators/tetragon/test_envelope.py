"""The quick way to read an event's outermost layer never reads anything else than the parser does."""

from __future__ import annotations

import itertools
import random

import pytest
from google.protobuf.message import DecodeError

from translators import wire
from translators.pb import tetragon_lazy_pb2 as lazy
from translators.pb import tetragon_pb2 as full
from translators.tetragon.envelope import Envelopes
from translators.tetragon.kinds import KINDS
from translators.tetragon.splitting import split


def in_gos_order(event: full.GetEventsResponse) -> bytes:
    """Serialise as Go does: the kind, which is a oneof, behind what has a higher number."""
    kind = event.WhichOneof("event")
    number = event.DESCRIPTOR.fields_by_name[kind].number
    body = wire.field(number, getattr(event, kind).SerializeToString())
    rest = full.GetEventsResponse.FromString(event.SerializeToString())
    rest.ClearField(kind)
    return rest.SerializeToString() + body


def event(kind: str = "process_exec", nanos: int = 300_000_000, **common: object) -> full.GetEventsResponse:
    """An event with a process whose message needs two bytes for its length."""
    made = full.GetEventsResponse(node_name="node-1", **common)
    made.time.seconds, made.time.nanos = 1_700_000_000, nanos
    getattr(made, kind).process.exec_id = "x" * 300
    return made


def the_same(envelopes: Envelopes, raw: bytes) -> bool:
    """Compare both ways; False where the quick one does not know the shape."""
    found = envelopes.read(raw)
    if found is None:
        return False
    parsed, other = lazy.Event.FromString(raw), Envelopes().parse(raw)[1]
    node, time_ns, kind, *parts = found
    assert (node.name, node.cluster, sorted(node.labels)) == (other.name, other.cluster, sorted(other.labels))
    assert time_ns == parsed.time.seconds * 1_000_000_000 + parsed.time.nanos
    assert kind.name == parsed.WhichOneof("event")
    assert tuple(parts) == split(getattr(parsed, kind.name), kind)
    assert not parsed.aggregation_info
    return True


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS.values() if kind.parts > 1])
@pytest.mark.parametrize("common", [{}, {"cluster_name": "c"}, {"cluster_name": "c", "node_labels": {"a": "b"}}])
def test_a_shape_that_was_seen_is_read_at_once(kind: str, common: dict[str, object]) -> None:
    """Every kind with a process, whatever stands between its time and the kind."""
    envelopes = Envelopes()
    raw = in_gos_order(event(kind, **common))
    assert not the_same(envelopes, raw)
    envelopes.parse(raw)
    assert the_same(envelopes, raw)
    for nanos in (1 << 21, (1 << 28) - 1, 1 << 28, 999_999_999):
        assert the_same(envelopes, in_gos_order(event(kind, nanos, **common)))
    for nanos in (0, 1, (1 << 21) - 1):
        assert not the_same(envelopes, in_gos_order(event(kind, nanos, **common)))


def test_labels_in_another_order_are_the_same_node() -> None:
    """Go writes a map in any order; each is learned, and all are one node."""
    envelopes, nodes = Envelopes(), []
    made = event()
    body = wire.field(1, made.process_exec.SerializeToString())
    made.ClearField("process_exec")
    entries = [wire.field(1004, wire.field(1, name) + wire.field(2, b"value")) for name in (b"a", b"b", b"c")]
    for order in itertools.permutations(entries):
        shuffled = made.SerializeToString() + b"".join(order) + body
        nodes.append(envelopes.parse(shuffled)[1])
        assert the_same(envelopes, shuffled)
    assert all(node is nodes[0] for node in nodes)


def test_nothing_else_is_taken_for_a_shape() -> None:
    """Cut anywhere, with any byte changed or another field behind: read as the parser reads it, or left to it."""
    dice = random.Random(6)
    known = in_gos_order(event(cluster_name="c", node_labels={"zone": "a"}))
    envelopes = Envelopes()
    envelopes.parse(known)
    changed = [known[:size] for size in range(len(known))]
    for at in range(60):
        changed += [known[:at] + bytes([value]) + known[at + 1 :] for value in range(256)]
    for _ in range(3000):
        at, count = dice.randrange(len(known)), dice.randrange(4)
        changed.append(known[:at] + dice.randbytes(count) + known[at + dice.randrange(4) :])
    changed += [known + wire.field(5, b""), known + b"\xc2\x3e\x01z", known + known]
    read = 0
    for raw in changed:
        try:
            read += the_same(envelopes, raw)
        except DecodeError:
            with pytest.raises(DecodeError):
                lazy.Event.FromString(raw)
    assert read > 1000
