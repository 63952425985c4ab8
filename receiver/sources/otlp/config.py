"""Configuration of the ``otlp`` source."""

from __future__ import annotations

import re
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from receiver.fields import Address, Section
from receiver.net import grpc_server, http_server
from translators.otlp_passthrough import TENANT, Options

_HEADER = re.compile(r"[0-9a-z_.-]+")


def _header_name(name: str) -> str:
    lower = name.lower()
    if not _HEADER.fullmatch(lower) or lower.endswith("-bin"):
        raise ValueError(
            f"{name!r} is no header name; write letters, digits, '-', '_' and '.', and not '-bin' at its end"
        )
    if lower in {"authorization", "cookie"}:
        raise ValueError(
            f"{name!r} holds a secret, which does not belong into telemetry; the sender's name is {TENANT}"
        )
    return lower


class Grpc(grpc_server.Config):
    """OTLP/gRPC."""

    endpoint: Address = "localhost:4319"
    """Where to listen. 4317 would be the Collector's, which is usually on the same machine."""


class Http(http_server.Config):
    """OTLP/HTTP with protobuf bodies."""

    endpoint: Address = "localhost:4320"
    """Where to listen. 4318 would be the Collector's, which is usually on the same machine."""


class Protocols(Section):
    """What to listen for; a protocol whose key is absent is off."""

    grpc: Grpc | None = None
    http: Http | None = None

    @model_validator(mode="before")
    @classmethod
    def _present_is_on(cls, data: Any) -> Any:
        return {key: {} if value is None else value for key, value in data.items()} if isinstance(data, dict) else data

    @model_validator(mode="after")
    def _one_is_on(self) -> Self:
        if self.grpc is None and self.http is None:
            raise ValueError("name at least one protocol, for example protocols: {grpc: {}, http: {}}")
        return self


class Config(Section):
    """OTLP that is pushed."""

    protocols: Protocols
    """By protocol."""
    resource_headers: dict[Annotated[str, AfterValidator(_header_name)], Annotated[str, Field(min_length=1)]] = Field(
        default_factory=dict
    )
    """Headers of a request that become attributes of its resources: header to attribute key. What senders themselves
    wrote under such a key is removed."""

    @model_validator(mode="after")
    def _tenant_is_the_principals(self) -> Self:
        if self._authenticates and TENANT in self.resource_headers.values():
            raise ValueError(f"{TENANT} is the name of who is authenticated; choose another key for the header")
        return self

    @property
    def _authenticates(self) -> bool:
        return any(each is not None and each.auth is not None for each in (self.protocols.grpc, self.protocols.http))

    @property
    def max_bytes(self) -> int:
        """The largest request of any protocol."""
        grpc, http = self.protocols.grpc, self.protocols.http
        return max(grpc.max_bytes if grpc else 0, int(http.max_request_body_size) if http else 0)

    def options(self) -> Options:
        """What the translator is told."""
        own = {TENANT} if self._authenticates else set()
        return Options(frozenset(own | set(self.resource_headers.values())))
