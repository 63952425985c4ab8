"""The next stage answers with an error: later, not now, too large, never."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from peers.processes import until

if TYPE_CHECKING:
    from tests.faults.parts import Fault

RETRY_AFTER_S = 0.7


@pytest.mark.parametrize("code", ["UNAVAILABLE", "RESOURCE_EXHAUSTED"])
def test_retry_info_is_waited_for(fault: Fault, code: str) -> None:
    """With RetryInfo the same request comes again, and not sooner than it says."""
    scripted = fault.scripted(code=code, retry_delay_s=RETRY_AFTER_S)
    fault.run(scripted.endpoint, retry={"initial_interval": "50ms", "max_interval": "50ms"})
    fault.sender().acknowledged(1000)
    until(lambda: len(scripted.answered(code)) >= 5, "several requests were refused")
    assert not fault.delivered()
    scripted.answer()
    fault.arrives(1000)
    fault.survived(f"{code} with RetryInfo")

    times: dict[str, list[float]] = {}
    for said in scripted.answered(code):
        times.setdefault(said["first"], []).append(said["at_s"])
    waits = [later - sooner for same in times.values() for sooner, later in itertools.pairwise(same)]
    assert waits
    assert min(waits) >= RETRY_AFTER_S


def test_unavailable_without_retry_info(fault: Fault) -> None:
    """It is tried again at the configured intervals."""
    scripted = fault.scripted(code="UNAVAILABLE", details="try later")
    fault.run(scripted.endpoint)
    fault.sender().acknowledged(1000)
    until(lambda: len(scripted.answered("UNAVAILABLE")) >= 5, "several requests were refused")
    scripted.answer()
    fault.arrives(1000)
    fault.survived("UNAVAILABLE without RetryInfo")


def test_resource_exhausted_without_retry_info_is_held(fault: Fault) -> None:
    """A quota that is used up costs nothing: all is kept, somebody is told, and it goes on when there is one again."""
    scripted = fault.scripted(code="RESOURCE_EXHAUSTED", details="quota used up")
    otelbee = fault.run(scripted.endpoint)
    fault.sender().acknowledged(1000)
    until(lambda: otelbee.metric("otelbee_exporter_held", data_type="logs"), "logs are held")
    until(lambda: len(scripted.answered("RESOURCE_EXHAUSTED")) >= 2, "it is tried again")
    scripted.answer()
    fault.arrives(1000)
    assert not otelbee.metric("otelbee_exporter_held", data_type="logs")
    assert otelbee.errors().count("Exporting logs is held; ") == 1
    fault.survived("RESOURCE_EXHAUSTED without RetryInfo (held)")


def test_larger_than_max_is_cut(fault: Fault) -> None:
    """A Collector that takes less at once than otelbee would send gets all of it in smaller requests."""
    collector = fault.collector(receiver={"max_recv_msg_size_mib": 1})
    collector.kill()
    fault.run(collector.endpoint, queue={"batch": {"flush_timeout": "50ms", "max_size": "3MiB"}})
    fault.sender(rate=5000, body_bytes=1000).acknowledged(10_000)
    collector.start()
    fault.arrives(10_000)
    fault.survived('RESOURCE_EXHAUSTED "larger than max" (1 MiB)')


def test_ten_mebibytes_against_the_collectors_limit(fault: Fault) -> None:
    """A request of 10 MiB that otelbee passes on whole, because it is told to, is cut when the Collector refuses it."""
    collector = fault.collector()
    fault.run(
        collector.endpoint,
        grpc={"max_recv_msg_size_mib": 16},
        queue={"batch": {"flush_timeout": "50ms", "max_size": "16MiB"}},
        limit_mib=256,
    )
    fault.sender("large", count=2500, per_request=2500, body_bytes=4200).acknowledged(2500)
    fault.sender().acknowledged(500)
    fault.arrives(500)
    fault.survived("10 MiB request, Collector takes 4 MiB")


def test_ten_mebibytes_against_otelbees_own_limit(fault: Fault) -> None:
    """Its sender is told that it is too large, and once; the others go on."""
    collector = fault.collector()
    otelbee = fault.run(collector.endpoint)
    normal = fault.sender()
    fault.arrives(500)
    large = fault.sender("large", count=2500, per_request=2500, body_bytes=4200)
    large.until(lambda: large.ledger.refused, "the request is refused for good")
    assert "RESOURCE_EXHAUSTED" in large.output()
    normal.acknowledged(500)
    assert not otelbee.metric("otelbee_dropped_items")
    row = fault.survived("10 MiB request, otelbee takes 4 MiB (told so)")
    assert row.sent - row.acknowledged == 2500


def test_one_poison_record_among_ten_thousand(fault: Fault) -> None:
    """The one that is refused is put aside alone; every neighbour is delivered."""
    poison = "fault.logs.000004711"
    scripted = fault.scripted(code="INVALID_ARGUMENT", details="bad record", only=poison)
    otelbee = fault.run(scripted.endpoint)
    sender = fault.sender(rate=4000, count=10_000)
    sender.acknowledged(10_000)
    until(fault.put_aside, "the poison is put aside")
    assert len(scripted.answered("INVALID_ARGUMENT")) <= 64
    assert otelbee.metric("otelbee_dead_letter_items", reason="refused") == 1
    row = fault.survived("one poison record among 10,000")
    assert fault.put_aside() == {poison.encode()}
    assert (row.acknowledged, row.delivered) == (10_000, 9_999)


def test_every_record_is_refused(fault: Fault) -> None:
    """All of it goes to dead_letter, nothing stops, and what is taken afterwards is delivered."""
    scripted = fault.scripted(code="INVALID_ARGUMENT", details="no", data=True)
    fault.run(scripted.endpoint)
    fault.sender().acknowledged(1000)
    until(lambda: len(fault.put_aside()) >= 1000, "1,000 records are put aside")
    assert not fault.delivered()
    scripted.answer()
    fault.arrives(500)
    fault.survived("every record refused (dead_letter)")


def test_one_signal_is_refused_while_the_others_flow(fault: Fault) -> None:
    """A Collector without a pipeline for traces stops no logs, and finds all traces when it has one."""
    collector = fault.collector()
    otelbee = fault.run(collector.endpoint)
    logs, traces = fault.sender("logs"), fault.sender("traces", signal="traces")
    until(lambda: otelbee.metric("otelbee_exporter_held", data_type="traces"), "traces are held")
    traces.acknowledged(1000)
    fault.arrives(1000)
    assert not {each for each in fault.delivered() if b".traces." in each}
    logs.acknowledged(500)
    collector.stop()
    fault.collector_again(collector, signals=("logs", "traces"))
    until(lambda: any(b".traces." in each for each in fault.delivered()), "traces arrive")
    fault.survived("one signal refused, the others flow")
