"""Event times that a wrong clock must have made."""

from __future__ import annotations

from typing import Any

import pytest

from translators.batch import Origin
from translators.pb import tetragon_pb2 as full
from translators.tetragon import Translator
from translators.tetragon.doubt import TOLERANCE_NS

BOOT_NS = 1_700_000_000_000_000_000
NOW_NS = BOOT_NS + 3_600_000_000_000


def _counts(time_ns: int, boot_ns: int) -> tuple[dict[str, int], bytes]:
    event = full.GetEventsResponse(process_exec=full.ProcessExec(process=full.Process(binary="/bin/x")))
    event.time.FromNanoseconds(time_ns)
    made = Translator().translate("protobuf", [event.SerializeToString()], Origin(boot_ns=boot_ns), NOW_NS)
    return dict(made.counts), made.batches[0].data


@pytest.mark.parametrize(
    ("time_ns", "boot_ns", "mark", "counts"),
    [
        pytest.param(NOW_NS + TOLERANCE_NS, BOOT_NS, None, {}, id="clocks differ a little"),
        pytest.param(NOW_NS + TOLERANCE_NS + 1, BOOT_NS, b"future", {"time_in_future": 1}, id="in the future"),
        pytest.param(BOOT_NS - TOLERANCE_NS, BOOT_NS, None, {}, id="just before boot"),
        pytest.param(BOOT_NS - TOLERANCE_NS - 1, BOOT_NS, b"before_boot", {"time_before_boot": 1}, id="before boot"),
        pytest.param(1, 0, None, {}, id="the start is not known"),
    ],
)
def test_what_cannot_be_is_marked_and_kept(
    time_ns: int, boot_ns: int, mark: bytes | None, counts: dict[str, int]
) -> None:
    """Marked, counted, and the time is the event's own."""
    found, data = _counts(time_ns, boot_ns)
    assert found == counts
    assert (b"otelbee.time_anomaly" in data) == (mark is not None)
    assert mark is None or mark in data
    assert time_ns.to_bytes(8, "little") in data


def test_a_missing_time_is_no_wrong_one() -> None:
    """It has a mark of its own."""
    event = full.GetEventsResponse(process_loader=full.ProcessLoader(path="/lib/x"))
    made: Any = Translator().translate("protobuf", [event.SerializeToString()], Origin(boot_ns=BOOT_NS), NOW_NS)
    assert b"otelbee.time_anomaly" not in made.batches[0].data
