"""Where processes stand in traces: boundaries, derived ids, and what a restart keeps."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from translators.lineage import OLD_PARENT_NS, Lineage, Placement, Process, span_id, trace_id

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


def test_who_was_only_a_parent_becomes_known_by_its_own_event() -> None:
    """A parent message may be stripped to its identity: the own event's parent counts, and ids given out stay."""
    lineage = Lineage(blind)
    child = lineage.place(process("c", "p", 12), [process("p", "", 11)])
    parent = lineage.place(process("p", "g", 11), [process("g", "", 10)])
    assert parent.parent_span_id == span_id("g")
    assert child.partial
    assert parent.trace_id == child.trace_id == trace_id("p")


def test_a_process_without_a_known_parent_is_a_partial_root() -> None:
    """Only the first processes of a system are roots by themselves."""
    assert Lineage(blind).place(process("c", "", 11)).partial
    assert not Lineage(blind).place(process("init", "", 1, pid=1)).partial


class Tree(NamedTuple):
    """Random processes, each with the one that it descends from; earlier ones have lower numbers."""

    processes: list[Process]

    def parent(self, one: Process) -> Process | None:
        """Who it descends from."""
        return self.processes[int(one.parent_identity[1:])] if one.parent_identity else None

    def ancestors(self, one: Process) -> list[Process]:
        """Parent first."""
        found = []
        while (above := self.parent(one)) is not None:
            found.append(above)
            one = above
        return found

    def root(self, one: Process) -> str:
        """The true root: the rules, written down once more."""
        for above in self.ancestors(one):
            age_ns = one.started_ns - above.started_ns
            if above.kernel or above.pid <= 2 or above.preexisting or not above.selected:
                break
            if one.container != above.container or not 0 <= age_ns <= 60_000_000_000:
                break
            one = above
        return one.identity


@st.composite
def trees(draw: st.DrawFn, *, containers: tuple[str, ...] = ("",), everything: bool = True) -> Tree:
    """Trees of up to forty processes with boundaries of every kind."""
    processes: list[Process] = []
    for number in range(draw(st.integers(1, 40))):
        above = draw(st.integers(-1, number - 1))
        began_ns = processes[above].started_ns if above >= 0 else 0
        processes.append(
            Process(
                identity=f"p{number}",
                parent_identity=f"p{above}" if above >= 0 else "",
                pid=draw(st.sampled_from([0, 1, 2, *[100 + number] * 9])),
                started_ns=began_ns + draw(st.sampled_from([0, 1, SECOND_NS, 60 * SECOND_NS, 61 * SECOND_NS])),
                container=draw(st.sampled_from(containers)),
                preexisting=draw(st.sampled_from([False] * 9 + [True])),
                selected=everything or draw(st.booleans()),
            )
        )
    return Tree(processes)


def placed(lineage: Lineage, tree: Tree, start: int = 0) -> dict[str, Placement]:
    """Place processes as events bring them: each with its parent."""
    found = {}
    for one in tree.processes[start:]:
        parent = tree.parent(one)
        found[one.identity] = lineage.place(one, [parent] if parent else [])
    return found


@given(trees(containers=("", "a" * 64, "b" * 64), everything=False))
def test_traces_are_trees(tree: Tree) -> None:
    """Seen from the beginning, two processes share a trace exactly when they share a root."""
    found = placed(Lineage(blind), tree)
    assert {name: place.trace_id for name, place in found.items()} == {
        one.identity: trace_id(tree.root(one)) for one in tree.processes
    }


@given(trees(containers=("", "a" * 64, "b" * 64), everything=False), st.data())
def test_a_restart_moves_no_span_and_merges_no_trees(tree: Tree, data: st.DataObject) -> None:
    """Ids and parents are those of before; a trace may be cut into partial ones, but never holds two trees."""
    cut = data.draw(st.integers(0, len(tree.processes) - 1))
    before, after = placed(Lineage(blind), tree), placed(Lineage(blind), tree, cut)
    roots: dict[bytes, str] = {}
    for name, place in after.items():
        assert (place.span_id, place.parent_span_id) == (before[name].span_id, before[name].parent_span_id)
        assert (place.link or (b"", b""))[1] == (before[name].link or (b"", b""))[1]
        root = tree.root(tree.processes[int(name[1:])])
        assert roots.setdefault(place.trace_id, root) == root
        assert place.partial or place.trace_id == before[name].trace_id


@given(trees(), st.data())
def test_identities_that_tell_something_merge_no_trees(tree: Tree, data: st.DataObject) -> None:
    """Where an identity tells start and pid, more of a tree stays together after a restart, and still no two do."""
    cut = data.draw(st.integers(0, len(tree.processes) - 1))

    def skeleton(identity: str) -> Process | None:
        one = tree.processes[int(identity[1:])] if identity else None
        return one._replace(parent_identity="", container=None) if one else None

    roots: dict[bytes, str] = {}
    for name, place in placed(Lineage(skeleton), tree, cut).items():
        root = tree.root(tree.processes[int(name[1:])])
        assert roots.setdefault(place.trace_id, root) == root


@given(trees(containers=("", "a" * 64), everything=False), st.data())
def test_ancestors_in_the_event_need_no_memory(tree: Tree, data: st.DataObject) -> None:
    """With them a placement is the same whoever asks, and whenever."""
    one = data.draw(st.sampled_from(tree.processes))
    assert Lineage(blind).place(one, tree.ancestors(one)) == placed(Lineage(blind), tree)[one.identity]
