"""What is kept of processes never shows: each message gives what it would give to a translator that knows nothing."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING

import pytest
from google.protobuf.message import DecodeError

from translators import wire
from translators.pb import tetragon_pb2 as full
from translators.tetragon.options import Options
from translators.tetragon.process import Process, Processes
from translators.tetragon.redaction import Redaction

if TYPE_CHECKING:
    from collections.abc import Sequence

LABELS = (("app", "shop"), ("pod-template-hash", "5d4f8c7b9"), ("tier", "front"))


def message(number: int = 7, refcnt: int = 0, labels: Sequence[tuple[str, str]] = LABELS, **more: object) -> bytes:
    """A process in a pod, its labels in the given order, as Go writes it."""
    container = full.Container(id="containerd://" + "ab" * 32, name="web")
    container.pid.value = number
    head = full.Pod(namespace="shop", name="web-1", uid="u-1", container=container).SerializeToString()
    entries = [wire.field(5, wire.field(1, key.encode()) + wire.field(2, value.encode())) for key, value in labels]
    pod = head + b"".join(entries) + full.Pod(workload="web", workload_kind="Deployment").SerializeToString()
    own = full.Process(
        exec_id=f"bm9kZTox{number}", binary="/bin/sh", arguments="-c true", cwd="/", flags="execve clone"
    )
    own.pid.value = own.tid.value = number
    own.start_time.seconds = 1_700_000_000
    behind = full.Process(tid=own.tid, cap=full.Capabilities(permitted=[1, 2]), **more).SerializeToString()
    own.ClearField("tid")
    field = (b"\x68" + wire.varint(refcnt)) if refcnt else b""
    return own.SerializeToString() + wire.field(10, pod) + wire.field(12, b"cGFyZW50") + field + behind


def processes() -> Processes:
    """One that knows nothing."""
    return Processes(Options(pod_labels=("*",)), Redaction(None))


def seen(known: Processes, data: bytes) -> tuple[object, ...]:
    """Everything that records take from a process."""
    process = known.find(data)
    known.complete(process)
    plain = (process.exec_id, process.parent_exec_id, process.pid, process.start_ns, process.path, process.clone)
    return (process.attributes, process.place, process.who_line, process.identity, *plain)


def test_refcnt_and_the_order_of_labels_make_no_other_process() -> None:
    """Both change from event to event; the process is read once."""
    known = processes()
    first = known.find(message())
    for refcnt, labels in itertools.product((0, 1, 127, 128, 16_383), itertools.permutations(LABELS)):
        assert known.find(message(refcnt=refcnt, labels=labels)) is first


@pytest.mark.parametrize(
    "other",
    [
        message(8),
        message(labels=LABELS[:2]),
        message(labels=(*LABELS[:2], ("tier", "xront"))),
        message(labels=(*LABELS[:2], LABELS[1])),
        message(user=full.UserRecord(name="u")),
    ],
)
def test_what_differs_in_anything_else_is_another(other: bytes) -> None:
    """Labels that changed without changing their length, for example."""
    known = processes()
    first = known.find(message())
    assert known.find(other) is not first
    assert seen(known, other) == seen(processes(), other)
    assert seen(known, message(refcnt=3)) == seen(processes(), message(refcnt=3))


def test_any_change_is_read_as_if_nothing_were_known() -> None:
    """Thousands of messages that differ in a few bytes, and none is taken for its neighbour."""
    dice = random.Random(5)
    base = message(refcnt=2)
    for _ in range(4000):
        at = dice.randrange(len(base))
        changed = base[:at] + dice.randbytes(dice.randrange(3)) + base[at + dice.randrange(3) :]
        known = processes()
        known.find(base)
        try:
            expected = seen(processes(), changed)
        except DecodeError:
            with pytest.raises(DecodeError):
                seen(known, changed)
            continue
        assert seen(known, changed) == expected


def test_the_same_command_is_encoded_once() -> None:
    """Processes that differ in their ids alone share what they have in common."""
    known = processes()
    first, second = known.find(message(7)), known.find(message(8))
    assert isinstance(first, Process)
    assert first is not second
    assert first.shape is second.shape
    assert first.place.encoded is second.place.encoded
    assert (first.place.vpid, second.place.vpid) == (7, 8)
