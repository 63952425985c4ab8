"""The ``pprof`` source against the requests of every pusher: what is taken, how it is answered, what is refused."""

from __future__ import annotations

import base64
import gzip
import json
import os
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

import aiohttp
import grpc
import grpc.aio
import pytest
import zstandard
from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import ExportProfilesServiceRequest
from pydantic import ValidationError

from receiver.memory import MemoryGuard
from receiver.net.retry_info import DETAILS_KEY, retry_after_s
from receiver.registry import SOURCES, share
from receiver.sources.pprof import Config
from receiver.sources.pprof.pyroscope import PUSH_PATH
from tests.receiver.sources.profiled import BOTH, HTTP, Given, form, running
from tests.receiver.tiny import until
from translators.batch import Origin
from translators.pb.push_pb2 import PushRequest
from translators.profiles.labels import START_NS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.receiver.sources.profiled import Running

PROFILE = b"\x0a\x04\x08\x01\x10\x02"
EVENT = {
    "start": "2026-08-21T10:00:00.123456789Z",
    "end": "2026-08-21T10:01:00Z",
    "attachments": ["cpu.pprof", "delta-heap.pprof", "metrics.json"],
    "tags_profiler": "service:shop,env:prod,host:n1,runtime:go,profile_seq:7,lonely,a:b:c",
    "process_tags": "entrypoint.name:shop",
    "family": "go",
    "version": "4",
    "info": {"profiler": {"version": "v2"}},
    "endpoint_counts": None,
}


def push(*profiles: bytes, **labels: str) -> PushRequest:
    """A PushRequest of one series."""
    request = PushRequest()
    series = request.series.add()
    for name, value in labels.items():
        series.labels.add(name=name, value=value)
    for profile in profiles:
        series.samples.add(raw_profile=profile)
    return request


def datadog(event: Any, *files: tuple[str, bytes]) -> tuple[bytes, dict[str, str]]:
    """Datadog's form."""
    text = event if isinstance(event, bytes) else json.dumps(event).encode()
    return form(("event", "event.json", text), *((name, name, data) for name, data in files))


_NAMED, _FORM = datadog(EVENT, ("?.pprof", b"bad"))
_NO_UTF_8 = _NAMED.replace(b"?.pprof", b"\xff.pprof"), _FORM


# --- a plain POST ----------------------------------------------------------------------------------------------------


async def test_a_posted_body_is_a_profile_with_labels_from_everywhere() -> None:
    """From headers, the query and pairs of the path, the later over the earlier; 204 as the Collector's receiver."""
    async with running(protocols=HTTP) as source:
        status, _, text = await source.post(
            "/v1/pprof/service_name/a%2Fb/env/prod?region=eu&env=test&team=x",
            PROFILE,
            {"otelbee-label-team": "y", "Otelbee-Label-Service-Version": "1.2", "X-Other": "no"},
        )
        assert (status, text) == (204, "")
        labels = {"service_name": "a/b", "env": "prod", "region": "eu", "team": "x", "service_version": "1.2"}
        assert source.given == [Given("pprof", PROFILE, labels, None)]
        assert [(batch.signal.value, batch.parts[0].source) for batch in source.queue.batches] == [
            ("profiles", "pprof")
        ]


@pytest.mark.parametrize(
    ("encoding", "body"),
    [("gzip", gzip.compress(PROFILE)), ("zstd", zstandard.ZstdCompressor().compress(PROFILE)), ("", PROFILE)],
    ids=["gzip", "zstd", "plain"],
)
async def test_a_posted_body_may_be_compressed_twice_over(encoding: str, body: bytes) -> None:
    """What Content-Encoding says is undone here; a profile that is gzip by itself goes on as it is."""
    async with running(protocols=HTTP) as source:
        assert (await source.post("/v1/pprof", body, {"Content-Encoding": encoding}))[0] == 204
        assert (await source.post("/v1/pprof", body))[0] == 204
        assert [each.record for each in source.given] == [PROFILE, body]


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("/v1/pprof", b"", 400, "the profile is empty; send a pprof profile"),
        ("/v1/pprof", b"bad", 400, "bad it is"),
        ("/v1/pprof", b"huge", 413, "huge it is"),
        ("/v1/pprof", b"FLR\0\0\2", 415, "JFR is not accepted here, only pprof"),
        ("/v1/pprof/env", PROFILE, 400, "1 parts are not pairs"),
        ("/v1/pprof//x", PROFILE, 400, "a label has no name"),
        ("/v1/pprofs", PROFILE, 404, "there are only /v1/pprof, /v1/pprof/, /ingest"),
    ],
)
async def test_a_posted_body_that_is_none(path: str, body: bytes, status: int, says: str) -> None:
    """The answer is a line of text for whoever looks at curl's output."""
    async with running(protocols=HTTP) as source:
        answered, headers, text = await source.post(path, body)
        assert (answered, says in text) == (status, True), text
        assert headers.get("Content-Type", "text/plain").startswith("text/plain")
        assert not source.queue.batches


async def test_labels_have_a_bound() -> None:
    """They are written once for each profile."""
    async with running(protocols=HTTP) as source:
        body, headers = datadog({**EVENT, "info": "x" * 70_000}, ("cpu.pprof", PROFILE))
        status, _, text = await source.post("/profiling/v1/input", body, headers)
        assert (status, text) == (400, "the labels have more than 65536 characters\n")


# --- Pyroscope's /ingest ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/ingest", "/pyroscope/ingest"])
async def test_ingest_takes_a_pprof_body(path: str) -> None:
    """With the labels in its name, the spy, and the time for profiles that have none."""
    query = "?name=my.app%7Benv%3Dprod%2C%20region%3Deu%7D&from=1700000000&until=1700000010&spyName=gospy&format=pprof"
    async with running(protocols=HTTP) as source:
        assert (await source.post(path + query, PROFILE))[0] == 200
        labels = {"service_name": "my.app", "env": "prod", "region": "eu", "pyroscope_spy": "gospy"}
        assert source.given == [Given("pprof", PROFILE, {**labels, START_NS: "1700000000000000000"}, None)]


@pytest.mark.parametrize("query", ["?name=app", "?name=app&format=pprof"])
async def test_ingest_takes_a_form(query: str) -> None:
    """The profile, and what the client says about its sample types."""
    config = {"cpu": {"units": "samples", "sampled": True}}
    data = os.urandom(700_000) + b"\r\n--limi" + os.urandom(10)
    body, headers = form(("profile", "profile.pprof", data), ("sample_type_config", "x", json.dumps(config).encode()))
    async with running(protocols=HTTP) as source:
        assert (await source.post("/ingest" + query, body, headers))[0] == 200
        ((kind, record, labels, _),) = source.given
        assert (kind, record == data, labels["service_name"]) == ("pprof", True, "app")
        assert json.loads(labels["__sample_type_config__"]) == config


async def test_ingest_keeps_the_name_beside_another_service_name() -> None:
    """As Pyroscope does."""
    async with running(protocols=HTTP) as source:
        await source.post("/ingest?format=pprof&name=app%7Bservice_name%3Dshop%7D", PROFILE)
        assert source.given[0].labels == {"service_name": "shop", "app_name": "app"}


@pytest.mark.parametrize(
    ("start", "ns"),
    [
        ("1700000000", 1_700_000_000 * 10**9),
        ("1700000000123", 1_700_000_000_123 * 10**6),
        ("1700000000123456", 1_700_000_000_123_456 * 10**3),
        ("1700000000123456789", 1_700_000_000_123_456_789),
    ],
)
async def test_ingest_takes_times_in_every_unit(start: str, ns: int) -> None:
    """They are told apart by their size."""
    async with running(protocols=HTTP) as source:
        await source.post(f"/ingest?format=pprof&name=a&from={start}", PROFILE)
        assert source.given[0].labels[START_NS] == str(ns)


_TWO = form(("profile", "p", PROFILE), ("prev_profile", "p", PROFILE))
_JFR = form(("jfr", "jfr", PROFILE), ("labels", "labels", b""))
_NONE = form(("other", "", b"x"))
_LARGE_CONFIG = form(("profile", "p", PROFILE), ("sample_type_config", "", b" " * 70_000))
_NO_JSON = form(("profile", "p", PROFILE), ("sample_type_config", "", b"{"))


@pytest.mark.parametrize(
    ("query", "body", "headers", "status", "says"),
    [
        *(
            (f"name=a&format={each}", b"x", {}, 415, f"The format {each} is not accepted here, only pprof")
            for each in ("jfr", "trie", "tree", "lines", "groups", "speedscope")
        ),
        ("name=a", b"a;b 1", {}, 415, "The format groups (the default) is not accepted here, only pprof"),
        ("name=a", b"x", {"Content-Type": "binary/octet-stream+trie"}, 415, "The format trie is not accepted"),
        ("name=a&format=xyz", b"x", {}, 400, "there is no format 'xyz'; use format=pprof"),
        ("format=pprof", PROFILE, {}, 400, "the query has no name="),
        ("format=pprof&name=a%7Bb%3Dc", PROFILE, {}, 400, "not closed"),
        ("format=pprof&name=a%7Bb%7D", PROFILE, {}, 400, "no KEY=VALUE"),
        ("format=pprof&name=a&from=now-1h", PROFILE, {}, 400, "from= is no Unix time"),
        ("name=a", *_TWO, 415, "prev_profile is not accepted"),
        ("name=a", *_JFR, 415, "JFR is not accepted here"),
        ("name=a", *_NONE, 400, "the form has no part 'profile', only 'other'"),
        ("name=a", *_NO_JSON, 400, "sample_type_config is no JSON"),
        ("name=a", b"no form", _TWO[1], 400, "does not begin with the boundary"),
        ("name=a", _TWO[0][:-20], _TWO[1], 400, "the body is no multipart/form-data"),
        ("name=a", _TWO[0], {"Content-Type": "multipart/form-data"}, 400, "the body is no multipart/form-data"),
        ("name=a", b"\n" * 10_000_000 + _TWO[0], _TWO[1], 400, "does not begin with the boundary"),
        ("name=a", b"--limits\n" + b"\n" * 10_000_000 + _TWO[0], _TWO[1], 400, "does not begin with the boundary"),
        ("name=a", *_LARGE_CONFIG, 400, "sample_type_config is larger than 65536 bytes"),
        ("name=a", *form(*[("p", "", b"")] * 65), 400, "more than 64 parts"),
        ("name=a", *form(("profile", "", b"")), 400, "the profile is empty"),
    ],
)
async def test_ingest_says_what_it_does_not_take(
    query: str, body: bytes, headers: dict[str, str], status: int, says: str
) -> None:
    """And what it takes instead."""
    async with running(protocols=HTTP) as source:
        answered, _, text = await source.post(f"/ingest?{query}", body, headers)
        assert (answered, says in text) == (status, True), text
        assert not source.given


# --- Pyroscope's PusherService ---------------------------------------------------------------------------------------


async def test_push_takes_protobuf_and_json_by_connect() -> None:
    """The answer is an empty message in the form of the request."""
    request = push(PROFILE, service_name="a", __name__="process_cpu")
    text = {
        "series": [{"labels": [{"name": "service_name", "value": "a"}, {"name": "__name__", "value": "process_cpu"}]}]
    }
    text["series"][0]["samples"] = [{"rawProfile": base64.b64encode(PROFILE).decode(), "ID": "x"}]  # type: ignore[assignment] - JSON
    text["series"][0]["annotations"] = []
    async with running(protocols=HTTP) as source:
        proto = {"Content-Type": "application/proto", "Connect-Protocol-Version": "1"}
        status, headers, answer = await source.post(PUSH_PATH, request.SerializeToString(), proto)
        assert (status, headers["Content-Type"], answer) == (200, "application/proto", "")
        packed = gzip.compress(request.SerializeToString())
        assert (await source.post(PUSH_PATH, packed, {**proto, "Content-Encoding": "gzip"}))[0] == 200
        json_type = {"Content-Type": "application/json; charset=utf-8"}
        status, headers, answer = await source.post(PUSH_PATH, json.dumps(text).encode(), json_type)
        assert (status, headers["Content-Type"].partition(";")[0], answer) == (200, "application/json", "{}")
        request_with_id = PushRequest.FromString(source.given[2].record)
        assert request_with_id.series[0].samples[0].ID == "x"
        request_with_id.series[0].samples[0].ID = ""
        assert [(each.kind, each.record) for each in source.given[:2]] == [
            ("pyroscope_push", request.SerializeToString())
        ] * 2
        assert request_with_id == request


async def test_push_takes_large_json_beside_the_event_loop() -> None:
    """Its base64 takes a while."""
    data = os.urandom(2_000_000)
    text = json.dumps({"series": [{"samples": [{"rawProfile": base64.b64encode(data).decode()}]}]}).encode()
    async with running(protocols=HTTP) as source:
        assert (await source.post(PUSH_PATH, text, {"Content-Type": "application/json"}))[0] == 200
        assert PushRequest.FromString(source.given[0].record).series[0].samples[0].raw_profile == data


async def test_push_takes_grpc() -> None:
    """On its own port, because the HTTP listener has no HTTP/2."""
    request = push(PROFILE, service_name="a").SerializeToString()
    async with running(protocols=BOTH) as source, grpc.aio.insecure_channel(source.address("grpc")) as channel:
        call: Any = channel.unary_unary(PUSH_PATH)
        assert await call(request, timeout=20) == b""
        assert await call(b"", timeout=20) == b""
        assert [(each.kind, each.record) for each in source.given] == [("pyroscope_push", request)]


@pytest.mark.parametrize(
    ("body", "headers", "status", "code", "says"),
    [
        (b"bad", {"Content-Type": "application/proto"}, 400, "invalid_argument", "bad it is"),
        (b"huge", {"Content-Type": "application/proto"}, 413, "resource_exhausted", "huge it is"),
        (b"{", {"Content-Type": "application/json"}, 400, "invalid_argument", "no push.v1.PushRequest in JSON"),
        (b"null", {"Content-Type": "application/json"}, 400, "invalid_argument", "it is no object"),
        (b'{"series":1}', {"Content-Type": "application/json"}, 400, "invalid_argument", "no push.v1.PushRequest"),
        (b"[" * 90_000, {"Content-Type": "application/json"}, 400, "invalid_argument", "no push.v1.PushRequest"),
        (
            b'{"series":[' + b"{}," * 100_000,
            {"Content-Type": "application/json"},
            400,
            "invalid_argument",
            "100000 values",
        ),
        (b"\xff", {"Content-Type": "application/json"}, 400, "invalid_argument", "no push.v1.PushRequest"),
        (b"x", {"Content-Type": "text/plain"}, 415, "invalid_argument", "use application/proto or application/json"),
        (b"x", {"Content-Type": "application/grpc+proto"}, 415, "invalid_argument", "gRPC has a port of its own"),
        (b"x", {"Content-Type": "application/proto", "Content-Encoding": "br"}, 415, "invalid_argument", "use gzip"),
    ],
)
async def test_push_errors_are_connects(
    body: bytes, headers: dict[str, str], status: int, code: str, says: str
) -> None:
    """JSON with a code and a message."""
    async with running(protocols=HTTP) as source:
        answered, _, text = await source.post(PUSH_PATH, body, headers)
        error = json.loads(text)
        assert (answered, error["code"], says in error["message"]) == (status, code, True), text


# --- Datadog ---------------------------------------------------------------------------------------------------------


async def test_datadog_files_are_taken_together_with_their_tags() -> None:
    """What is no profile is counted and left out."""
    body, headers = datadog(
        EVENT, ("cpu.pprof", PROFILE), ("metrics.json", b"[]"), ("delta-heap.pprof", b"two"), ("go.trace", b"t")
    )
    async with running(protocols=HTTP) as source:
        headers["Datadog-Container-ID"] = "ab" * 32
        assert (await source.post("/profiling/v1/input", body, headers))[0] == 200
        labels = {
            "entrypoint.name": "shop",
            "service": "shop",
            "env": "prod",
            "host": "n1",
            "runtime": "go",
            "profile_seq": "7",
            "lonely": "true",
            "a": "b:c",
            "datadog.family": "go",
            "__info__": '{"profiler":{"version":"v2"}}',
            START_NS: "1787306400123456000",
            "container_id": "ab" * 32,
        }
        assert source.given == [Given("pprof", record, labels, None) for record in (PROFILE, b"two")]
        assert source.counted("attachments_left_out") == 2


async def test_a_bad_file_of_several_is_named_and_the_others_are_kept() -> None:
    """Once: the answer is final, so that nobody sends the good ones again."""
    body, headers = datadog(EVENT, ("cpu.pprof", PROFILE), ("heap.pprof", b"bad"))
    async with running(protocols=HTTP) as source:
        status, _, text = await source.post("/profiling/v1/input", body, headers)
        assert (status, text.rstrip()) == (
            400,
            "heap.pprof: bad it is; the others were taken, do not send them again",
        )
        assert [batch.data for batch in source.queue.batches] == [PROFILE]


async def test_files_of_one_request_are_queued_all_or_none() -> None:
    """A queue with room for two does not take two of three."""
    body, headers = datadog(EVENT, *((f"{name}.pprof", PROFILE) for name in "abc"))
    async with running(protocols=HTTP, capacity=3) as source:
        assert (await source.post("/v1/pprof", PROFILE))[0] == 204
        status, answer, _ = await source.post("/profiling/v1/input", body, headers)
        assert (status, answer["Retry-After"], source.queue.held) == (503, "1", 1)
        await source.queue.deliver()
        assert (await source.post("/profiling/v1/input", body, headers))[0] == 200
        assert source.queue.held == 3


@pytest.mark.parametrize(
    ("body", "headers", "status", "says"),
    [
        (b"{}", {"Content-Type": "application/json"}, 415, "Content-Type must be multipart/form-data"),
        (*form(("cpu", "cpu.pprof", PROFILE)), 400, "the form has no part 'event'"),
        (*datadog(b"{", ("cpu.pprof", PROFILE)), 400, "event.json is no JSON"),
        (*datadog([], ("cpu.pprof", PROFILE)), 400, "event.json is no JSON object"),
        (*datadog({"tags_profiler": "a:\ud800"}, ("cpu.pprof", PROFILE)), 400, "a label is no Unicode text"),
        (*_NO_UTF_8, 400, ".pprof: bad it is"),
        (*datadog({"start": "yesterday"}, ("cpu.pprof", PROFILE)), 400, "'start' in event.json is no time"),
        (*datadog({"start": "2026-01-01"}, ("cpu.pprof", PROFILE)), 400, "'start' in event.json is no time"),
        (*datadog({"info": "x" * 300_000}, ("cpu.pprof", PROFILE)), 400, "event.json is larger than"),
        (*datadog(EVENT, ("main.jfr", b"x")), 415, "JFR is not accepted here"),
        (*datadog(EVENT, ("metrics.json", b"[]")), 200, ""),
    ],
)
async def test_datadog_forms_that_are_none(body: bytes, headers: dict[str, str], status: int, says: str) -> None:
    """And one whose files are all of another kind, which is acknowledged."""
    async with running(protocols=HTTP) as source:
        answered, _, text = await source.post("/profiling/v1/input", body, headers)
        assert (answered, says in text) == (status, True), text
        assert not source.queue.batches


# --- what is the same for all ----------------------------------------------------------------------------------------


async def _everywhere(source: Running, data: bytes, path: str) -> list[tuple[int, Any, str]]:
    """Push ``data`` in every way."""
    by_form, form_headers = form(("profile", "p", data))
    by_datadog, datadog_headers = datadog(EVENT, ("cpu.pprof", data))
    proto = {"Content-Type": "application/proto"}
    return [
        await source.post("/v1/pprof", data),
        await source.post("/ingest?name=a&format=pprof", data),
        await source.post("/ingest?name=a", by_form, form_headers),
        await source.post(path, push(data).SerializeToString(), proto),
        await source.post("/profiling/v1/input", by_datadog, datadog_headers),
    ]


async def test_a_full_queue_says_when_to_come_back() -> None:
    """503 with Retry-After; UNAVAILABLE with RetryInfo; Connect's unavailable."""
    request = push(PROFILE).SerializeToString()
    async with (
        running(protocols=BOTH, capacity=1) as source,
        grpc.aio.insecure_channel(source.address("grpc")) as channel,
    ):
        await source.post("/v1/pprof", PROFILE)
        answers = await _everywhere(source, PROFILE, PUSH_PATH)
        assert [(status, headers["Retry-After"]) for status, headers, _ in answers] == [(503, "1")] * 5
        assert json.loads(answers[3][2])["code"] == "unavailable"
        call: Any = channel.unary_unary(PUSH_PATH)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(request, timeout=20)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        details = dict(caught.value.trailing_metadata())[DETAILS_KEY]
        assert isinstance(details, bytes)
        assert retry_after_s(details) == 1
        assert source.refused("busy") == 6
        await source.queue.deliver()
        assert await call(request, timeout=20) == b""


async def test_larger_than_the_limit_is_final_and_costs_nothing() -> None:
    """As it arrives, and decompressed: a bomb of 200 MB in 200 KB."""
    http = {"http": {"endpoint": "127.0.0.1:0", "max_request_body_size": "1MiB"}}
    bomb = zstandard.ZstdCompressor().compress(bytes(200_000_000))
    async with running(protocols=http) as source:
        assert {status for status, _, _ in await _everywhere(source, os.urandom((1 << 20) + 1), PUSH_PATH)} == {413}
        for encoding, body in (("zstd", bomb), ("gzip", gzip.compress(bytes(20_000_000)))):
            assert (await source.post("/v1/pprof", body, {"Content-Encoding": encoding}))[0] == 413
        cut = gzip.compress(os.urandom(1000))[:-9]
        assert (await source.post("/v1/pprof", cut, {"Content-Encoding": "gzip"}))[0] == 400
        assert (await source.post("/v1/pprof", PROFILE))[0] == 204


async def test_senders_are_known_and_headers_become_attributes(tmp_path: Path) -> None:
    """Who has no token is refused before its body is read; a label cannot forge what a header says."""
    tokens = tmp_path / "tokens"
    tokens.write_text("ci:secret\n")
    tokens.chmod(0o600)
    auth = {"bearertokenauth": {"filename": str(tokens)}}
    http = {"http": {"endpoint": "127.0.0.1:0", "auth": auth}}
    async with running(protocols=http, resource_headers={"X-Scope-OrgID": "tenant.id"}) as source:
        for status, headers, _ in await _everywhere(source, PROFILE, PUSH_PATH):
            assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
        known = {"Authorization": "Bearer secret", "X-Scope-OrgID": "eleven"}
        assert (await source.post("/v1/pprof?tenant.id=forged", PROFILE, known))[0] == 204
        assert (await source.post("/v1/pprof?tenant.id=forged", PROFILE, {"Authorization": "Bearer secret"}))[0] == 204
        assert [each.labels for each in source.given] == [{"tenant.id": "eleven"}, {"tenant.id": ""}]
        assert {each.principal for each in source.given} == {"ci"}


async def test_only_post_is_possible() -> None:
    """Everywhere."""
    async with running(protocols=HTTP) as source, aiohttp.ClientSession() as session:
        for path in ("/ingest", "/v1/pprof", PUSH_PATH):
            async with session.get(f"http://{source.address('http')}{path}") as answer:
                assert (answer.status, answer.headers["Allow"]) == (405, "POST")


async def test_short_memory_refuses_before_the_body_is_read() -> None:
    """The sender, which waits with its body for leave, is told to come back."""
    guard = MemoryGuard(100, lambda: 1, resident_bytes=lambda: 200, check_s=0.01)
    async with guard, running(protocols=HTTP, memory=guard) as source:
        await until(lambda: guard.refusing)
        status, headers, _ = await source.post("/v1/pprof", PROFILE, expect100=True)
        assert (status, headers["Retry-After"]) == (503, "5")
        assert not source.given


def test_what_listens_where_nothing_is_said() -> None:
    """HTTP on Pyroscope's port; nothing where it is told to scrape."""
    listening = Config().listening
    assert listening is not None
    assert listening.http is not None
    assert (listening.http.endpoint, listening.grpc) == ("localhost:4040", None)
    assert Config.model_validate({"scrape": {"targets": ["http://h:1"]}}).listening is None


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"protocols": {}}, "name at least one protocol"),
        ({"protocols": HTTP, "resource_headers": {"authorization": "x"}}, "holds a secret"),
        ({"scrape": {"targets": []}}, "at least 1 item"),
        ({"scrape": {"targets": ["localhost:6060"]}}, "is not http://HOST:PORT"),
        ({"scrape": {"targets": ["http://u:p@h:1"]}}, "no user, query or fragment"),
        ({"scrape": {"targets": ["http://h:1"], "interval": "500ms"}}, "is too often; write 1s or more"),
        ({"scrape": {"targets": ["http://h:1"], "profiles": {"x": {"path": "y"}}}}, "begin it with /"),
        ({"scrape": {"targets": ["http://h:1"], "profiles": {"x": {"path": "/y?z=1"}}}}, "as params"),
    ],
)
def test_configuration_that_cannot_work(config: dict[str, Any], problem: str) -> None:
    """Says what to write instead."""
    with pytest.raises(ValidationError, match=problem):
        Config.model_validate(config)


def test_a_push_of_very_many_parts_is_refused_before_it_is_parsed() -> None:
    """Two bytes make a series: 20 MiB of them would be objects of 430 MiB, and a minute of the worker's time."""
    translator = SOURCES["pprof"].translator(Config(), share({}, "", None))
    for record in (b"\x0a\x00" * 5_000_000, b"\x0a\x80\x80\x80\x02" + b"\x12\x00" * (2 << 20)):
        translation = translator.translate("pyroscope_push", [record], Origin(), 1)
        ((index, reason, message),) = [astuple(each) for each in translation.rejected]
        assert (index, reason) == (0, "too_large")
        assert "more than 100000 series" in message


def test_a_label_of_a_push_cannot_forge_what_a_header_says(shared_data: Callable[..., Path]) -> None:
    """Nor that of a series; the principal has an attribute of its own."""
    data = shared_data("profiles", "pprof", "query__two-stacks.pb.gz").read_bytes()
    record = push(data, service_name="shop", **{"tenant.id": "forged", "otelbee.tenant": "root"}).SerializeToString()
    translator = SOURCES["pprof"].translator(Config(), share({}, "", None))
    origin = Origin("alice", {"tenant.id": "eleven"})
    (batch,) = translator.translate("pyroscope_push", [record], origin, 1).batches
    request = ExportProfilesServiceRequest.FromString(batch.data)
    attributes = {each.key: each.value.string_value for each in request.resource_profiles[0].resource.attributes}
    assert attributes == {"service.name": "shop", "tenant.id": "eleven", "otelbee.tenant": "alice"}
    (batch,) = translator.translate("pyroscope_push", [record], Origin(labels={"tenant.id": ""}), 1).batches
    request = ExportProfilesServiceRequest.FromString(batch.data)
    assert [each.key for each in request.resource_profiles[0].resource.attributes] == ["service.name"]
