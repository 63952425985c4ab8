"""What the agent says of itself beside its events: what it has lost, and which of its policies do not work.

Both are looked at every 30 seconds. The agent loses events without a word on the stream; only its metrics tell
(docs/content/en/docs/reference/metrics.md of Tetragon). Their address is in the file that the agent writes at start.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
from typing import TYPE_CHECKING, Final

import aiohttp
import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from receiver import own_events
from receiver.net.grpc import is_loopback, parse_endpoint, unary
from receiver.sources.tetragon.discovery import DiscoveryError, discovered_address, reachable_host
from translators.pb import tetragon_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from receiver.types import Intake

_log = logging.getLogger(__name__)

LIST_POLICIES: Final = "/tetragon.FineGuidanceSensors/ListTracingPolicies"
POLICY_EVENT: Final = "otelbee.source.policy_error"

REASONS: Final[Mapping[str, str]] = {
    "tetragon_notify_overflowed_events_total": "listener_queue_full",
    "tetragon_bpf_missed_events_total": "kernel_missed",
    "tetragon_observer_ringbuf_events_lost_total": "ring_buffer_full",
    "tetragon_observer_ringbuf_queue_events_lost_total": "observer_queue_full",
    "tetragon_observer_ringbuf_errors_total": "ring_buffer_error",
}
"""The agent's counters of lost events, in words. The first is over all its clients: it need not have been us."""

_INTERVAL_S: Final = 30.0
_DEADLINE_S: Final = 5.0
_MAX_BYTES: Final = 8 << 20
_MAX_TEXT: Final = 1024
_SAMPLE = re.compile(
    rb"^(" + b"|".join(name.encode() for name in REASONS) + rb")(?:\{[^\n]*\})?[ \t]+(\S+)", re.MULTILINE
)
_BROKEN: Final = {
    tetragon_pb2.TP_STATE_LOAD_ERROR,
    tetragon_pb2.TP_STATE_ERROR,
    tetragon_pb2.TP_STATE_PARTIALLY_ENABLED,
}


class Unknown(Exception):
    """The agent's losses cannot be had now; the text says why."""


class Watch:
    """One agent's losses and policies, over all connections to it."""

    def __init__(self, discovery_file: Path, *, interval_s: float = _INTERVAL_S) -> None:
        """Look every ``interval_s``; nothing is asked before :meth:`run`."""
        self._discovery_file = discovery_file
        self._interval_s = interval_s
        self._losses: dict[str, float] | None = None
        """As of the last look that saw them."""
        self._seen_at = ""
        self._said: str | None = None
        self._policies: dict[tuple[str, str, str], tuple[int, str]] = {}
        """The policies in error, as they were reported."""
        self._lists_policies = True

    async def run(self, intake: Intake, connection: grpc.aio.Channel, endpoint: str) -> None:
        """Look until cancelled; what cannot be seen is no failure of the source."""
        try:
            while True:
                await self._look_at_losses(intake, endpoint)
                await self._look_at_policies(intake, connection)
                await asyncio.sleep(self._interval_s)
        finally:
            intake.losses(None)

    async def _look_at_losses(self, intake: Intake, endpoint: str) -> None:
        try:
            losses = await _losses(metrics_address(self._discovery_file, endpoint))
        except Unknown as error:
            intake.losses(None)
            self._say(f"the agent's own losses are unknown: {error}")
            return
        self._say("the agent's own losses are watched")
        intake.losses(losses)
        before, self._losses = self._losses, losses
        since, self._seen_at = self._seen_at, own_events.rfc3339()
        if before is None:  # what was lost before the first look was not lost to us
            return
        for reason, count in losses.items():
            last = before.get(reason, 0.0)
            lost = count - last if count >= last else count  # the agent restarted, and counts from 0 again
            if lost >= 1:
                await intake.event(
                    own_events.LOSS,
                    {
                        own_events.LOSS_REASON: reason,
                        own_events.LOSS_RECORDS: int(lost),
                        "otelbee.loss.from": since,
                        "otelbee.loss.to": self._seen_at,
                    },
                )

    async def _look_at_policies(self, intake: Intake, connection: grpc.aio.Channel) -> None:
        if not self._lists_policies:
            return
        try:
            answer = await unary(connection, LIST_POLICIES, b"", timeout_s=_DEADLINE_S)
            policies = tetragon_pb2.ListTracingPoliciesResponse.FromString(answer).policies
        except grpc.aio.AioRpcError as error:
            # An agent before 0.8 has no such call. Anything else ends the stream too, and is said there.
            self._lists_policies = error.code() is not grpc.StatusCode.UNIMPLEMENTED
            return
        except DecodeError:
            return
        broken = {
            (policy.domain, policy.namespace, policy.name): (int(policy.state), policy.error)
            for policy in policies
            if policy.state in _BROKEN or policy.error
        }
        before, self._policies = self._policies, broken
        for key, (state, text) in broken.items():
            if before.get(key) != (state, text):
                await intake.event(POLICY_EVENT, _policy(key[1], key[2], state, text))

    def _say(self, text: str) -> None:
        """Log a state, once per change."""
        if self._said != text:
            self._said = text
            _log.info("%s", text)


def metrics_address(discovery_file: Path, endpoint: str) -> str:
    """Find out where the agent at ``endpoint`` serves its metrics, as ``host:port``.

    Raises:
        Unknown: It says nothing about it, or the file is another agent's.
    """
    try:
        address = discovered_address(discovery_file)
    except DiscoveryError as error:
        raise Unknown(error.problem.text.removeprefix("no endpoint is configured and ")) from None
    if not _same(endpoint, address):
        raise Unknown(f"{discovery_file} is of the agent at {address}, not of {endpoint}")
    found = json.loads(discovery_file.read_bytes()).get("metrics_address")
    if not isinstance(found, str) or not found:
        raise Unknown(f"{discovery_file} names no metrics address: start the agent with --metrics-server :2112")
    return reachable_host(found)


def _same(endpoint: str, found: str) -> bool:
    """Whether the agent that wrote ``found`` is the one at ``endpoint``; a unix socket is always this host's agent."""
    ours, theirs = parse_endpoint(endpoint), parse_endpoint(found)
    if ours.socket_path:
        return True
    same_port = ours.address.rpartition(":")[2] == theirs.address.rpartition(":")[2]
    return same_port and (ours.host == theirs.host or (is_loopback(ours.host) and is_loopback(theirs.host)))


async def _losses(address: str) -> dict[str, float]:
    """Read the agent's counters, summed over their labels, by reason."""
    timeout = aiohttp.ClientTimeout(total=_DEADLINE_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"http://{address}/metrics") as response,
        ):
            if response.status != 200:  # noqa: PLR2004 - OK
                raise Unknown(f"{address}/metrics answers with status {response.status}")
            text = await _read(response)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        reason = "no answer" if isinstance(error, TimeoutError) else str(error)
        raise Unknown(f"{address}/metrics cannot be read: {reason}") from None
    losses: dict[str, float] = {}
    for name, value in _SAMPLE.findall(text):
        with contextlib.suppress(ValueError):
            reason = REASONS[name.decode()]
            losses[reason] = losses.get(reason, 0.0) + float(value)
    if not losses:
        raise Unknown(f"{address}/metrics has none of the agent's counters of losses")
    return losses


async def _read(response: aiohttp.ClientResponse) -> bytes:
    pieces: list[bytes] = []
    size = 0
    async for piece in response.content.iter_any():
        size += len(piece)
        if size > _MAX_BYTES:
            raise Unknown(f"{response.url} has more than {_MAX_BYTES} bytes")
        pieces.append(piece)
    return b"".join(pieces)


def _policy(namespace: str, name: str, state: int, text: str) -> dict[str, str | int | float | bool]:
    known = state in tetragon_pb2.TracingPolicyState.values()
    attributes: dict[str, str | int | float | bool] = {
        "tetragon.policy.name": name,
        "otelbee.policy.state": tetragon_pb2.TracingPolicyState.Name(state)[len("TP_STATE_") :].lower()
        if known
        else "",
        "otelbee.policy.error": text[:_MAX_TEXT],
    }
    return {**attributes, "tetragon.policy.namespace": namespace} if namespace else attributes
