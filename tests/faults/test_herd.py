"""Many nodes have full queues when one Collector comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from peers.processes import free_port

if TYPE_CHECKING:
    from tests.faults.parts import Fault

PROCESSES, EXPORTERS = 4, 50
COLLECTOR_MIB = 512
"""What the Collector may have resident; less than what waits for it. Sent at full speed from the start it had 600 MiB."""


@pytest.mark.alone
@pytest.mark.timeout(180)
def test_returning_collector_is_not_felled(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    """200 exporters with 400 MiB for a ``memory_limiter`` of 100 MiB: never too much, and everything in the end."""
    # Four fifths of what it may have, as the Collector's own chart sets it: garbage that Go is in no hurry to collect is
    # not what it is felled by.
    monkeypatch.setenv("GOMEMLIMIT", f"{COLLECTOR_MIB * 4 // 5}MiB")
    port = free_port()
    config = {
        "tls": {"insecure": True},
        "retry_on_failure": {"initial_interval": "500ms", "max_interval": "3s"},
        "sending_queue": {"queue_size": "2MiB", "batch": {"flush_timeout": "100ms", "max_size": "256KiB"}},
    }
    herds = [fault.herd(number * EXPORTERS, EXPORTERS, port=port, config=config) for number in range(PROCESSES)]
    for herd in herds:
        herd.until(lambda herd=herd: "full" in herd.output(), "all queues are full")
    limiter = {"memory_limiter": {"check_interval": "1s", "limit_mib": 100, "spike_limit_mib": 25}}
    collector = fault.collector(port=port, receiver={"endpoint": f"0.0.0.0:{port}"}, processors=limiter)
    pid = collector.pid
    fault.settle(deadline_s=120)
    for large in (collector.json, collector.proto):
        large.unlink()  # pytest keeps the folders of three runs
    assert collector.running
    assert collector.pid == pid
    row = f"{PROCESSES * EXPORTERS} exporters with full queues, a Collector returns"
    fault.concluded(row, collector.peak_bytes, COLLECTOR_MIB)
