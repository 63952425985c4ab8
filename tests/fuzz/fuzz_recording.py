"""Bad recordings: what stands before the damage is read, then there is one error that says where."""

from __future__ import annotations

import gzip
import io
import json
from typing import NamedTuple

from fuzz import mutations
from hypothesis import strategies as st

from receiver.errors import RecordingError
from receiver.recording import MAX_RECORD_BYTES, read_numbered


class Input(NamedTuple):
    """A recording whose first part is good."""

    good: int
    tail: bytes
    compressed: bool
    cut: int
    """Bytes that are missing at the end of the file."""


def inputs() -> st.SearchStrategy[Input]:
    """Good records, then damage; compressed or not; cut off or not."""
    framed = [len(event).to_bytes(4, "big") + event for event in mutations.protobuf_events()]
    tails = mutations.any_bytes([*framed, gzip.compress(framed[0]), b"{}\n"])
    return st.builds(Input, st.integers(0, 3), tails, st.booleans(), st.sampled_from([0, 0, 1, 7, 9, 40]))


def check_messages(given: Input) -> None:
    """Length-prefixed messages."""
    events = mutations.protobuf_events()[: given.good]
    head = b"".join(len(event).to_bytes(4, "big") + event for event in events)
    _check(given, head, [("protobuf", event) for event in events])


def check_lines(given: Input) -> None:
    """JSON lines."""
    lines = [json.dumps(event).encode() for event in mutations.json_events()[: given.good]]
    head = b"".join(line + b"\n" for line in lines)
    _check(given, head, [("json", line) for line in lines])


def _check(given: Input, head: bytes, good: list[tuple[str, bytes]]) -> None:
    data = head + given.tail
    stored = gzip.compress(data, 1) if given.compressed else data
    stored = stored[: len(stored) - given.cut] if given.cut else stored
    found = []
    # The reader reads as much as a length claims, at most 64 MiB.
    with mutations.bounded(len(data), room_mib=160):
        try:
            for record in read_numbered(io.BytesIO(stored)):
                assert len(record.data) <= MAX_RECORD_BYTES
                found.append((record.kind, record.data))
        except RecordingError as error:
            assert str(error)  # noqa: PT017 - an error is one of two good outcomes
    if not given.cut:
        assert found[: len(good)] == good, "good records before the damage are lost"


if __name__ == "__main__":
    mutations.by_hand({"messages": (check_messages, inputs()), "lines": (check_lines, inputs())})
