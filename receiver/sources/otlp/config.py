"""Configuration of the ``otlp`` source."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from receiver.fields import Address, Section
from receiver.net import grpc_server, http_server, protocols
from receiver.net.protocols import ResourceHeaders
from translators.otlp_passthrough import TENANT, Options


class Grpc(grpc_server.Config):
    """OTLP/gRPC."""

    endpoint: Address = "localhost:4319"
    """Where to listen. 4317 would be the Collector's, which is usually on the same machine."""


class Http(http_server.Config):
    """OTLP/HTTP with protobuf bodies."""

    endpoint: Address = "localhost:4320"
    """Where to listen. 4318 would be the Collector's, which is usually on the same machine."""


class Protocols(protocols.Protocols):
    """What to listen for; a protocol whose key is absent is off."""

    grpc: Grpc | None = None
    http: Http | None = None


class Config(Section):
    """OTLP that is pushed."""

    protocols: Protocols
    """By protocol."""
    resource_headers: ResourceHeaders = Field(default_factory=dict)
    """Headers of a request that become attributes of its resources: header to attribute key. What senders themselves
    wrote under such a key is removed."""

    @model_validator(mode="after")
    def _tenant_is_the_principals(self) -> Self:
        if self.protocols.authenticates and TENANT in self.resource_headers.values():
            raise ValueError(f"{TENANT} is the name of who is authenticated; choose another key for the header")
        return self

    def options(self) -> Options:
        """What the translator is told."""
        own = {TENANT} if self.protocols.authenticates else set()
        return Options(frozenset(own | set(self.resource_headers.values())))
