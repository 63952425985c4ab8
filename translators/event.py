"""Records of otelbee's own: what happened between a source and its peer, as a log record beside the peer's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from translators import attributes as key
from translators import wire
from translators.batch import Batch, Part, Signal
from translators.resource import Observed, build
from translators.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from translators.resource import ResourceOptions

SCOPE_NAME = "otelbee"
_SCHEMA = wire.field(3, key.SCHEMA_URL.encode())
"""``schema_url`` of ResourceLogs and of ScopeLogs."""
_WARN = 13  # SeverityNumber SEVERITY_NUMBER_WARN


def resource_logs(resource: bytes, scope: bytes, records: Sequence[bytes]) -> bytes:
    """Encode one ``resource_logs`` field of an export request.

    ``records`` joined are encoded ``log_records`` fields; there may be megabytes of them, so they are copied once.
    """
    own, ours = wire.field(1, resource), wire.field(1, scope)
    scope_size = len(ours) + sum(map(len, records)) + len(_SCHEMA)
    scope_head = b"\x12" + wire.varint(scope_size)
    size = len(own) + len(scope_head) + scope_size + len(_SCHEMA)
    return b"".join((b"\x0a", wire.varint(size), own, scope_head, ours, *records, _SCHEMA, _SCHEMA))


def scope(attributes: Mapping[str, wire.AttributeValue]) -> bytes:
    """Encode the ``InstrumentationScope`` of every record of ours."""
    return (
        wire.field(1, SCOPE_NAME.encode())
        + wire.field(2, VERSION.encode())
        + wire.attributes(attributes, wire.SCOPE_TAG)
    )


def own_event(
    name: str,
    attributes: Mapping[str, str | int | float | bool],
    now_ns: int,
    resource: ResourceOptions,
) -> Batch:
    """Build one WARN record of otelbee's own, such as ``otelbee.source.gap``, at ``now_ns`` (Unix nanoseconds)."""
    body = " ".join([name, *(f"{attribute}={value}" for attribute, value in attributes.items())])
    record = (
        wire.fixed64_field(1, now_ns)
        + wire.number_field(2, _WARN)
        + wire.field(5, wire.any_string(body))
        + wire.attributes({**attributes, key.OTELBEE_EVENT_TYPE: name}, wire.RECORD_TAG)
        + wire.fixed64_field(11, now_ns)
        + wire.field(12, name.encode())
    )
    ourselves = Observed(service={key.SERVICE_NAME: SCOPE_NAME, key.SERVICE_VERSION: VERSION})
    data = resource_logs(build(ourselves, resource), scope({}), [wire.field(2, record)])
    return Batch(Signal.LOGS, 1, data, (Part("", 1, now_ns),))
