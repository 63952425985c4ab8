"""Exports to an OTLP/gRPC server, which is the Collector. Requests go out as the bytes they are."""

from __future__ import annotations

import asyncio
import logging
import platform
import random
import re
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import ExportProfilesServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from pydantic import ConfigDict, Field, field_validator, model_validator

from receiver.errors import Held
from receiver.exporters import retry
from receiver.exporters.dead_letter import Setting as DeadLetter
from receiver.exporters.link import Link
from receiver.exporters.sending_queue import SendingQueue
from receiver.exporters.status import export_error
from receiver.fields import Duration, Secret, Section
from receiver.net.bearer import Auth, BearerToken
from receiver.net.grpc import channel, is_loopback, parse_endpoint
from receiver.net.tls import ClientTLS
from translators.batch import Signal
from translators.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from receiver.telemetry import Telemetry
    from translators.batch import Batch

_log = logging.getLogger(__name__)

METHODS: Final[Mapping[Signal, str]] = {
    Signal.LOGS: "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    Signal.TRACES: "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    Signal.METRICS: "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    Signal.PROFILES: "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export",
}
_RESPONSES: Final[Mapping[Signal, tuple[Any, str]]] = {
    Signal.LOGS: (ExportLogsServiceResponse, "rejected_log_records"),
    Signal.TRACES: (ExportTraceServiceResponse, "rejected_spans"),
    Signal.METRICS: (ExportMetricsServiceResponse, "rejected_data_points"),
    Signal.PROFILES: (ExportProfilesServiceResponse, "rejected_profiles"),
}
_COMPRESSION: Final = {"none": grpc.Compression.NoCompression, "gzip": grpc.Compression.Gzip}
_GO_ARCHITECTURE: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_HEADER_NAME = re.compile(r"[0-9a-z_.-]+")
"""What gRPC allows (PROTOCOL-HTTP2.md, Header-Name), after the lower-casing that HTTP/2 demands."""

FIRST_CONNECTION_SPREAD_S: Final = 1.0
"""The first connection waits up to so long, so that a whole DaemonSet does not arrive in one moment."""
_RECONNECT: Final = (
    # gRPC spreads its reconnections by 20 % around these intervals; its own maximum of 120 s would keep a Collector
    # that has come back waiting.
    ("grpc.initial_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 30_000),
)


class Config(Section):
    """Where and how to export; the keys are those of the Collector's ``otlp_grpc`` exporter."""

    model_config = ConfigDict(hide_input_in_errors=True)  # headers are secrets

    endpoint: str
    """``host:port``, ``dns:///host:port`` (all addresses in turn), ``unix:///path`` or ``http(s)://host:port``."""
    tls: ClientTLS = ClientTLS()
    authority: str = ""
    """The ``:authority`` of requests, where it is not the endpoint's host."""
    auth: Auth | None = None
    """A token that comes from a file; none without it."""
    headers: dict[str, Secret] = Field(default_factory=dict)
    """Sent with every request, for example an API key; values are never shown."""
    compression: Literal["none", "gzip"] = "none"
    """``none`` because the Collector is usually on the same machine."""
    timeout: Annotated[Duration, Field(ge=timedelta(0))] = timedelta(seconds=5)
    """How long one attempt may take; 0 means for ever."""
    retry_on_failure: retry.Config = retry.Config()
    sending_queue: SendingQueue = SendingQueue()
    dead_letter: DeadLetter | None = None
    """Keeps what the Collector refuses for good; dropped and counted without it."""

    @field_validator("endpoint")
    @classmethod
    def _endpoint_is_one(cls, value: str) -> str:
        parse_endpoint(value)
        return value

    @model_validator(mode="after")
    def _scheme_agrees_with_tls(self) -> Self:
        if parse_endpoint(self.endpoint).secure is False and self.tls.names_files:
            raise ValueError("endpoint begins with http://, which is plain text, but tls names files; write https://")
        return self

    @model_validator(mode="after")
    def _token_stays_secret(self) -> Self:
        if self.auth is None:
            return self
        if "authorization" in {name.lower() for name in self.headers}:
            raise ValueError("auth and headers both set authorization; remove one of them")
        target = parse_endpoint(self.endpoint)
        plain = self.tls.insecure if target.secure is None else not target.secure
        if plain and not target.socket_path and not is_loopback(target.host):
            raise ValueError(
                f"auth would send the token to {self.endpoint} in plain text, where others can read it; use tls, or an "
                "endpoint on this machine"
            )
        return self

    @field_validator("headers")
    @classmethod
    def _headers_can_be_sent(cls, value: dict[str, Secret]) -> dict[str, Secret]:
        for name, secret in value.items():
            if not _HEADER_NAME.fullmatch(name.lower()):
                raise ValueError(f"{name!r} is no header name; gRPC takes letters, digits, '-', '_' and '.'")
            if name.lower().startswith("grpc-"):
                raise ValueError(f"{name!r} is reserved by gRPC; choose a name that does not begin with 'grpc-'")
            if name.lower().endswith("-bin"):
                raise ValueError(f"{name!r} would be a binary header, which this exporter does not send")
            text = secret.get_secret_value()
            if not (text.isascii() and text.isprintable()):
                raise ValueError(f"the value of header {name!r} has characters other than printable ASCII")
        return value


class Exporter:
    """One connection and one attempt per batch; what a failure means is in :mod:`receiver.exporters.status`."""

    def __init__(
        self, config: Config, telemetry: Telemetry, *, first_connection_spread_s: float = FIRST_CONNECTION_SPREAD_S
    ) -> None:
        """Prepare the connection; it is opened by the first export.

        Raises:
            StartError: A file of ``tls`` or ``auth`` cannot be used.
        """
        self._telemetry = telemetry
        self._spread_s = first_connection_spread_s
        self._headers = [(name.lower(), value.get_secret_value()) for name, value in config.headers.items()]
        self._token = (
            BearerToken(config.auth.bearertokenauth, "exporter::otlp_grpc::auth") if config.auth is not None else None
        )
        self._compression = _COMPRESSION[config.compression]
        self._link = Link(partial(_connect, config), config.tls)
        self._not_before_s: float | None = None
        """Time of the event loop at which the first connection may be made; None before the first export."""
        self._partial: set[Signal] = set()

    async def export(self, batch: Batch) -> None:
        """Send one request; raises an :class:`~receiver.errors.ExportError` that says what its failure means."""
        await self._spread_first_connection()
        try:
            answer = await self._link.call(METHODS[batch.signal], batch.data, self._metadata(), self._compression)
        except grpc.aio.AioRpcError as failure:
            error = export_error(failure, batch.signal)
            if isinstance(error, Held):
                error.cured = self._renew
            raise error from None
        self._read_answer(batch, answer)

    async def close(self) -> None:
        """Close the connection; calls under way are cancelled."""
        await self._link.close()

    def _metadata(self) -> grpc.aio.Metadata:
        if self._token is None:
            return grpc.aio.Metadata(*self._headers)
        self._token.renew()
        return grpc.aio.Metadata(*self._headers, self._token.header())

    def _renew(self) -> bool:
        """Read the files that changed anew; whether one did, so that the next attempt may end differently."""
        token = self._token is not None and self._token.renew()
        return self._link.renew() or token

    async def _spread_first_connection(self) -> None:
        now_s = asyncio.get_running_loop().time()
        if self._not_before_s is None:
            self._not_before_s = now_s + random.uniform(0, self._spread_s)  # noqa: S311 - spreads load, hides nothing
        if self._not_before_s > now_s:
            await asyncio.sleep(self._not_before_s - now_s)

    def _read_answer(self, batch: Batch, answer: bytes) -> None:
        """Count what a partial success says was rejected; it must not be sent again (OTLP, "Partial Success")."""
        if not answer:
            self._partial.discard(batch.signal)
            return
        response_type, rejected_field = _RESPONSES[batch.signal]
        try:
            partial = response_type.FromString(answer).partial_success
        except DecodeError:
            return  # the status said that the server has the request; this only refines it
        rejected = getattr(partial, rejected_field)
        if rejected > 0:
            self._telemetry.dropped(batch.signal, rejected, "rejected")
        if not rejected and not partial.error_message:
            self._partial.discard(batch.signal)
        elif batch.signal not in self._partial:
            self._partial.add(batch.signal)
            _log.warning(
                "Partial success response: %s, %d items rejected: %s", batch.signal, rejected, partial.error_message
            )


def _connect(config: Config) -> grpc.aio.Channel:
    return channel(
        config.endpoint,
        config.tls,
        authority=config.authority,
        options=(*_RECONNECT, ("grpc.primary_user_agent", user_agent())),
    )


def user_agent() -> str:
    """Name, version, operating system and architecture, written as the Collector writes its own."""
    machine = platform.machine()
    return f"otelbee/{VERSION} ({platform.system().lower()}/{_GO_ARCHITECTURE.get(machine, machine)})"
