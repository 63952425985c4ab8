"""What a source that is pushed to listens on: gRPC, HTTP, or both; and what all its listeners share."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Annotated, Any, Final, Self

from pydantic import AfterValidator, Field, model_validator

from receiver.fields import Section
from receiver.net import grpc_server, http_server
from receiver.net.gate import Gate
from receiver.net.grpc import is_loopback
from receiver.net.inflight import InFlight
from receiver.net.listen import split_address

if TYPE_CHECKING:
    from receiver.net.pushback import Pushback
    from receiver.types import Intake

_log = logging.getLogger(__name__)

_HEADER = re.compile(r"[0-9a-z_.-]+")
_IN_FLIGHT_BYTES: Final = 64 << 20
_IN_FLIGHT_REQUESTS: Final = 4
"""A sender may have half of what is on its way in, so that two of the largest requests fit."""


def _header_name(name: str) -> str:
    lower = name.lower()
    if not _HEADER.fullmatch(lower) or lower.endswith("-bin"):
        raise ValueError(
            f"{name!r} is no header name; write letters, digits, '-', '_' and '.', and not '-bin' at its end"
        )
    if lower in {"authorization", "cookie"}:
        raise ValueError(
            f"{name!r} holds a secret, which does not belong into telemetry; the sender's name is otelbee.tenant"
        )
    return lower


ResourceHeaders = dict[Annotated[str, AfterValidator(_header_name)], Annotated[str, Field(min_length=1)]]
"""Headers of a request that become attributes of its resources: header, in lower case, to attribute key."""


class Protocols(Section):
    """What to listen for; a protocol whose key is absent is off. A source narrows the types to give its addresses."""

    grpc: grpc_server.Config | None = None
    http: http_server.Config | None = None

    @model_validator(mode="before")
    @classmethod
    def _present_is_on(cls, data: Any) -> Any:
        return {key: {} if value is None else value for key, value in data.items()} if isinstance(data, dict) else data

    @model_validator(mode="after")
    def _one_is_on(self) -> Self:
        if self.grpc is None and self.http is None:
            raise ValueError("name at least one protocol, for example protocols: {grpc: {}, http: {}}")
        return self

    @property
    def authenticates(self) -> bool:
        """Whether any of them asks who sends."""
        return any(each is not None and each.auth is not None for each in (self.grpc, self.http))

    @property
    def max_bytes(self) -> int:
        """The largest request of any of them."""
        return max(
            self.grpc.max_bytes if self.grpc else 0,
            int(self.http.max_request_body_size) if self.http else 0,
        )

    def gate(self, intake: Intake, pushback: Pushback | None = None) -> Gate:
        """Make what the listeners share; ``pushback`` ends the patience of senders."""
        return Gate(intake, InFlight(max(_IN_FLIGHT_BYTES, _IN_FLIGHT_REQUESTS * self.max_bytes)), pushback)

    def warn_if_open(self) -> None:
        """Say what a listener for other machines leaves open; once, at the start."""
        for name, config in (("grpc", self.grpc), ("http", self.http)):
            if config is None or is_loopback(split_address(config.endpoint)[0]):
                continue
            known = config.auth is not None or (config.tls is not None and config.tls.client_ca_file is not None)
            if not known:
                _log.warning(
                    "%s %s can be reached from other machines, and anybody may send; set auth, or tls.client_ca_file",
                    name,
                    config.endpoint,
                )
            elif config.tls is None:
                _log.warning("%s %s receives secrets from other machines in plain text; set tls", name, config.endpoint)
