"""What can be set about the translation of Tetragon's events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from translators.resource import ResourceOptions
from translators.tetragon.kinds import SEVERITIES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from translators.redact import Redactor
    from translators.spans import Selection


@dataclass(frozen=True)
class FieldFilter:
    """One of the field filters that the agent was asked for; it is applied again here.

    The agent sends an event unfiltered when its own filter fails, so what must not leave the host is removed a second
    time.
    """

    event_set: frozenset[str] = frozenset()
    """Kinds it applies to, as Tetragon names them (``PROCESS_EXEC``); empty means all."""
    fields: tuple[str, ...] = ()
    """Paths inside the event message, in snake_case: ``process.arguments``. Unknown paths match nothing."""
    action: Literal["INCLUDE", "EXCLUDE"] = "INCLUDE"
    invert_event_set: bool = False

    def applies(self, event_set: str) -> bool:
        """Tell whether this filter is meant for a kind."""
        return not self.event_set or (event_set in self.event_set) != self.invert_event_set


@dataclass(frozen=True)
class Options:
    """How events become log records. An allow-list names keys; ``*`` allows all."""

    resource: ResourceOptions = field(default_factory=ResourceOptions)
    redactor: Redactor | None = None
    """None leaves every string as it came."""
    node_labels: tuple[str, ...] = ()
    pod_labels: tuple[str, ...] = ()
    pod_annotations: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    service_name_from_labels: bool = False
    """Whether well-known pod labels may name the service (the convention asks for consent)."""
    command_args: bool = False
    """Whether to add ``process.command_args``: a best effort, Tetragon's argument string cannot be split exactly."""
    severity: Mapping[str, str] = field(default_factory=dict)
    """Policy name or tag to severity (``WARN``, ``ERROR2``); the policy's name is looked up first, then its tags."""
    log_record_uid: bool = True
    max_record_bytes: int = 48 * 1024
    """A longer record has its longest values cut; 0 never cuts."""
    field_filters: tuple[FieldFilter, ...] = ()
    process_spans: bool | Selection = False
    """Whether processes become spans: none, all, or a selection."""
    body: Literal["line", "json"] = "line"
    """What stands in the body: a line for people, or the whole event in Tetragon's own JSON."""

    def __post_init__(self) -> None:
        """Check what cannot be told by the types."""
        for name, severity in self.severity.items():
            if severity not in SEVERITIES:
                raise ValueError(f"severity of {name!r} is {severity!r}; use one of {', '.join(SEVERITIES)}")
