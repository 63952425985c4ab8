"""The ``parca`` source between real programs: Parca's clients and scraper before it, the Collector or Parca behind it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from conftest import require_program
from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import ExportProfilesServiceRequest
from peers import build, parca_agent, records
from peers.parca_agent import HEAP, OFF_CPU, Agent, Frame, Line, Row
from peers.parca_server import ParcaServer, push
from peers.processes import Collector, Otelbee, free_port, run_otelbee

from tests.profiles import conformance

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

NOW_NS = 1_752_500_000_000_000_000
MAIN = Frame(10, "cpython", lines=(Line("main", "/app/server.py", 10),))
NATIVE = Frame(4660, "native", "libc.so.6", "69389d485a9793dbe873f0ea2c93e02efaa9aa3d")


@pytest.fixture(autouse=True)
def _programs() -> None:
    for program in (build.otelcol(), build.parca(), build.parca_push()):
        require_program(program)


def otelbee(folder: Path, behind: str, **parca: Any) -> tuple[Otelbee, str, str]:
    """The service in front of ``behind``, with the addresses of its gRPC and HTTP listeners."""
    grpc, http = (f"127.0.0.1:{free_port()}" for _ in range(2))
    source = {"protocols": {"grpc": {"endpoint": grpc}, "http": {"endpoint": http}}, **parca}
    exporter = {"endpoint": behind, "tls": {"insecure": True}}
    return Otelbee(folder, {"sources": {"parca": source}, "exporter": {"otlp_grpc": exporter}}), grpc, http


def samples(collector: Collector) -> Counter[str]:
    """How many samples of each type the Collector has."""
    found: Counter[str] = Counter()
    for request in received(collector):
        text = request.dictionary.string_table
        for resource in request.resource_profiles:
            for scope in resource.scope_profiles:
                for profile in scope.profiles:
                    found[text[profile.sample_type.type_strindex]] += len(profile.samples)
    return found


def received(collector: Collector) -> list[Any]:
    """Every request that the Collector has."""
    if not collector.proto.exists():
        return []
    return [ExportProfilesServiceRequest.FromString(each) for each in records.frames(collector.proto.read_bytes())]


async def push_as_agents(address: str, rows: Sequence[Row]) -> None:
    """Push the same rows as an agent of today and as one of before."""
    old, stacks = parca_agent.v1(rows)
    async with Agent(address) as agent:
        await agent.write_arrow(parca_agent.v2(rows))
        await agent.write(old, lambda ids: parca_agent.locations([(each, stacks[each]) for each in ids]))


def test_the_collector_has_what_agents_and_clients_push(tmp_path: Path, shared_data: Callable[..., Path]) -> None:
    """Arrow of both schemas, and pprof, by scripted agents and by Parca's own client in Go."""
    rows = [
        Row((("comm", "a"), ("node", "n")), (NATIVE, MAIN), 1, NOW_NS),
        Row((("comm", "a"), ("node", "n")), (NATIVE,), 5000, NOW_NS + 1, OFF_CPU),
        Row((("comm", "b"), ("node", "n")), (NATIVE,), 4096, NOW_NS + 2, HEAP),
    ]
    with Collector(tmp_path, signals=["profiles"]) as collector:
        service, grpc, _ = otelbee(tmp_path, collector.endpoint)
        with service:
            asyncio.run(push_as_agents(grpc, rows))
            arrow = shared_data("profiles", "arrow", "v2_lz4.arrows")
            assert push(grpc, f"--arrow={arrow}") == {"code": "OK", "message": ""}
            bad = tmp_path / "bad"
            bad.write_bytes(arrow.read_bytes()[:-900])
            assert push(grpc, f"--arrow={bad}")["code"] == "InvalidArgument"
            expected = Counter({"samples": 7, "wallclock": 3, "inuse_space": 2})
            collector.until(lambda: samples(collector) == expected, f"it has {expected}")
    # The Collector writes attributes of resources as references, which the checker follows.
    for request in received(collector):
        assert not conformance.problems(request.SerializeToString())


def test_parcas_scraper_pushes_through_us(tmp_path: Path) -> None:
    """``parca --mode=scraper-only`` sends what Go's own profiler wrote; its target's labels are the resource."""
    with Collector(tmp_path, signals=["profiles"]) as collector:
        service, grpc, _ = otelbee(tmp_path, collector.endpoint)
        flags = ["--mode=scraper-only", f"--store-address={grpc}", "--insecure"]
        with service, ParcaServer(tmp_path, flags=flags, scrapes=True):
            collector.until(
                lambda: samples(collector).keys() >= {"alloc_space", "goroutine"}, "it has heap and goroutine profiles"
            )


def test_parca_behind_us_names_the_profiles_as_if_it_had_them_itself(tmp_path: Path) -> None:
    """What an agent pushes through us is found again through the API of the server, under the type's own name."""
    now_ns = time.time_ns() - 2_000_000_000
    rows = [Row((("comm", "a"), ("node", "n")), (MAIN,), 1, now_ns + n) for n in range(10)]
    with ParcaServer(tmp_path) as parca:
        service, grpc, _ = otelbee(tmp_path, parca.endpoint)
        with service:
            asyncio.run(push_as_agents(grpc, rows))

            def types() -> set[str]:
                return {
                    ":".join(each[key] for key in ("name", "sampleType", "sampleUnit", "periodType", "periodUnit"))
                    for each in parca.query("profiles/types").get("types", [])
                }

            name = "parca_agent:samples:count:cpu:nanoseconds"
            parca.until(lambda: name in types(), f"it has {name}")


def test_arrow_streams_are_translated_by_the_command(shared_data: Callable[..., Path]) -> None:
    """``otelbee translate parca_arrow`` prints what the source would send."""
    done = run_otelbee(
        "translate", "parca_arrow", shared_data("profiles", "arrow", "v2_lz4.arrows"), "--format", "proto"
    )
    assert (done.returncode, done.stderr) == (0, b"")
    (request,) = records.frames(done.stdout)
    assert not conformance.problems(request)
