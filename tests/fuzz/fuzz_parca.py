"""Damaged Arrow records of both schemas for the translator of Parca's data."""

from __future__ import annotations

from typing import NamedTuple

from fuzz import mutations
from hypothesis import strategies as st
from peers import parca_agent as agent
from peers.parca_agent import HEAP, OFF_CPU, Frame, Line, Row

from tests.profiles import conformance
from translators.batch import Origin
from translators.parca_arrow import MalformedError, Options, framed, wanted
from translators.parca_arrow.translator import Translator

_NOW_NS = 1_752_500_000_000_000_000
_STACK = (
    Frame(4660, "native", "libc.so.6", "ab" * 20),
    Frame(2**64 - 9, "kernel", "[kernel.kallsyms]", None, (Line("do_syscall_64", "vmlinux"),)),
    Frame(7, "cpython", None, None, (Line("main", "/app/server.py", 7, 3),)),
)
_ROWS = [
    Row((("comm", "a"), ("cpu", "1"), ("node", "n")), _STACK, 1, _NOW_NS),
    Row((("comm", "a"), ("node", "n")), _STACK[:1], 5, _NOW_NS + 1, OFF_CPU),
    Row((("node", "n"),), (), -3, _NOW_NS + 2, HEAP),
]


class Input(NamedTuple):
    """A record of a kind."""

    kind: str
    data: bytes


def inputs() -> st.SearchStrategy[Input]:
    """Damaged records, also where those of the other schema are expected."""
    samples, stacks = agent.v1(_ROWS)
    answer = agent.locations(list(stacks.items()))
    seeds = [*(agent.v2(_ROWS, compression) for compression in (None, "lz4", "zstd")), framed(samples, answer), samples]
    return st.builds(Input, st.sampled_from(["arrow_v2", "arrow_v1"]), mutations.any_bytes(seeds))


def check(given: Input) -> None:
    """One outcome: refused with a reason, or OTLP that conforms."""
    translator = Translator(Options())
    with mutations.bounded(len(given.data), room_mib=64):
        translation = translator.translate(given.kind, [given.data], Origin(), _NOW_NS)
        try:
            wanted(given.data)
        except MalformedError as error:
            assert str(error)  # noqa: PT017 - it is one of two good outcomes
    assert len(translation.batches) + len(translation.rejected) <= 1
    for rejection in translation.rejected:
        assert rejection.reason in {"malformed", "too_large"}
        assert rejection.message
    for batch in translation.batches:
        assert not conformance.problems(batch.data)


if __name__ == "__main__":
    mutations.by_hand({"parca": (check, inputs())})
