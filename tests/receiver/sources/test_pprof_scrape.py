"""Scraping against small HTTP servers: what is asked for, how often, and what is said of targets that fail."""

from __future__ import annotations

import asyncio
import gzip
import itertools
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from receiver.errors import StartError
from tests.receiver.net.certificates import Authority
from tests.receiver.sources.profiled import HTTP, Running, running
from tests.receiver.tiny import until

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

HEAP = {"memory": {"path": "/debug/pprof/allocs"}}


class Target:
    """A server that answers as it is told, and remembers who asked when."""

    def __init__(self) -> None:
        """Answer every path with itself."""
        self.asked: list[tuple[float, web.Request]] = []
        self.endpoint = ""
        self.answer: Callable[[web.Request], Awaitable[web.StreamResponse]] = self._path

    @staticmethod
    async def _path(request: web.Request) -> web.StreamResponse:
        return web.Response(body=request.path_qs.encode())

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        self.asked.append((asyncio.get_running_loop().time(), request))  # type: ignore[arg-type] - only its base is used
        return await self.answer(request)  # type: ignore[arg-type] - likewise

    def times(self, path: str) -> list[float]:
        """When a path was asked for, in seconds."""
        return [time_s for time_s, request in self.asked if request.path == path]


@asynccontextmanager
async def target(secure: ssl.SSLContext | None = None) -> AsyncIterator[Target]:
    """A target that listens."""
    served = Target()
    runner = web.ServerRunner(web.Server(served.handle), shutdown_timeout=0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=secure)
        await site.start()
        served.endpoint = f"http{'s' if secure else ''}://127.0.0.1:{runner.addresses[0][1]}"
        yield served
    finally:
        await runner.cleanup()


def scrape(*targets: Any, **options: Any) -> dict[str, Any]:
    """A section that scrapes as often as is allowed."""
    return {"targets": list(targets), "interval": "1s", **options}


def reason(source: Running) -> str:
    """What ``/ready`` says of the source."""
    return source.intake.current.reason


async def test_all_profiles_of_all_targets_are_scraped_in_their_interval() -> None:
    """A delta asks for the seconds of an interval; labels tell the targets apart; nothing comes sooner than configured."""
    async with target() as one, target() as two:
        config = scrape(
            {"endpoint": one.endpoint, "labels": {"service_name": "one", "instance": "first"}},
            f"{two.endpoint}/below/",
            labels={"service_name": "all", "env": "test"},
        )
        async with running(scrape=config) as source:
            await until(lambda: len(two.times("/below/debug/pprof/mutex")) == 3)
            assert reason(source) == "2 of 2 targets answer"
            assert source.intake.current.up
    paths = {"memory": "allocs", "block": "block", "goroutine": "goroutine", "mutex": "mutex"}
    paths = {name: f"/debug/pprof/{path}" for name, path in paths.items()}
    expected = {**paths, "process_cpu": "/debug/pprof/profile?seconds=1"}
    found = [
        {each.labels["__name__"]: each.record.decode() for each in source.given if each.labels["instance"] == instance}
        for instance in ("first", two.endpoint.removeprefix("http://"))
    ]
    assert found == [expected, {name: f"/below{path}" for name, path in expected.items()}]
    assert {(each.labels["service_name"], each.labels["env"]) for each in source.given} == {
        ("one", "test"),
        ("all", "test"),
    }
    for served in (one, two):
        for path in {request.path for _, request in served.asked}:
            times = served.times(path)
            assert all(later - earlier > 0.98 for earlier, later in itertools.pairwise(times))


async def test_a_target_that_fails_is_named_until_it_is_well() -> None:
    """With what it said; the others are scraped all the while."""

    async def busy(_: web.Request) -> web.StreamResponse:
        text = "Could not enable CPU profiling: cpu profiling already in use\n"
        return web.Response(status=500, text=text, headers={"X-Go-Pprof": "1"})

    async with target() as well, target() as ill:
        ill.answer = busy
        config = scrape(well.endpoint, ill.endpoint, profiles=HEAP)
        async with running(scrape=config, protocols=HTTP) as source:
            why = f"{ill.endpoint} memory: status 500: Could not enable CPU profiling: cpu profiling already in use"
            await until(lambda: reason(source) == f"listening; 1 of 2 targets answer; {why}")
            assert source.intake.current.up
            ill.answer = well.answer
            await until(lambda: reason(source) == "listening; 2 of 2 targets answer")


async def _hang(request: web.Request) -> web.StreamResponse:
    while request.transport is not None:  # noqa: ASYNC110 - nothing tells a handler that its client has gone
        await asyncio.sleep(0.02)
    return web.Response()


async def _large(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(64):
        await response.write(bytes(1024))
    return response


async def _with(status: int, body: bytes, **headers: str) -> web.StreamResponse:
    return web.Response(
        status=status, body=body, headers={key.replace("_", "-"): value for key, value in headers.items()}
    )


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (_hang, "no answer within 0.5 s"),
        (_large, "the answer is larger than max_body_size, 2048 bytes"),
        (lambda _: _with(404, b"404 page\n not \x1b[31mfound\n"), "status 404: 404 page not [31mfound"),
        (lambda _: _with(302, b"", Location="/elsewhere"), "status 302"),
        (lambda _: _with(200, b"no", X_Go_Pprof="1"), "status 200: no"),
        (lambda _: _with(200, b""), "the profile is empty"),
        (lambda _: _with(200, b"bad"), "bad it is"),
        (lambda _: _with(200, b"x", Content_Encoding="gzip"), "the body is no gzip"),
        (lambda _: _with(200, gzip.compress(bytes(10_000)), Content_Encoding="gzip"), "larger than 2048 bytes"),
    ],
)
async def test_what_is_no_profile(answer: Any, says: str) -> None:
    """Is said, and nothing of it is taken."""
    async with target() as served:
        served.answer = answer
        config = scrape(served.endpoint, profiles=HEAP, timeout="500ms", max_body_size=2048)
        async with running(scrape=config) as source:
            await until(lambda: says in reason(source))
            assert reason(source).startswith("0 of 1 targets answer; ")
            assert not source.intake.current.up
            assert not source.queue.batches
            assert {request.path for _, request in served.asked} == {"/debug/pprof/allocs"}


async def test_who_does_not_listen_is_down() -> None:
    """A process that has ended."""
    async with target() as served:
        endpoint = served.endpoint
    async with running(scrape=scrape(endpoint, profiles=HEAP)) as source:
        await until(lambda: "Cannot connect to host" in reason(source))


async def test_a_full_queue_stops_the_scraping() -> None:
    """Nothing is asked for that cannot be kept, and nothing that was got is lost."""
    async with target() as served:
        config = scrape(served.endpoint, profiles=HEAP)
        async with running(scrape=config, capacity=1) as source:
            await until(lambda: len(served.asked) == 2)
            await until(lambda: source.intake.current.paused)
            assert len(served.asked) == 2
            await source.queue.deliver()
            await until(lambda: len(served.asked) == 3)


async def test_no_more_scrapes_at_once_than_allowed() -> None:
    """Others wait for their turn."""
    now = most = 0

    async def slow(_: web.Request) -> web.StreamResponse:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.05)
        now -= 1
        return web.Response(body=b"x")

    async with target() as served:
        served.answer = slow
        async with running(scrape=scrape(*[served.endpoint] * 8, max_concurrency=2)) as source:
            await until(lambda: len(source.given) > 40)
    assert most == 2


async def test_a_target_may_ask_for_tls_and_a_token(tmp_path: Path) -> None:
    """The token is read anew when its file changes; a name that the certificate does not carry can be overridden."""
    authority = Authority(tmp_path)
    certificate = authority.issue("pod.internal")
    secure = ssl_context(certificate)
    token = tmp_path / "token"
    token.write_text("first\n")
    async with target(secure) as served:
        config = scrape(
            served.endpoint,
            profiles=HEAP,
            tls={"ca_file": str(authority.ca_file), "server_name_override": "pod.internal"},
            auth={"bearertokenauth": {"filename": str(token)}},
        )
        async with running(scrape=config):
            await until(lambda: served.asked)
            token.write_text("second\n")
            await until(lambda: served.asked[-1][1].headers["Authorization"] == "Bearer second")
        assert served.asked[0][1].headers["Authorization"] == "Bearer first"


def ssl_context(certificate: Any) -> ssl.SSLContext:
    """What a server with this certificate secures its connections with."""
    import ssl  # noqa: PLC0415 - only here

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert_file, certificate.key_file)
    return context


async def test_files_that_cannot_be_used_are_a_start_error(tmp_path: Path) -> None:
    """Of the token and of TLS."""
    missing = str(tmp_path / "none")
    for options, problem in (
        ({"auth": {"bearertokenauth": {"filename": missing}}}, "sources::pprof::scrape::auth: .*cannot be read"),
        ({"tls": {"ca_file": missing}}, "no target begins with https"),
    ):
        with pytest.raises(StartError, match=problem):
            async with running(scrape=scrape("http://127.0.0.1:1", **options)):
                pass
