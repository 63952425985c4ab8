"""Real profilers in front of the ``pprof`` source: what they send is taken, and is a profile of what the program did."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from peers import build
from peers.processes import Program

from tests.receiver.sources.profiled import HTTP, Given, Running, running
from tests.receiver.tiny import until
from translators.decompression import decompress
from translators.pb.profile_pb2 import Profile
from translators.pb.push_pb2 import PushRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("peers")


@contextmanager
def profiled(folder: Path, *flags: str) -> Iterator[Program]:
    """The program that burns CPU, with its clients as ``flags`` say."""
    with Program("profiled", [build.profiled(), *flags], folder) as program:
        program.until(lambda: '"event"' in program.output(), "it says that it began")
        yield program


def functions(record: bytes) -> set[str]:
    """The names in a profile."""
    profile = Profile.FromString(decompress(record, 64 << 20))
    return {profile.string_table[each.name] for each in profile.function}


def types(record: bytes) -> list[str]:
    """The sample types of a profile."""
    profile = Profile.FromString(decompress(record, 64 << 20))
    return [profile.string_table[each.type] for each in profile.sample_type]


def seen(source: Running, function: str) -> list[Given]:
    """The profiles in which a function is."""
    return [each for each in source.given if each.kind == "pprof" and function in functions(each.record)]


async def test_pyroscopes_go_sdk(tmp_path: Path) -> None:
    """``/ingest`` with forms: CPU and heap profiles, labels, the tenant's header."""
    async with running(protocols=HTTP, resource_headers={"X-Scope-OrgID": "tenant.id"}) as source:
        with profiled(tmp_path, f"--pyroscope=http://{source.address('http')}", "--name=shop") as program:
            await until(lambda: seen(source, "main.Spin") and seen(source, "main.Allocate"))
            assert '"error"' not in program.output()
        labels = seen(source, "main.Spin")[0].labels
        assert {"service_name": "shop", "env": "test", "pyroscope_spy": "gospy", "tenant.id": "tenant-1"}.items() <= (
            labels.items()
        )
        assert "alloc_space" in types(seen(source, "main.Allocate")[0].record)
        assert "__sample_type_config__" in seen(source, "main.Allocate")[0].labels
        assert not any(source.refused(reason) for reason in ("malformed", "unsupported", "too_large"))


async def test_datadogs_go_profiler(tmp_path: Path) -> None:
    """CPU and heap of one upload together; what is no profile is left out."""
    async with running(protocols=HTTP) as source:
        with profiled(tmp_path, f"--datadog={source.address('http')}", "--name=shop") as program:
            await until(lambda: seen(source, "main.Spin") and seen(source, "main.Allocate"))
            assert "failed to send" not in program.errors()
        labels = seen(source, "main.Spin")[0].labels
        expected = {"service": "shop", "env": "test", "version": "1.2.3", "runtime": "go", "datadog.family": "go"}
        assert expected.items() <= labels.items()
        await until(lambda: source.counted("attachments_left_out") >= 1)
        assert not any(source.refused(reason) for reason in ("malformed", "unsupported", "too_large"))


async def test_pyroscopes_python_agent(tmp_path: Path) -> None:
    """``push.v1.PusherService/Push`` by Connect, gzip."""
    async with running(protocols=HTTP) as source:
        script = build.HERE / "spinning.py"
        command = ["env", f"PYTHONPATH={build.pyroscope()}", sys.executable, str(script)]
        with Program("spinning", [*command, f"http://{source.address('http')}", "2"], tmp_path) as program:
            await until(lambda: not program.running, 20)
        requests = [PushRequest.FromString(each.record) for each in source.given if each.kind == "pyroscope_push"]
        found = [(series, sample) for each in requests for series in each.series for sample in series.samples]
        (series,) = [series for series, sample in found if "spin" in functions(sample.raw_profile)]
        labels = {each.name: each.value for each in series.labels}
        assert {"service_name": "spinning", "env": "test", "__name__": "process_cpu"}.items() <= labels.items()


async def test_gos_own_endpoints_are_scraped(tmp_path: Path) -> None:
    """All five of the default set; the CPU profile is that of one interval."""
    with profiled(tmp_path, "--listen=127.0.0.1:0") as program:
        endpoint = program.output().partition('"text":"')[2].partition('"')[0]
        async with running(scrape={"targets": [endpoint], "interval": "1s"}) as source:
            names = {"memory", "block", "goroutine", "mutex", "process_cpu"}
            await until(lambda: {each.labels["__name__"] for each in source.given} == names)
            await until(lambda: source.intake.current.reason == "1 of 1 targets answer")
        one = {each.labels["__name__"]: each for each in source.given}
        assert "main.Spin" in functions(one["process_cpu"].record)
        profile = Profile.FromString(decompress(one["process_cpu"].record, 64 << 20))
        assert 0.9e9 < profile.duration_nanos < 2e9
        assert types(one["memory"].record) == ["alloc_objects", "alloc_space", "inuse_objects", "inuse_space"]
        assert one["memory"].labels["instance"] == endpoint.removeprefix("http://")


async def test_curl(tmp_path: Path, shared_data: Callable[..., Path]) -> None:
    """As the page of the source shows it."""
    profile = shared_data("profiles", "pprof", "query__fib.pb.gz")

    def curl(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["curl", "--silent", "--show-error", "--noproxy", "*", "--write-out", "%{http_code}", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=20, cwd=tmp_path, check=False)

    async with running(protocols=HTTP) as source:
        url = f"http://{source.address('http')}"
        done = await asyncio.to_thread(
            curl,
            "--data-binary",
            f"@{profile}",
            f"{url}/v1/pprof/service_name/shop?env=ci",
            "-H",
            "otelbee-label-team: x",
        )
        assert (done.stdout, done.stderr) == ("204", "")
        done = await asyncio.to_thread(curl, "-F", f"profile=@{profile}", f"{url}/ingest?name=shop%7Benv=ci%7D")
        assert (done.stdout, done.stderr) == ("200", "")
        large = tmp_path / "large"  # curl asks for leave before it sends so much
        large.write_bytes(profile.read_bytes() + os.urandom(2 << 20))
        done = await asyncio.to_thread(curl, "--data-binary", f"@{large}", f"{url}/v1/pprof")
        assert done.stdout == "204"
        assert [each.record for each in source.given] == [profile.read_bytes()] * 2 + [large.read_bytes()]
        assert source.given[0].labels == {"service_name": "shop", "env": "ci", "team": "x"}
