"""How Tetragon's events become records: the options that every source of them has."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field

from receiver.fields import Size
from receiver.sources.excluding import Excluding
from receiver.sources.process_spans import Processes, chosen
from translators.tetragon import SEVERITIES, FieldFilter, Options

if TYPE_CHECKING:
    from translators.redact import Redactor
    from translators.resource import ResourceOptions


def _severity(name: str) -> str:
    if name in SEVERITIES:
        return name
    near = difflib.get_close_matches(name.upper(), SEVERITIES, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise ValueError(f"not a severity; {hint}valid are {', '.join(SEVERITIES)}")


class Mapping(Excluding):
    """The configuration of a source of Tetragon's events."""

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
    process_spans: bool | Processes = False
    """Also a span for each process that ends, or for each of these."""
    body: Literal["line", "json"] = "line"
    """The body of records: a ``line`` for people, or the whole event as the agent's ``json``."""

    def field_filters(self) -> tuple[FieldFilter, ...]:
        """Field filters that the translator applies once more."""
        return ()

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
            field_filters=self.field_filters(),
            process_spans=chosen(self.process_spans),
            body=self.body,
        )
