"""Configuration of the ``parca`` source."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, field_validator

from receiver.fields import Address, Duration, Section, Size
from receiver.net import grpc_server, http_server, protocols
from receiver.net.grpc import parse_endpoint
from receiver.net.protocols import ResourceHeaders
from receiver.net.tls import ClientTLS
from translators import parca_arrow, pprof

if TYPE_CHECKING:
    from translators.redact import Redactor
    from translators.resource import ResourceOptions


class Grpc(grpc_server.Config):
    """The services of a Parca server that its agents call."""

    endpoint: Address = "localhost:7070"
    """Where to listen: Parca's own port."""
    max_recv_msg_size_mib: Annotated[int, Field(ge=1, le=64)] = 64
    """MiB of the largest message, decompressed. Agents send up to 32, as Parca's server takes 64."""


class Http(http_server.Config):
    """``WriteRaw`` as JSON, as Parca's gateway takes it."""

    endpoint: Address = "localhost:7072"
    """Where to listen."""
    max_request_body_size: Annotated[Size, Field(ge=1024, le=64 << 20)] = Size(64 << 20)
    """Of a body, as it arrives and decompressed."""


class Protocols(protocols.Protocols):
    """What to listen for; a protocol whose key is absent is off."""

    grpc: Grpc | None = None
    http: Http | None = None


class Debuginfo(Section):
    """A Parca server that wants the agents' debug information."""

    endpoint: str
    """``host:port``, ``dns:///host:port``, ``unix:///path`` or ``http(s)://host:port``."""
    tls: ClientTLS = ClientTLS()

    @field_validator("endpoint")
    @classmethod
    def _endpoint_is_one(cls, value: str) -> str:
        parse_endpoint(value)
        return value


class Config(Section):
    """Profiles that Parca's agents and scrapers push."""

    protocols: Protocols = Field(default_factory=lambda: Protocols(grpc=Grpc()))
    """By protocol; unset: gRPC alone."""
    resource_headers: ResourceHeaders = Field(default_factory=dict)
    """Headers of a request that become attributes of its resources: header to attribute key."""
    resource_labels: dict[str, Annotated[str, Field(min_length=1)]] = Field(default_factory=dict)
    """Labels that become other attributes of the resource than those of the table in docs/sources/parca.md: label to
    attribute key."""
    native_names: Literal["none", "placeholder"] = "none"
    """What a frame without a name is called: nothing, or ``libc.so.6+0x47a38``, because some backends hide the others."""
    max_pushback: Annotated[Duration, Field(ge=timedelta(0))] = timedelta(seconds=60)
    """How long an agent is asked to come back before it is told to drop what it holds: it holds it in memory, without
    bound."""
    debuginfo: Debuginfo | None = None
    """Where debug information goes; unset: agents are told to ask again later."""

    def arrow(self, resource: ResourceOptions, redactor: Redactor | None) -> parca_arrow.Options:
        """What the translator of Arrow records is told."""
        return parca_arrow.Options(resource, redactor, self.resource_labels, self.native_names)

    def pprof(self, resource: ResourceOptions, redactor: Redactor | None) -> pprof.Options:
        """What the translator of pprof is told."""
        return pprof.Options(resource, redactor, self.resource_labels, self.native_names)
