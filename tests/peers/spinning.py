"""A Python program that is profiled by Pyroscope's agent: ``spinning.py SERVER SECONDS``, with the agent on PYTHONPATH."""

from __future__ import annotations

import sys
import time

import pyroscope  # type: ignore[import-not-found] - from .build, see build.py


def spin(duration_s: float) -> int:
    """Take CPU time, so that there is something to show."""
    count, end = 0, time.monotonic() + duration_s
    while time.monotonic() < end:
        count += 1
    return count


def main() -> None:
    """Spin, and let the agent push what it saw at the end."""
    pyroscope.configure(application_name="spinning", server_address=sys.argv[1], tags={"env": "test"}, sample_rate=100)
    spin(float(sys.argv[2]))
    pyroscope.shutdown()


if __name__ == "__main__":
    main()
