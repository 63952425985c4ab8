"""What the agent is asked to send: closed models of Tetragon's filters, checked before the call.

They mirror ``Filter`` and ``FieldFilter`` of Tetragon's ``events.proto``. The agent answers a filter it cannot use
only once the stream is asked for, and ignores a field path it does not know without a word; here both are errors of
the configuration.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, cast

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import ParseDict
from google.protobuf.wrappers_pb2 import BoolValue
from pydantic import AfterValidator, Field, model_validator

from receiver.fields import Regex, Section
from translators.pb import tetragon_pb2
from translators.tetragon import FieldFilter as LocalFieldFilter

if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Self

    from google.protobuf.descriptor import Descriptor

_EVENTS = {
    tetragon_pb2.EventType.Name(field.number): cast("Descriptor", field.message_type)
    for field in tetragon_pb2.GetEventsResponse.DESCRIPTOR.oneofs_by_name["event"].fields
    if field.number in tetragon_pb2.EventType.values()
}
"""The message of each event kind: the numbers of ``EventType`` are those of the oneof's fields."""


def _one_of(name: str, valid: Collection[str], what: str) -> str:
    if name in valid:
        return name
    near = difflib.get_close_matches(name.upper(), valid, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise ValueError(f"not {what}; {hint}valid are {', '.join(valid)}")


def _event_kind(name: str) -> str:
    return _one_of(name, _EVENTS, "a kind of event")


def _capability(name: str) -> str:
    return _one_of(name, tetragon_pb2.CapabilitiesType.keys(), "a capability")


EventKind = Annotated[str, AfterValidator(_event_kind)]
Capability = Annotated[str, AfterValidator(_capability)]
Text = Annotated[str, Field(min_length=1)]
Pid = Annotated[int, Field(ge=0, lt=1 << 32)]


class CapabilitySet(Section):
    """A test of one capability set, by names such as ``CAP_SYS_ADMIN``."""

    any: tuple[Capability, ...] = ()
    """Holds any of these."""
    all: tuple[Capability, ...] = ()
    """Holds all of these."""
    exactly: tuple[Capability, ...] = ()
    """Holds these and no other."""
    none: tuple[Capability, ...] = ()
    """Holds none of these."""


class Capabilities(Section):
    """Tests of a process's capabilities; the agent needs ``enable-process-cred`` to know them."""

    permitted: CapabilitySet | None = None
    """The permitted set."""
    effective: CapabilitySet | None = None
    """The effective set."""
    inheritable: CapabilitySet | None = None
    """The inheritable set."""


class Filter(Section):
    """One filter: an event matches when it matches every key that is set, by any of the key's values."""

    binary_regex: tuple[Regex, ...] = ()
    """Path of the program."""
    namespace: tuple[str, ...] = ()
    """Namespace of the pod, exactly; ``""`` is a process outside any pod."""
    health_check: bool | None = None
    """Whether the process is an exec probe of Kubernetes."""
    pid: tuple[Pid, ...] = ()
    """Process id on the host."""
    pid_set: tuple[Pid, ...] = ()
    """Process id on the host, or that of an ancestor that the agent has seen."""
    event_set: tuple[EventKind, ...] = ()
    """Kind of event."""
    pod_regex: tuple[Regex, ...] = ()
    """Name of the pod."""
    arguments_regex: tuple[Regex, ...] = ()
    """Arguments of the process."""
    labels: tuple[Text, ...] = ()
    """Kubernetes label selector on the pod."""
    policy_names: tuple[Text, ...] = ()
    """Name of the TracingPolicy."""
    capabilities: Capabilities | None = None
    """Capabilities of the process."""
    parent_binary_regex: tuple[Regex, ...] = ()
    """Path of the parent's program."""
    cel_expression: tuple[Text, ...] = ()
    """CEL over the event; checked by the agent alone."""
    parent_arguments_regex: tuple[Regex, ...] = ()
    """Arguments of the parent."""
    container_id: tuple[Regex, ...] = ()
    """Id of the container: the first 31 characters are all that the agent compares."""
    in_init_tree: bool | None = None
    """Whether the process descends from its container's first process."""
    ancestor_binary_regex: tuple[Regex, ...] = ()
    """Path of any ancestor's program; the agent needs ``enable-ancestors``."""
    container_name_regex: tuple[Regex, ...] = ()
    """Name of the container."""
    namespace_regex: tuple[Regex, ...] = ()
    """Namespace of the pod."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_dump(exclude_defaults=True):
            raise ValueError("an empty filter matches every event; set a key or remove it")
        return self

    def message(self) -> tetragon_pb2.Filter:
        """Return the filter as the agent takes it."""
        return ParseDict(self.model_dump(mode="json", exclude_defaults=True), tetragon_pb2.Filter())


class FieldFilter(Section):
    """Which fields of an event to keep or to remove; applied by the agent, and again by otelbee."""

    event_set: tuple[EventKind, ...] = ()
    """Kinds of event it applies to; all when empty."""
    fields: Annotated[tuple[Text, ...], Field(min_length=1)]
    """Paths inside the event's message, for example ``process.arguments``."""
    action: Literal["INCLUDE", "EXCLUDE"]
    """Keep only ``fields``, or remove them. Required: Tetragon's own default, INCLUDE, removes all others."""
    invert_event_set: bool = False
    """Apply to all kinds but those in ``event_set``."""

    @model_validator(mode="after")
    def _fields_exist(self) -> Self:
        named = set(self.event_set) or set(_EVENTS)
        kinds = [kind for kind in _EVENTS if (kind in named) != (self.invert_event_set and bool(self.event_set))]
        for path in self.fields:
            unknown = [_unknown_field(_EVENTS[kind], path) for kind in kinds]
            if unknown and None not in unknown:
                deepest = max(item for item in unknown if item)
                raise ValueError(f"{path!r} is no field of these kinds of event: {deepest.problem}")
        return self

    def message(self) -> tetragon_pb2.FieldFilter:
        """Return the filter as the agent takes it."""
        return tetragon_pb2.FieldFilter(
            event_set=self.event_set,
            fields=FieldMask(paths=self.fields),
            action=self.action,
            invert_event_set=BoolValue(value=True) if self.invert_event_set else None,
        )

    def local(self) -> LocalFieldFilter:
        """Return the filter as the translator applies it."""
        return LocalFieldFilter(
            event_set=frozenset(self.event_set),
            fields=self.fields,
            action=self.action,
            invert_event_set=self.invert_event_set,
        )


class _Unknown(NamedTuple):
    known_segments: int
    problem: str


def _unknown_field(message: Descriptor, path: str) -> _Unknown | None:
    """Return how far ``path`` is known in ``message`` and what is wrong with the next segment; None when all is."""
    names = path.split(".")
    descriptor: Descriptor | None = message
    for depth, name in enumerate(names):
        if descriptor is None:
            return _Unknown(depth, f"{'.'.join(names[:depth])} has no fields")
        field = descriptor.fields_by_name.get(name)
        if field is None:
            near = difflib.get_close_matches(name, descriptor.fields_by_name, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            return _Unknown(depth, f"{descriptor.name} has no field {name!r}{hint}")
        descriptor = field.message_type
        if descriptor is not None and descriptor.GetOptions().map_entry:
            return None  # what follows is a key of the map
    return None


class Filters(Section):
    """What the agent sends: events that match any of ``allow`` (all when empty) and none of ``deny``."""

    helm_defaults: bool = False
    """Also deny what Tetragon's Helm chart keeps out of its export file, but not out of gRPC: exec probes of
    Kubernetes, and every process of the namespaces ``cilium`` and ``kube-system`` or of no pod at all."""
    allow: tuple[Filter, ...] = ()
    """Keep what matches any of these; everything when empty."""
    deny: tuple[Filter, ...] = ()
    """Then drop what matches any of these."""
    fields: tuple[FieldFilter, ...] = ()
    """Then keep or remove fields."""

    def request(self) -> tetragon_pb2.GetEventsRequest:
        """Return the request for the stream.

        It never asks for aggregation: the agent aggregates no kind of event, but puts a queue of its own (of length 0
        unless told otherwise) in front of the stream, which drops without a word (measured: 15 of 5,000 arrived).
        """
        return tetragon_pb2.GetEventsRequest(
            allow_list=[item.message() for item in self.allow],
            deny_list=[item.message() for item in (*(HELM_DENY if self.helm_defaults else ()), *self.deny)],
            field_filters=[item.message() for item in self.fields],
        )


HELM_DENY = (Filter(health_check=True), Filter(namespace=("", "cilium", "kube-system")))
"""``tetragon.exportDenyList`` of Tetragon's Helm chart, 1.7."""
