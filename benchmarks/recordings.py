"""The recording that is measured with, and what is made of it."""

from __future__ import annotations

import base64
from pathlib import Path

from receiver.replay import read_events
from translators.pb import tetragon_pb2

HIGHVOL = Path(__file__).resolve().parent.parent.parent / "shared/data/tetragon/recordings/highvol.pb.gz"
"""A real agent's stream of execs, exits and file monitoring on a busy machine."""


def as_it_is() -> list[bytes]:
    """The recording, event by event."""
    return read_events(HIGHVOL)


def new_processes(events: list[bytes], first_pid: int, *, parents: bool) -> list[bytes]:
    """The same events, but each of a process (and of a parent) that no other event has."""
    made = []
    for pid, event in enumerate(events, first_pid):
        message = tetragon_pb2.GetEventsResponse.FromString(event)
        kind = message.WhichOneof("event")
        of_process = getattr(message, kind)
        _rename(of_process.process, pid)
        if parents and of_process.HasField("parent"):
            _rename(of_process.parent, pid + len(events))
        made.append(message.SerializeToString())
    return made


def _rename(process: tetragon_pb2.Process, pid: int) -> None:
    """Give a process an identity as the agent makes it: base64 of node, start and pid."""
    process.exec_id = base64.b64encode(f"node-1:{2_547_692_039_004 + pid}:{pid}".encode()).decode()
    process.pid.value = pid
    process.tid.value = pid
