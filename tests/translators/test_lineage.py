"""Where processes stand in traces: boundaries, derived ids, and what a restart keeps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from translators.lineage import OLD_PARENT_NS, Lineage, Process, span_id, trace_id

SECOND_NS = 1_000_000_000


def process(identity: str, parent: str, started_s: float, pid: int = 100, **rest: object) -> Process:
    """A process of the host, ``started_s`` seconds after boot."""
    return Process(identity, parent, pid, int(started_s * SECOND_NS), **rest)  # type: ignore[arg-type] # fields by name


def blind(_identity: str) -> None:
    """Identities that tell nothing about their process."""


def test_a_child_hangs_on_its_parent_in_the_same_trace() -> None:
    """Shell, make and compiler are one trace whose root is the shell."""
    lineage = Lineage(blind)
    shell = process("shell", "sshd", 1000)
    make = process("make", "shell", 1001)
    sshd = process("sshd", "init", 1)
    root = lineage.place(shell, [sshd])
    child = lineage.place(make, [shell])
    grandchild = lineage.place(process("cc", "make", 1002), [make])
    assert {root.trace_id, child.trace_id, grandchild.trace_id} == {trace_id("shell")}
    assert (root.parent_span_id, child.parent_span_id, grandchild.parent_span_id) == (
        b"",
        span_id("shell"),
        span_id("make"),
    )
    assert root.link == (trace_id("sshd"), span_id("sshd"))
    assert child.link is None


@pytest.mark.parametrize(
    ("parent", "linked"),
    [
        pytest.param(process("p", "", 10, kernel=True, pid=0), False, id="kernel"),
        pytest.param(process("p", "", 10, pid=1), False, id="init"),
        pytest.param(process("p", "", 10, preexisting=True), True, id="running before anybody watched"),
        pytest.param(process("p", "", 10, container="b" * 64), True, id="another container"),
        pytest.param(process("p", "", 10, selected=False), False, id="gets no span"),
        pytest.param(process("p", "", 10.5 - OLD_PARENT_NS / SECOND_NS), True, id="a daemon"),
        pytest.param(process("p", "", 12), True, id="younger than its child: not the same boot"),
    ],
)
def test_a_boundary_starts_a_new_trace(parent: Process, linked: bool) -> None:  # noqa: FBT001 - a table's column
    """Each rule alone is enough, and links to a parent that may have a span."""
    place = Lineage(blind).place(process("c", "p", 11), [parent])
    assert place.trace_id == trace_id("c")
    assert place.parent_span_id == b""
    assert (place.link is not None) == linked


def test_the_age_rule_is_inclusive() -> None:
    """Exactly sixty seconds is not yet old."""
    parent = Process("p", "", 100, 0)
    assert Lineage(blind).place(Process("c", "p", 101, OLD_PARENT_NS), [parent]).parent_span_id == span_id("p")


def test_an_unknown_container_is_no_boundary() -> None:
    """Not knowing a parent's container must not cut a tree."""
    parent = process("p", "", 10, container=None)
    assert Lineage(blind).place(process("c", "p", 11, container="b" * 64), [parent]).parent_span_id == span_id("p")


def test_an_identity_may_tell_enough_of_an_unseen_parent() -> None:
    """A parent known by its identity alone gives the link and a partial root."""
    lineage = Lineage(lambda identity: process(identity, "", 10, container=None) if identity == "p" else None)
    place = lineage.place(process("c", "p", 11))
    assert place.parent_span_id == span_id("p")
    assert (place.trace_id, place.partial) == (trace_id("p"), True)


def test_the_parent_of_the_first_record_stays() -> None:
    """An orphan's parent at exit is pid 1: the exec's word counts."""
    lineage = Lineage(blind)
    first = lineage.place(process("c", "p", 11), [process("p", "", 10)])
    assert lineage.place(process("c", "init", 11), [process("init", "", 0, pid=1)]) == first


def test_ancestors_or_a_seed_survive_a_restart() -> None:
    """With ancestors in the event or a dump of the agent's cache, all ids are those of before."""
    chain = [process(f"p{n}", f"p{n - 1}", 100 + n) for n in range(1, 6)]
    before = Lineage(blind)
    for n, one in enumerate(chain):
        before.place(one, chain[n - 1 : n])
    leaf = process("leaf", "p5", 110)
    expected = before.place(leaf, chain[-1:])
    assert Lineage(blind).place(leaf, reversed(chain))[:4] == expected[:4]
    seeded = Lineage(blind)
    for one in chain:
        seeded.remember(one)
    assert seeded.place(leaf, chain[-1:])[:4] == expected[:4]


def test_memory_is_bounded_and_forgets_the_oldest() -> None:
    """Beyond its capacity a lineage keeps span ids and parent links, and starts partial traces."""
    lineage = Lineage(blind, capacity=10)
    for n in range(100):
        lineage.place(process(f"p{n}", f"p{n - 1}", 1000 + n), [process(f"p{n - 1}", f"p{n - 2}", 999 + n)])
    place = lineage.place(process("late", "p5", 1006), [process("p5", "p4", 1005)])
    assert place.parent_span_id == span_id("p5")
    assert (place.trace_id, place.partial) == (trace_id("p5"), True)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 3)), max_size=30))
def test_no_ancestry_hangs_or_fails(edges: list[tuple[int, int, int]]) -> None:
    """Cycles and contradictions end in a placement."""
    lineage = Lineage(blind, capacity=4)
    for child, parent, start in edges:
        place = lineage.place(process(f"p{child}", f"p{parent}", start))
        assert len(place.trace_id) == 16
        assert place.span_id == span_id(f"p{child}")
