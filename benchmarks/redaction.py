"""What redaction costs per string: one that holds no secret, and one that does."""

from __future__ import annotations

import time
from statistics import median
from typing import TYPE_CHECKING

from table import Row

from translators.redact import Redactor

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNS = 5
CALLS = 20_000
STRINGS = {
    "a path": "/usr/lib/x86_64-linux-gnu/libc.so.6",
    "a script of 150 characters": '-c "mkdir -p /sys/fs/cgroup/system.slice/w.service; echo $$ > /sys/fs/cgroup/cgroup.procs; '
    'cd /root; exec bash /opt/tg/w.sh --level 3 --verbose"',
    "a command that holds a secret": "-h db -u app --password hunter2 --database orders",
    "one that a rule is tried on, in vain": "kubectl get secret db -o yaml -n kube-system",
}


def rows() -> Iterator[Row]:
    """One row per string; an event here is one call."""
    redactor = Redactor()
    for what, text in STRINGS.items():
        seconds = median(_run(redactor, text) for _ in range(RUNS))
        yield Row(f"redacting {what}", CALLS / seconds, seconds / CALLS * 1e6)


def _run(redactor: Redactor, text: str) -> float:
    flat = redactor.flat
    start = time.process_time()
    for _ in range(CALLS):
        flat(text)
    return time.process_time() - start
