"""The ``pprof`` source: takes profiles as the bytes they are, and answers when the queue has them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Final

from receiver.net import grpc_server, http_server
from receiver.net.http_forms import Connect, Plain, Route
from receiver.sources.pprof import datadog, plain, pyroscope
from receiver.sources.pprof.scrape import Scraper, Targets
from receiver.sources.unnamed_frames import UnnamedFrames
from translators.batch import Origin

if TYPE_CHECKING:
    from collections.abc import Mapping

    from receiver.net.gate import Receive, Sender
    from receiver.sources.pprof.config import Config, Protocols
    from receiver.sources.pprof.push import Push, Read
    from receiver.types import Checkpoint, Intake, Outcome

LEFT_OUT: Final = "attachments_left_out"
"""Name of the counter of files that came with profiles and are none."""
_REMEDY: Final = (
    "give the profiler symbols, or symbolize behind the Collector by build ids; native_names: placeholder names them by "
    "file and address"
)
_NOTHING: Final = b""
"""An answer without content, and a ``PushResponse``, which has no fields."""


class Source:
    """Listens on the configured protocols, and scrapes."""

    def __init__(self, config: Config, checkpoint: Checkpoint | None = None) -> None:  # noqa: ARG002 - nothing to resume
        """Keep the configuration; nothing is opened before :meth:`run`."""
        self._config = config
        self._unnamed = UnnamedFrames(_REMEDY if config.native_names == "none" else None)

    async def run(self, intake: Intake) -> None:
        """Listen and scrape until cancelled.

        Raises:
            StartError: An address cannot be bound, or a file of ``tls`` or ``auth`` cannot be used.
        """
        config = self._config
        addresses: list[str] = []
        async with AsyncExitStack() as stack:
            if config.listening is not None:
                addresses = await self._listen(config.listening, intake, stack)
            scraper = None
            if config.scrape is not None:
                targets = Targets(config.scrape, partial(_report, intake, is_listening=bool(addresses)))
                scraper = Scraper(config.scrape, partial(self._emit, intake, None, wait=True), targets)
            intake.started(", ".join(addresses) or None)
            if addresses:
                intake.state(up=True, reason="listening")
            await (scraper.run() if scraper is not None else asyncio.Event().wait())

    async def _listen(self, protocols: Protocols, intake: Intake, stack: AsyncExitStack) -> list[str]:
        gate = protocols.gate(intake)
        addresses: list[str] = []
        if protocols.grpc is not None:
            methods = {pyroscope.PUSH_PATH: self._receive(intake, pyroscope.read_push)}
            address = await stack.enter_async_context(grpc_server.serve(protocols.grpc, gate, methods))
            addresses.append(f"grpc {address}")
        if protocols.http is not None:
            address = await stack.enter_async_context(http_server.serve(protocols.http, gate, self._routes(intake)))
            addresses.append(f"http {address}")
        protocols.warn_if_open()
        return addresses

    def _routes(self, intake: Intake) -> Mapping[str, Route]:
        posted = Route(self._receive(intake, plain.read), Plain(204))
        ingested = Route(self._receive(intake, pyroscope.read_ingest), Plain(200))
        return {
            plain.PATH: posted,
            f"{plain.PATH}/": posted,
            **dict.fromkeys(pyroscope.INGEST_PATHS, ingested),
            pyroscope.PUSH_PATH: Route(self._receive(intake, pyroscope.read_push), Connect()),
            datadog.PATH: Route(self._receive(intake, datadog.read), Plain(200)),
        }

    def _receive(self, intake: Intake, read: Read) -> Receive:
        async def receive(sender: Sender, body: bytes) -> bytes:
            push = await read(sender, body)
            push.check()
            if push.records:
                labels = {**push.labels, **self._attributes(sender)}
                known = push._replace(labels=labels)
                outcome = await self._emit(intake, sender.principal, known, wait=False)
                if outcome.rejected:
                    raise push.refusal(outcome)
            if push.left_out:
                intake.count(LEFT_OUT, push.left_out)
            return _NOTHING

        return receive

    async def _emit(self, intake: Intake, principal: str | None, push: Push, *, wait: bool) -> Outcome:
        outcome = await intake.emit(push.kind, push.records, Origin(principal, push.labels), wait=wait)
        self._unnamed.note(outcome.counts)
        return outcome

    def _attributes(self, sender: Sender) -> dict[str, str]:
        """What headers say; where one is missing, "", which keeps a label from saying it instead."""
        return {key: sender.headers.get(header, "") for header, key in self._config.resource_headers.items()}


def _report(intake: Intake, answers: bool, text: str, *, is_listening: bool) -> None:  # noqa: FBT001 - as Targets calls it
    intake.state(up=answers or is_listening, reason=f"listening; {text}" if is_listening else text)
