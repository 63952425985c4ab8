"""Configuration of the ``tetragon`` source."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from receiver.fields import Section, Size
from receiver.net.grpc import parse_endpoint
from receiver.net.tls import ClientTLS
from receiver.sources.tetragon.discovery import DISCOVERY_FILE, with_default_port
from receiver.sources.tetragon.filters import Filters
from translators.batch import Exclude as ExcludedProcesses
from translators.tetragon import SEVERITIES, Options

if TYPE_CHECKING:
    from translators.redact import Redactor
    from translators.resource import ResourceOptions

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def _severity(name: str) -> str:
    if name in SEVERITIES:
        return name
    near = difflib.get_close_matches(name.upper(), SEVERITIES, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise ValueError(f"not a severity; {hint}valid are {', '.join(SEVERITIES)}")


def _container_id(value: str) -> str:
    bare = value.rpartition("://")[2].lower()
    if not re.fullmatch("[0-9a-f]{64}", bare):
        raise ValueError("not a full container id; write its 64 hexadecimal digits")
    return bare


def _pod_uid(value: str) -> str:
    if not _UUID.fullmatch(value.lower()):
        raise ValueError("not a pod uid; write it as metadata.uid shows it, 8-4-4-4-12 hexadecimal digits")
    return value.lower()


class Exclude(Section):
    """Whose events to drop and count, besides otelbee's own."""

    pod_uids: tuple[Annotated[str, AfterValidator(_pod_uid)], ...] = ()
    """``metadata.uid`` of pods."""
    container_ids: tuple[Annotated[str, AfterValidator(_container_id)], ...] = ()
    """Full ids of containers, with or without ``containerd://``."""
    pids: tuple[Annotated[int, Field(gt=0, lt=1 << 32)], ...] = ()
    """Process ids on the host."""

    def processes(self) -> ExcludedProcesses:
        """Return them as translators take them."""
        return ExcludedProcesses(frozenset(self.pids), frozenset(self.container_ids), frozenset(self.pod_uids))


class Config(Section):
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
    exclude_self: bool = True
    """Drop, and count, the events of otelbee itself."""
    exclude: Exclude = Exclude()
    """Drop, and count, the events of these too."""
    node_labels: tuple[str, ...] = ()
    """Labels of the node to keep; ``"*"`` for all."""
    pod_labels: tuple[str, ...] = ()
    """Labels of the pod to keep; ``"*"`` for all."""
    pod_annotations: tuple[str, ...] = ()
    """Annotations of the pod to keep; ``"*"`` for all."""
    environment: tuple[str, ...] = ()
    """Environment variables of processes to keep; ``"*"`` for all."""
    service_name_from_labels: bool = False
    """Take ``service.name`` from the pod's ``app.kubernetes.io`` labels."""
    command_args: bool = False
    """Also split the arguments into ``process.command_args``; Tetragon's text cannot be split without loss."""
    severity: dict[str, Annotated[str, AfterValidator(_severity)]] = Field(default_factory=dict)
    """Severity by name or tag of the TracingPolicy, for example ``{high: ERROR}``."""
    log_record_uid: bool = True
    """Set ``log.record.uid``, the same from gRPC, file and retry."""
    max_record_bytes: Size = Size(48 * 1024)
    """Cut the longest values of a record that would be larger, in bytes; 0 never cuts."""
    max_recv_msg_size: Size = Size(64 * 1024 * 1024)
    """The largest message that is accepted from the agent, in bytes."""

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

    @model_validator(mode="after")
    def _tls_has_a_use(self) -> Self:
        if self.endpoint is not None and self.tls.names_files and parse_endpoint(self.endpoint).secure is False:
            raise ValueError(
                "endpoint is plain text (http://), but tls names certificate files; write https:// or remove them"
            )
        return self

    def options(self, resource: ResourceOptions, redactor: Redactor | None) -> Options:
        """Return what the translator needs to know."""
        return Options(
            resource=resource,
            redactor=redactor,
            node_labels=self.node_labels,
            pod_labels=self.pod_labels,
            pod_annotations=self.pod_annotations,
            environment=self.environment,
            service_name_from_labels=self.service_name_from_labels,
            command_args=self.command_args,
            severity=self.severity,
            log_record_uid=self.log_record_uid,
            max_record_bytes=int(self.max_record_bytes),
            field_filters=tuple(item.local() for item in self.filters.fields),
        )
