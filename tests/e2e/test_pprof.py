"""Profiles that are pushed, through otelbee to the real Collector: every sample arrives, also over an outage."""

from __future__ import annotations

import gzip
import subprocess
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import zstandard
from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import ExportProfilesServiceRequest
from peers import build, records
from peers.processes import Collector, Otelbee, Program, free_port, run_otelbee

from tests.profiles.content import Content, content
from tests.profiles.reverse import pprofs
from tests.receiver.sources.profiled import form
from translators.decompression import decompress
from translators.pb.profile_pb2 import Profile
from translators.pb.push_pb2 import PushRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("peers")

NAMES = ("query__fib.pb.gz", "parca__labels.pb.gz", "parca__alloc_objects.pb.gz", "query__alloc_space_delta.pb.gz")


def requests(collector: Collector) -> list[ExportProfilesServiceRequest]:
    """What the Collector wrote; it writes attributes as references into the string table, which are resolved here."""
    if not collector.proto.exists():
        return []
    found = []
    for message in records.frames(collector.proto.read_bytes()):
        request = ExportProfilesServiceRequest.FromString(message)
        for resource in request.resource_profiles:
            _inline(resource.resource.attributes, request.dictionary.string_table)
            for scope in resource.scope_profiles:
                _inline(scope.scope.attributes, request.dictionary.string_table)
        found.append(request)
    return found


def _inline(attributes: Iterable[Any], strings: Any) -> None:
    for attribute in attributes:
        attribute.key = attribute.key or strings[attribute.key_strindex]
        if attribute.value.WhichOneof("value") == "string_value_strindex":
            attribute.value.string_value = strings[attribute.value.string_value_strindex]


def resources(collector: Collector) -> list[dict[str, str]]:
    """The text attributes of every resource that arrived."""
    return [
        {each.key: each.value.string_value for each in resource.resource.attributes}
        for request in requests(collector)
        for resource in request.resource_profiles
    ]


def arrived(collector: Collector) -> list[Content]:
    """What the profiles say that arrived, in order."""
    return [content(profile) for request in requests(collector) for profile in pprofs(request.SerializeToString())]


def read(path: Path) -> Content:
    """What a file says."""
    return content(Profile.FromString(decompress(path.read_bytes(), 64 << 20)))


def service(folder: Path, collector: str, source: dict[str, Any], **sections: Any) -> Otelbee:
    """Otelbee from the source to a Collector that may be away."""
    retry = {"initial_interval": "200ms", "max_interval": "500ms"}
    exporter = {"endpoint": collector, "tls": {"insecure": True}, "retry_on_failure": retry}
    return Otelbee(folder, {"sources": {"pprof": source}, "exporter": {"otlp_grpc": exporter}, **sections})


def post(url: str, body: bytes, headers: dict[str, str] | None = None) -> int:
    """Push once; the status."""
    given = urllib.request.Request(url, body, {"Content-Type": "application/octet-stream", **(headers or {})})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(given, timeout=30) as answer:
            status: int = answer.status
            return status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_what_curl_pushes_is_what_arrives(tmp_path: Path, shared_data: Callable[..., Path]) -> None:
    """Every sample with its stack, labels and values, and every field of the header; labels are the resource."""
    port = free_port()
    paths = [shared_data("profiles", "pprof", name) for name in NAMES]
    with (
        Collector(tmp_path, signals=("profiles",)) as collector,
        service(tmp_path, collector.endpoint, {"protocols": {"http": {"endpoint": f"127.0.0.1:{port}"}}}),
    ):
        for path in paths:
            url = f"http://127.0.0.1:{port}/v1/pprof/service_name/{path.name.partition('.')[0]}?env=ci"
            curl = ["curl", "-sS", "--fail", "--noproxy", "*", "--data-binary", f"@{path}", url]
            subprocess.run(curl, check=True, timeout=20)
        collector.until(lambda: len(resources(collector)) == len(paths), "the profiles arrived")
        names = {each["service.name"]: each["deployment.environment.name"] for each in resources(collector)}
        assert names == {path.name.partition(".")[0]: "ci" for path in paths}
        found = arrived(collector)
        for wanted in map(read, paths):
            assert wanted in found


def test_every_way_to_push_says_the_same(tmp_path: Path, shared_data: Callable[..., Path]) -> None:
    """curl, Pyroscope's two ways, Datadog's form: one profile, one resource."""
    port = free_port()
    path = shared_data("profiles", "pprof", "query__fib.pb.gz")
    data = path.read_bytes()
    push = PushRequest()
    series = push.series.add()
    series.labels.add(name="service_name", value="shop")
    series.samples.add(raw_profile=data)
    by_form, form_type = form(("profile", "profile.pprof", data))
    by_datadog, datadog_type = form(
        ("event", "event.json", b'{"tags_profiler":"service:shop"}'), ("c", "c.pprof", data)
    )
    with (
        Collector(tmp_path, signals=("profiles",)) as collector,
        service(tmp_path, collector.endpoint, {"protocols": {"http": {"endpoint": f"127.0.0.1:{port}"}}}),
    ):
        url = f"http://127.0.0.1:{port}"
        assert post(f"{url}/v1/pprof?service_name=shop", data) == 204
        assert post(f"{url}/ingest?name=shop&format=pprof", data) == 200
        assert post(f"{url}/ingest?name=shop", by_form, form_type) == 200
        proto = {"Content-Type": "application/proto"}
        assert post(f"{url}/push.v1.PusherService/Push", push.SerializeToString(), proto) == 200
        assert post(f"{url}/profiling/v1/input", by_datadog, datadog_type) == 200
        collector.until(lambda: len(resources(collector)) == 5, "the profiles arrived")
        assert {each["service.name"] for each in resources(collector)} == {"shop"}
        assert arrived(collector) == [read(path)] * 5


def test_nothing_acknowledged_is_lost_while_the_collector_is_away(
    tmp_path: Path, shared_data: Callable[..., Path]
) -> None:
    """Nor by a crash of otelbee meanwhile: it was on disk."""
    port, away = free_port(), free_port()
    paths = [shared_data("profiles", "pprof", name) for name in NAMES]
    source = {"protocols": {"http": {"endpoint": f"127.0.0.1:{port}"}}}
    with service(tmp_path, f"127.0.0.1:{away}", source, storage=str(tmp_path / "storage")) as otelbee:
        for path in paths:
            assert post(f"http://127.0.0.1:{port}/v1/pprof?service_name={path.name}", path.read_bytes()) == 204
        otelbee.kill()
        otelbee.start()
        assert post(f"http://127.0.0.1:{port}/v1/pprof?service_name=last", paths[0].read_bytes()) == 204
        with Collector(tmp_path, signals=("profiles",), port=away) as collector:
            wanted = {*(path.name for path in paths), "last"}
            collector.until(
                lambda: {each.get("service.name") for each in resources(collector)} == wanted, "the profiles arrived"
            )
            found = arrived(collector)
            for each in map(read, paths):
                assert each in found


def test_a_program_is_scraped_and_pushes(tmp_path: Path) -> None:
    """Go's own endpoints and Pyroscope's SDK, until the Collector has what the program does, by its name."""
    port = free_port()
    flags = ["--listen=127.0.0.1:0", f"--pyroscope=http://127.0.0.1:{port}", "--name=shop"]
    with (
        Collector(tmp_path, signals=("profiles",)) as collector,
        Program("profiled", [build.profiled(), *flags], tmp_path) as program,
    ):
        program.until(lambda: program.output().count("\n") == 2, "it listens")
        endpoint = program.output().partition('"text":"')[2].partition('"')[0]
        profiles = {"memory": {"path": "/debug/pprof/allocs"}}
        source = {
            "protocols": {"http": {"endpoint": f"127.0.0.1:{port}"}},
            "scrape": {
                "targets": [endpoint],
                "interval": "1s",
                "labels": {"service_name": "scraped"},
                "profiles": profiles,
            },
        }
        with service(tmp_path, collector.endpoint, source) as otelbee:

            def functions() -> dict[str, set[str]]:
                found: dict[str, set[str]] = {}
                for request in requests(collector):
                    names = {
                        request.dictionary.string_table[each.name_strindex]
                        for each in request.dictionary.function_table
                    }
                    for resource in request.resource_profiles:
                        attributes = {each.key: each.value.string_value for each in resource.resource.attributes}
                        found.setdefault(attributes["service.name"], set()).update(names)
                return found

            collector.until(
                lambda: (
                    "main.Spin" in functions().get("shop", ()) and "main.Allocate" in functions().get("scraped", ())
                ),
                "both arrived",
            )
            assert otelbee.source("pprof")["reason"] == "listening; 1 of 1 targets answer"


def test_a_file_is_translated(tmp_path: Path, shared_data: Callable[..., Path]) -> None:
    """Without a server; a file that is none is an error that says where."""
    path = shared_data("profiles", "pprof", "query__fib.pb.gz")
    done = run_otelbee("translate", "pprof", path, "--format", "proto")
    assert (done.returncode, done.stderr) == (0, b"")
    (message,) = records.frames(done.stdout)
    assert [content(profile) for profile in pprofs(message)] == [read(path)]
    inspected = tmp_path / "out.pb"
    inspected.write_bytes(done.stdout)
    assert b": OTLP profiles" in run_otelbee("inspect", inspected).stdout
    legacy = shared_data("profiles", "legacy", "profile__cppbench.heap")
    done = run_otelbee("translate", "pprof", legacy)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(f"{legacy}: ".encode())


def test_bad_pushes_cost_little_and_harm_nobody(tmp_path: Path, shared_data: Callable[..., Path]) -> None:
    """Bombs, cut and lying bodies, forms and JSON of very many parts: 4xx each, while good profiles pass."""
    port = free_port()
    good = shared_data("profiles", "pprof", "query__fib.pb.gz").read_bytes()
    mib = 1 << 20
    event = ("event", "event.json", b"{}")
    bomb_form, form_type = form(event, ("c", "c.pprof", gzip.compress(bytes(100 * mib), 1)))
    preamble = {"Content-Type": "multipart/form-data; boundary=limit"}
    pushes: list[tuple[str, bytes, dict[str, str], set[int]]] = [
        ("/v1/pprof", gzip.compress(bytes(100 * mib), 1), {}, {400, 413}),
        ("/v1/pprof", zstandard.ZstdCompressor().compress(bytes(500 * mib)), {"Content-Encoding": "zstd"}, {413}),
        ("/v1/pprof", good[:-20], {}, {400}),
        ("/v1/pprof", b"\x32\x00" * (9 * mib), {}, {400, 413}),
        ("/v1/pprof", b"heap profile: 1: 2 [3: 4] @ heapprofile\n", {}, {400}),
        ("/profiling/v1/input", bomb_form, form_type, {400, 413}),
        ("/profiling/v1/input", b"\n" * (19 * mib), preamble, {400}),
        ("/ingest?name=a", b"--limit\r\n" * (2 * mib), preamble, {400}),
        ("/push.v1.PusherService/Push", b"\x0a\x00" * (9 * mib), {"Content-Type": "application/proto"}, {413}),
        ("/push.v1.PusherService/Push", b"[" + b"{}," * (6 * mib), {"Content-Type": "application/json"}, {400}),
        ("/push.v1.PusherService/Push", b"[" * 100_000, {"Content-Type": "application/json"}, {400}),
        ("/v1/pprof", bytes(21 * mib), {}, {413}),
    ]
    with (
        Collector(tmp_path, signals=("profiles",)) as collector,
        service(tmp_path, collector.endpoint, {"protocols": {"http": {"endpoint": f"127.0.0.1:{port}"}}}) as otelbee,
    ):
        url = f"http://127.0.0.1:{port}"
        assert post(f"{url}/v1/pprof", good) == 204
        before = otelbee.peak_bytes
        slowest_s = 0.0
        with ThreadPoolExecutor(4) as several:
            answers = [several.submit(post, url + path, body, headers) for path, body, headers, _ in pushes]
            while not all(answer.done() for answer in answers):
                began_s = time.monotonic()
                assert post(f"{url}/v1/pprof", good) == 204
                slowest_s = max(slowest_s, time.monotonic() - began_s)
        for answer, (path, body, _, expected) in zip(answers, pushes, strict=True):
            assert answer.result() in expected, (path, body[:20])
        grown_mib = (otelbee.peak_bytes - before) / mib
        print(f"grown by {grown_mib:.0f} MiB; the slowest good push took {slowest_s:.2f} s")  # noqa: T201 - for docs/security.md
        assert grown_mib < 300
        assert slowest_s < 20
