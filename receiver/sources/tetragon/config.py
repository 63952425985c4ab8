"""Configuration of the ``tetragon`` source."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import field_validator, model_validator

from receiver.fields import Size
from receiver.net.grpc import parse_endpoint
from receiver.net.tls import ClientTLS
from receiver.sources.tetragon.discovery import DISCOVERY_FILE, with_default_port
from receiver.sources.tetragon.filters import Filters
from receiver.sources.tetragon_mapping import Mapping

if TYPE_CHECKING:
    from translators.tetragon import FieldFilter


class Config(Mapping):
    """Tetragon's event stream over gRPC."""

    endpoint: str | None = None
    """Address of the agent: ``unix:///var/run/tetragon/tetragon.sock``, or ``host:port``. Unset: the address that the
    agent wrote to ``discovery_file``."""
    discovery_file: Path = DISCOVERY_FILE
    """Where the agent writes its address, where that folder is mounted elsewhere (in a container)."""
    tls: ClientTLS = ClientTLS(insecure=True)
    """Plain text by default, as the agent up to 1.7 speaks nothing else; a ``tls`` section turns TLS on."""
    authority: str = ""
    """The authority to ask for, where it is not the endpoint's host."""
    filters: Filters = Filters()
    """What the agent sends."""
    max_recv_msg_size: Size = Size(64 * 1024 * 1024)
    """The largest message that is accepted from the agent, in bytes."""
    read_ahead: Size = Size(64 * 1024 * 1024)
    """How many bytes of events may wait to be translated. Reading costs a tenth of translating, and the agent drops what
    is not read: only when so much waits is it made to wait as well."""

    @field_validator("endpoint")
    @classmethod
    def _endpoint_is_one(cls, value: str | None) -> str | None:
        if value is None:
            return None
        address = with_default_port(value)
        parse_endpoint(address)
        return address

    @field_validator("max_recv_msg_size")
    @classmethod
    def _size_is_grpcs(cls, value: Size) -> Size:
        if not 0 < value < 1 << 31:
            raise ValueError("must be between 1 byte and 2 GiB, the most that gRPC can receive")
        return value

    @field_validator("read_ahead")
    @classmethod
    def _is_a_window(cls, value: Size) -> Size:
        if not 1 << 16 <= value < 1 << 31:
            raise ValueError("must be between 64 KiB and 2 GiB: it is the window of an HTTP/2 stream")
        return value

    @model_validator(mode="after")
    def _tls_has_a_use(self) -> Self:
        if self.endpoint is not None and self.tls.names_files and parse_endpoint(self.endpoint).secure is False:
            raise ValueError(
                "endpoint is plain text (http://), but tls names certificate files; write https:// or remove them"
            )
        return self

    def field_filters(self) -> tuple[FieldFilter, ...]:
        """Those that the agent was asked to apply."""
        return tuple(item.local() for item in self.filters.fields)
