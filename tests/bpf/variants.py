"""Loads the programs as on other kernels: with flags taken away or another cgroup hierarchy; run by the system's Python.

Reads one JSON object per line: ``drop`` (flags to leave out), ``controller`` (cgroup v1 controller, null for v2) and
``command`` (to run). Answers with one line each: the records as {kind: [hex, ...]}, or {"error": ...}.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "bpf"))
sys.dont_write_bytecode = True

import btf  # noqa: E402 - flat modules of the folder above
import layout  # noqa: E402 - likewise
import loader  # noqa: E402 - likewise
import tracefs  # noqa: E402 - likewise


def answer(types: btf.Btf, exit_format: dict[str, int], question: dict[str, object]) -> dict[str, object]:
    """Load, run the command, and collect its process's records."""
    records: list[bytes] = []

    def receive(record: bytes) -> bool:
        records.append(record)
        return True

    dropped = question["drop"]
    flags = layout.flags(types, question["controller"], exit_format)
    flags = [flag for flag in flags if flag[2:].partition("=")[0] not in dropped]
    loaded = loader.load(("exec", "exit"), flags, receive)
    child = subprocess.Popen(question["command"])
    child.wait()
    deadline = time.monotonic() + 5
    pid = child.pid.to_bytes(4, sys.byteorder)
    while not any(record[4] == 2 and record[48:52] == pid for record in records) and time.monotonic() < deadline:
        loaded.consume()
        time.sleep(0.01)
    loaded.close()
    found = {"exec": [], "exit": []}
    for record in records:
        if record[48:52] == pid:
            found["exec" if record[4] == 1 else "exit"].append(record.hex())
    return found


def main() -> None:
    """Answer every line of standard input."""
    types = btf.read()
    exit_format = tracefs.read_format(tracefs.find(), "sched", "sched_process_exit")
    for line in sys.stdin:
        try:
            result = answer(types, exit_format, json.loads(line))
        except (layout.LayoutError, loader.LoadError) as error:
            result = {"error": str(error)}
        print(json.dumps(result), flush=True)  # noqa: T201 - the answer


if __name__ == "__main__":
    main()
