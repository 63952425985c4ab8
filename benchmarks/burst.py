"""What an agent drops in a burst: 200,000 events at 100,000/s and at 200,000/s, into a queue of 10,000 as Tetragon's.

Its reader is the bare Go client, bare grpc.aio, or otelbee with a Collector behind it, on the cores that they share. The
passes of the recording are made before the clock starts.
"""

from __future__ import annotations

import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import recordings
from peers.processes import Collector, Otelbee, TetragonPeer
from side_by_side import CLIENTS, client_command
from table import Row

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

RUNS = 5
EVENTS = 200_000
_LOOPS = 5  # of 44,052 events
_DELAY_S = 0.5
_RATES = (100_000, 200_000)


def rows() -> Iterator[Row]:
    """Each reader at each rate, in turns; of its runs the one that lost most."""
    for rate in _RATES:
        lost: dict[str, list[int]] = {}
        for _ in range(RUNS):
            for name, command in CLIENTS.items():
                lost.setdefault(name, []).append(_run(rate, command))
            lost.setdefault("otelbee", []).append(_run(rate, None))
        for name, own in lost.items():
            yield Row(f"burst of {rate:,}/s, worst of {RUNS}: {name}", rate, lost=max(own))


def _run(rate: int, command: Sequence[str] | None) -> int:
    """How many events the agent dropped; None is otelbee."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="otelbee-bench-")))
        flags = [f"--rate={rate}", f"--loop={_LOOPS}", f"--count={EVENTS}", "--drop", f"--delay={_DELAY_S}s"]
        peer = stack.enter_context(TetragonPeer(folder, recordings.HIGHVOL, flags=flags))
        if command is None:
            collector = stack.enter_context(Collector(folder, formats=["proto"]))
            config: dict[str, Any] = {
                "sources": {"tetragon": {"endpoint": peer.address, "exclude_self": False}},
                "exporter": {"otlp_grpc": {"endpoint": collector.endpoint, "tls": {"insecure": True}}},
            }
            stack.enter_context(Otelbee(folder, config))
        else:
            arguments = client_command(command, peer.address, EVENTS)
            process = stack.enter_context(subprocess.Popen(arguments, stdout=subprocess.DEVNULL))
            stack.callback(process.kill)
        lost: int = peer.report("end")["dropped"]
        return lost
