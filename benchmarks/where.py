"""Where otelbee's processor time goes on the way from Tetragon's stream to the Collector's answer.

Its main thread is sampled (:mod:`sampled`); the others are gRPC's, which sends.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from peers.processes import Collector, Otelbee
from side_by_side import EVENTS, agent, cpu_s, wait_for
from table import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

_SAMPLED = Path(__file__).resolve().parent / "sampled.py"


class _Sampled(Otelbee):
    """Leaves what was found in ``samples.json`` when it is stopped."""

    def launch(self) -> None:
        self.samples = self.folder / "samples.json"
        self._command = [sys.executable, str(_SAMPLED), str(self.samples), *self._command[3:]]
        super().launch()

    def main_thread_s(self) -> float:
        return int(Path(f"/proc/{self.pid}/schedstat").read_text().split()[0]) / 1e9


def rows() -> Iterator[Row]:
    """The whole, and its parts; redaction off and no compression."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="otelbee-bench-")))
        collector = stack.enter_context(Collector(folder, formats=["proto"]))
        peer = stack.enter_context(agent(folder, ()))
        config = {
            "sources": {"tetragon": {"endpoint": peer.address, "exclude_self": False}},
            "exporter": {
                "otlp_grpc": {
                    "endpoint": collector.endpoint,
                    "tls": {"insecure": True},
                    "sending_queue": {"queue_size": "1GiB"},
                }
            },
            "redaction": {"enabled": False},
        }
        otelbee = stack.enter_context(_Sampled(folder, config))
        peer.report("begin")
        all_s, main_s = cpu_s(otelbee.pid), otelbee.main_thread_s()
        wait_for(collector, EVENTS + 1)  # the gap that a start is
        all_s, main_s = cpu_s(otelbee.pid) - all_s, otelbee.main_thread_s() - main_s
        otelbee.stop()
        found = Counter(json.loads(otelbee.samples.read_text()))
    yield Row("highvol: otelbee, sampled", cost_us=all_s / EVENTS * 1e6)
    parts = {part: main_s / EVENTS * 1e6 * n / found.total() for part, n in found.items()}
    parts["gRPC's threads"] = (all_s - main_s) / EVENTS * 1e6
    for part, cost_us in sorted(parts.items(), key=lambda item: -item[1]):
        yield Row(f"  {part}", cost_us=cost_us)
