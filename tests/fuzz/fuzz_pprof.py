"""Bad pushes for what reads forms, queries and JSON of profilers, and bad files for ``otelbee inspect``."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from fuzz import mutations
from hypothesis import strategies as st

from receiver.errors import RecordingError, RequestError
from receiver.inspection import inspect
from receiver.net.gate import Sender
from receiver.sources.pprof import datadog, plain, pyroscope
from tests.receiver.sources.profiled import form
from tests.receiver.test_inspection import request, small

if TYPE_CHECKING:
    from receiver.sources.pprof.push import Push, Read

_READERS: dict[str, Read] = {
    "plain": plain.read,
    "ingest": pyroscope.read_ingest,
    "push": pyroscope.read_push,
    "datadog": datadog.read,
}
_HALF = {"tags_profiler": "a:\ud800", "family": "\udfff"}
"""Halves of surrogate pairs, which JSON can write."""
_EVENT = {"start": "2026-08-21T10:00:00.1Z", "tags_profiler": "a:b,c", "info": {"x": [1]}, "family": "go"}


class Input(NamedTuple):
    """One request."""

    reader: str
    content_type: str
    below: str
    query: tuple[tuple[str, str], ...]
    body: bytes


@cache
def _bodies() -> list[bytes]:
    profile = small().SerializeToString()
    event = json.dumps(_EVENT).encode()
    ingest, _ = form(("profile", "profile.pprof", profile), ("sample_type_config", "x.json", b'{"cpu":{}}'))
    dog, _ = form(("event", "event.json", event), ("cpu.pprof", "cpu.pprof", profile), ("metrics.json", "m", b"[]"))
    half, _ = form(("event", "event.json", json.dumps(_HALF).encode()), ("c", "c.pprof", profile))
    return [
        profile,
        half,
        ingest,
        dog,
        b'{"series":[{"labels":[{"name":"a","value":"b"}],"samples":[{"rawProfile":"eA=="}]}]}',
    ]


def inputs() -> st.SearchStrategy[Input]:
    """Damaged bodies under content types and queries that are right, or nearly."""
    types = [
        "multipart/form-data; boundary=limit",
        "multipart/form-data",
        "application/json",
        "",
        "multipart/form-data; boundary=",
    ]
    names = st.sampled_from(["app", "app{a=b}", "app{", "{}", "app{a}", ""]) | st.text(max_size=20)
    values = st.sampled_from(["pprof", "jfr", "1700000000", "9" * 30, "-1", ""]) | st.text(max_size=8)
    query = st.lists(st.tuples(st.sampled_from(["from", "format", "spyName", "x"]), values), max_size=3)
    queries = st.builds(lambda name, more: (("name", name), *more), names, query)
    below = st.sampled_from(["", "a/b", "a", "%zz/%ff", "//"]) | st.text(max_size=12)
    bodies = st.one_of(mutations.any_bytes(_bodies()), st.sampled_from(_bodies()))
    return st.builds(Input, st.sampled_from(sorted(_READERS)), st.sampled_from(types), below, queries, bodies)


def check(given: Input) -> None:
    """A push whose records are no larger than the body, or one of the errors that a sender is told."""
    sender = Sender(None, {"content-type": given.content_type}, given.below, given.query)
    with mutations.bounded(len(given.body)):
        try:
            push = asyncio.run(_read(given.reader, sender, given.body))
        except RequestError as error:
            assert str(error)  # noqa: PT017 - an error is one of two good outcomes
            assert len(str(error)) < 1_000  # noqa: PT017 - likewise
            return
    assert all(text.encode() for text in push.labels), "a label without a name, or none that can be encoded"
    "".join((*push.labels.values(), *push.names)).encode()
    assert sum(map(len, push.records)) <= len(given.body)


async def _read(reader: str, sender: Sender, body: bytes) -> Push:
    push = await _READERS[reader](sender, body)
    push.check()
    return push


def files() -> st.SearchStrategy[bytes]:
    """Damaged profiles, compressed or not."""
    seeds = [small().SerializeToString(), request().SerializeToString(), gzip.compress(small().SerializeToString())]
    return mutations.any_bytes(seeds)


def check_file(data: bytes) -> None:
    """Text that a terminal shows as it is, or an error."""
    try:
        text = inspect("file", io.BytesIO(data))
    except RecordingError as error:
        assert str(error)  # noqa: PT017 - an error is one of two good outcomes
        return
    assert all(line.isprintable() for line in text.split("\n"))
    assert len(text) < 100_000


if __name__ == "__main__":
    mutations.by_hand({"push": (check, inputs()), "inspect": (check_file, files())})
