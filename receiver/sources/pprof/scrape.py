"""Scraping: every profile of every target, one interval from start to start."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final, NamedTuple

import aiohttp
from yarl import URL

from receiver.errors import OtelbeeError, StartError
from receiver.net.bearer import BearerToken
from receiver.net.compression import decompress
from receiver.sources.pprof.push import Push
from translators.version import VERSION

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    from receiver.sources.pprof.scrape_config import Profile, Scrape, Target
    from receiver.types import Outcome

_ERROR_HEADER: Final = "X-Go-Pprof"
"""Set where ``net/http/pprof`` answers with the text of an error."""
_SHOWN_CHARACTERS: Final = 200
_SHOWN_FAILURES: Final = 5
_OK: Final = 200


class _Failed(OtelbeeError):
    """A scrape brought no profile; the text says why."""


class Targets:
    """Which targets answer, as the source's state says it."""

    def __init__(self, config: Scrape, report: Callable[[bool, str], None]) -> None:
        """Report as ``report(any answers, text)`` whenever it changes."""
        self._count = len(config.targets)
        self._report = report
        self._failures: dict[tuple[str, str], str] = {}
        self._up: set[tuple[str, str]] = set()

    def scraped(self, endpoint: str, profile: str, failure: str) -> None:
        """Note how the last scrape of a profile went; "" is well."""
        one = endpoint, profile
        if failure:
            self._failures[one] = failure
            self._up.discard(one)
        else:
            self._failures.pop(one, None)
            self._up.add(one)
        self._report(bool(self._up), self._text())

    def _text(self) -> str:
        answering = len({endpoint for endpoint, _ in self._up})
        text = f"{answering} of {self._count} targets answer"
        shown = [f"{endpoint} {profile}: {why}" for (endpoint, profile), why in sorted(self._failures.items())]
        more = [f"{len(shown) - _SHOWN_FAILURES} more fail"] if len(shown) > _SHOWN_FAILURES else []
        return "; ".join((text, *shown[:_SHOWN_FAILURES], *more))


class _One(NamedTuple):
    """One profile of one target."""

    target: Target
    name: str
    profile: Profile

    def url(self, interval_s: float) -> URL:
        """Where to get it."""
        query = {**self.profile.params, **({"seconds": str(round(interval_s))} if self.profile.delta else {})}
        return URL(self.target.endpoint + self.profile.path).update_query(query)


class Scraper:
    """Scrapes until cancelled."""

    def __init__(self, config: Scrape, take: Callable[[Push], Awaitable[Outcome]], targets: Targets) -> None:
        """Hand each profile to ``take``, which may wait for room.

        Raises:
            StartError: A file of ``tls`` or ``auth`` cannot be used.
        """
        self._config = config
        self._take = take
        self._targets = targets
        self._room = asyncio.Semaphore(config.max_concurrency)
        self._token = None
        if config.auth is not None:
            self._token = BearerToken(config.auth.bearertokenauth, "sources::pprof::scrape::auth")
        self._secure: ssl.SSLContext | None = None
        if any(target.endpoint.startswith("https:") for target in config.targets):
            self._secure = config.tls.under(scheme_is_secure=True).context()
        elif config.tls.names_files:
            raise StartError("sources::pprof::scrape::tls names files, but no target begins with https://")

    async def run(self) -> None:
        """Scrape every profile in a task of its own, so that a target that hangs holds up nobody."""
        config = self._config
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=config.max_concurrency, ssl=self._secure or True),
            timeout=aiohttp.ClientTimeout(total=config.timeout_s),
            headers={"User-Agent": f"otelbee/{VERSION}", "Accept-Encoding": "gzip"},
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        async with session, asyncio.TaskGroup() as tasks:
            for target in config.targets:
                for name, profile in config.wanted.items():
                    tasks.create_task(self._repeat(session, _One(target, name, profile)))

    async def _repeat(self, session: aiohttp.ClientSession, one: _One) -> None:
        loop, interval_s = asyncio.get_running_loop(), self._config.interval_s
        due_s = loop.time() + random.uniform(0, interval_s)  # noqa: S311 - spreads load, keeps no secret
        while True:
            await asyncio.sleep(due_s - loop.time())
            async with self._room:
                began_s = loop.time()
                failure = await self._scrape(session, one)
            self._targets.scraped(one.target.endpoint, one.name, failure)
            due_s = max(began_s + interval_s, loop.time())

    async def _scrape(self, session: aiohttp.ClientSession, one: _One) -> str:
        """Get one profile and have it taken; what went wrong, "" when all is well."""
        try:
            body = await self._get(session, one.url(self._config.interval_s))
            push = Push([body], self._labels(one))
            push.check()
            outcome = await self._take(push)
            return str(push.refusal(outcome)) if outcome.rejected else ""
        except TimeoutError:
            return f"no answer within {self._config.timeout_s:g} s"
        except (OtelbeeError, aiohttp.ClientError, ValueError) as error:
            return str(error)[:_SHOWN_CHARACTERS] or type(error).__name__

    async def _get(self, session: aiohttp.ClientSession, url: URL) -> bytes:
        if self._token is not None:
            self._token.renew()
        headers = dict([self._token.header()]) if self._token is not None else {}
        name = self._config.tls.server_name_override or None
        async with session.get(url, headers=headers, allow_redirects=False, server_hostname=name) as response:
            limit = int(self._config.max_body_size)
            body = bytearray()
            async for piece in response.content.iter_any():
                body += piece
                if len(body) > limit:
                    raise _Failed(f"the answer is larger than max_body_size, {limit} bytes")
            encoding = response.headers.get("Content-Encoding", "").strip().lower()
            plain = await asyncio.to_thread(decompress, encoding, bytes(body), limit) if encoding else bytes(body)
            if response.status != _OK or response.headers.get(_ERROR_HEADER):
                text = " ".join(plain[:_SHOWN_CHARACTERS].decode(errors="replace").split())
                text = "".join(char for char in text if char.isprintable())  # what a terminal would obey
                raise _Failed(f"status {response.status}{f': {text}' if text else ''}")
            return plain

    def _labels(self, one: _One) -> dict[str, str]:
        url = URL(one.target.endpoint)
        labels = {"instance": url.authority, **self._config.labels, **one.target.labels}
        return {**labels, "__name__": one.name}
