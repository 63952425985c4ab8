"""OTLP that arrives as OTLP: counted, checked, and handed on as the bytes it is.

Only where otelbee itself has something to say about a sender, its name or what its headers said, are the resources
written anew, on the wire: everything else in them, unknown fields included, stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from translators import attributes as key
from translators import wire
from translators.batch import Batch, Part, Rejection, Signal, Translation
from translators.otlp import Malformed, count_items, walk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from translators.batch import Origin

TENANT: Final = key.OTELBEE_TENANT

_LENGTH: Final = 2  # wire type
_ENVELOPE: Final = 1  # Export*ServiceRequest.resource_{logs,spans,metrics}
_RESOURCE: Final = 1  # Resource{Logs,Spans,Metrics}.resource
_ATTRIBUTES: Final = 1  # Resource.attributes
_KEY: Final = 1  # KeyValue.key


@dataclass(frozen=True)
class Options:
    """``owned``: keys of resource attributes that only otelbee sets; a sender's own are removed."""

    owned: frozenset[str] = frozenset()


class Translator:
    """Each record is one serialised export request, the kind is its signal: ``logs``, ``traces``, ``metrics``.

    It keeps nothing between calls.
    """

    blocking: ClassVar[bool] = False
    inline_bytes: ClassVar[int] = 256 * 1024
    """About 0.1 ms of records, or 15 ms of the smallest that there can be."""

    def __init__(self, options: Options) -> None:
        """Serve one source."""
        self._owned = frozenset(key.encode() for key in options.owned)

    def translate(self, kind: str, records: Sequence[bytes], origin: Origin, now_ns: int) -> Translation:  # noqa: ARG002 - nothing gets a time here
        """Count and check requests; one without an item becomes no batch."""
        signal = Signal(kind)
        batches: list[Batch] = []
        rejected: list[Rejection] = []
        added = self._added(origin)
        for index, data in enumerate(records):
            try:
                items = count_items(signal, data)
                if items:
                    owned = replace_attributes(data, self._owned, added) if self._owned else data
                    batches.append(Batch(signal, items, owned, (Part("", items, 0),)))
            except Malformed as error:
                rejected.append(Rejection(index, "malformed", f"no OTLP {kind} request: {error}"))
        return Translation(tuple(batches), tuple(rejected))

    def _added(self, origin: Origin) -> bytes:
        values = dict(origin.labels)
        if origin.principal is not None:
            values[TENANT] = origin.principal
        return wire.attributes(values, wire.LIST_TAG)


def replace_attributes(data: bytes, removed: frozenset[bytes], added: bytes) -> bytes:
    """Remove attributes by key from every resource of a request and append ``added``, encoded attributes.

    Raises:
        Malformed: A resource or an attribute of it is broken.
    """
    pieces = []
    for number, _, start, value, stop in walk(data, 0, len(data)):
        if number == _ENVELOPE:
            pieces.append(wire.field(_ENVELOPE, _with_resource(data, value, stop, removed, added)))
        else:
            pieces.append(data[start:stop])
    return b"".join(pieces)


def _with_resource(data: bytes, position: int, end: int, removed: frozenset[bytes], added: bytes) -> bytes:
    """Write one ResourceLogs, ResourceSpans or ResourceMetrics with exactly one resource.

    A parser merges a message field that stands there more than once, so all of its pieces are looked at.
    """
    resource: list[bytes] = []
    rest: list[bytes] = []
    for number, wire_type, start, value, stop in walk(data, position, end):
        if number == _RESOURCE and wire_type == _LENGTH:
            resource += (
                data[inner:behind]
                for field, kind, inner, content, behind in walk(data, value, stop)
                if not (field == _ATTRIBUTES and kind == _LENGTH and _key(data, content, behind) in removed)
            )
        else:
            rest.append(data[start:stop])
    return wire.field(_RESOURCE, b"".join((*resource, added))) + b"".join(rest)


def _key(data: bytes, position: int, end: int) -> bytes:
    """The key of a KeyValue: where it stands there more than once, the last one counts."""
    key = b""
    for number, wire_type, _, value, stop in walk(data, position, end):
        if number == _KEY and wire_type == _LENGTH:
            key = data[value:stop]
    return key
