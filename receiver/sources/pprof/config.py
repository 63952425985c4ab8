"""Configuration of the ``pprof`` source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from receiver.fields import Address, Section
from receiver.net import grpc_server, http_server, protocols
from receiver.net.protocols import ResourceHeaders
from receiver.sources.pprof.scrape_config import Scrape
from translators.pprof import Options

if TYPE_CHECKING:
    from translators.redact import Redactor
    from translators.resource import ResourceOptions


class Grpc(grpc_server.Config):
    """Pyroscope's ``push.v1.PusherService`` over gRPC."""

    endpoint: Address = "localhost:4041"
    """Where to listen."""
    max_recv_msg_size_mib: int = Field(20, ge=1, le=64)
    """MiB of the largest message, decompressed."""


class Http(http_server.Config):
    """Everything else that is pushed."""

    endpoint: Address = "localhost:4040"
    """Where to listen: Pyroscope's own port."""


class Protocols(protocols.Protocols):
    """What to listen for; a protocol whose key is absent is off."""

    grpc: Grpc | None = None
    http: Http | None = None


class Config(Section):
    """Profiles in pprof's format, pushed or scraped."""

    protocols: Protocols | None = None
    """By protocol; unset: HTTP alone, and nothing where there is something to scrape."""
    scrape: Scrape | None = None
    """Where to get profiles from; unset: nowhere."""
    resource_headers: ResourceHeaders = Field(default_factory=dict)
    """Headers of a request that become attributes of its resources: header to attribute key."""
    resource_labels: dict[str, Annotated[str, Field(min_length=1)]] = Field(default_factory=dict)
    """Labels that become other attributes of the resource than those of the table in docs/sources/pprof.md: label to
    attribute key."""
    native_names: Literal["none", "placeholder"] = "none"
    """What a frame without a name is called: nothing, or ``libfoo.so+0x47a38``, because some backends hide the others."""
    original_payload: bool = False
    """Send the profile itself along with what became of it."""

    def options(self, resource: ResourceOptions, redactor: Redactor | None) -> Options:
        """What the translator is told."""
        return Options(
            resource=resource,
            redactor=redactor,
            resource_labels=self.resource_labels,
            native_names=self.native_names,
            original_payload=self.original_payload,
        )

    @property
    def listening(self) -> Protocols | None:
        """What to listen for in the end."""
        return self.protocols or (Protocols(http=Http()) if self.scrape is None else None)
