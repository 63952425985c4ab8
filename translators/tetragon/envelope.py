"""The outermost layers of an event: its node, its time, its kind, and the parts of the kind's message.

Go's serialiser writes the fields in the order of their numbers and the kind, which is a oneof, last: node_name, time,
aggregation_info, cluster_name, node_labels, kind. All but the time repeats from event to event, so an event of the same
shape as one that was parsed before is read without being parsed. Labels are a map, which Go writes in another order each
time; but of few labels there are few orders, for Go only begins elsewhere.
"""

from __future__ import annotations

from translators import wire
from translators.pb import tetragon_lazy_pb2 as lazy
from translators.tetragon.cache import Cache
from translators.tetragon.kinds import KINDS, Kind
from translators.tetragon.place import Node

Envelope = tuple[Node, int, Kind, bytes, bytes, bytes]
"""Node, time in Unix nanoseconds, kind, process, parent, and the rest of the kind's message."""

_NODE_NAME, _TIME = b"\xc2\x3e", b"\xca\x3e"  # fields 1000 and 1001, length-delimited
_REPEATED = frozenset({b"\xda\x3e", b"\xe2\x3e"})  # fields 1003 and 1004: cluster_name, node_labels
_PROCESS, _PARENT = 0x0A, 0x12  # fields 1 and 2 of a kind's message, length-delimited
_NANOS = b"\x10"  # field 2 of Timestamp, a varint
_LONG_TIME = 12
"""Bytes of a Timestamp whose nanoseconds take five; from 2004 to 2106, seconds take five as well."""
_CONTINUE = 0x80
_CONTINUES_3 = _CONTINUE * (1 + (1 << 7) + (1 << 14))
_CONTINUES_4 = _CONTINUES_3 + _CONTINUE * (1 << 21)
"""The marks of a varint's bytes but the last, as they add up."""

_NODES = 1_024
_BYTES = 8 * 1024 * 1024
_ORDERS = 256
"""How many orders of labels are kept."""
_SECONDS = 64

_instant = lazy.Timestamp.FromString
_NUMBERS = lazy.Event.DESCRIPTOR.fields_by_name
_TAGS = {wire.varint(_NUMBERS[name].number << 3 | 2): kind for name, kind in KINDS.items()}
_SHORT_TAGS = {tag[0]: kind for tag, kind in _TAGS.items() if len(tag) == 1 and kind.parts > 1}
_LONG_TAGS = {tag: kind for tag, kind in _TAGS.items() if kind.parts > 1}
"""Of the kinds whose message begins with a process and its parent."""


class Envelopes:
    """Reads envelopes, and keeps what repeats in them."""

    def __init__(self) -> None:
        """Start with no node known."""
        self._nodes: Cache[tuple[str, str, tuple[bytes, ...]], Node] = Cache(_NODES, _BYTES)
        self._head = b"\xff"
        """The last node's name, and the tag of the time; the first byte of no message, before there is one."""
        self._head_size = 1
        self._seconds: dict[bytes, int] = {}
        """Unix nanoseconds of the seconds of late, as they begin a Timestamp."""
        self._between: dict[bytes, Node] = {}
        """What may stand between that time and the kind."""
        self._between_size = 0

    def read(self, raw: bytes) -> Envelope | None:
        """Take apart an event of a shape that is known; None where it has another."""
        if not raw.startswith(self._head):
            return None
        try:
            at = self._head_size
            stop = at + 1 + raw[at]
            time_ns = self._time(raw[at + 1 : stop])
            between = b""
            kind = _SHORT_TAGS.get(raw[stop])
            if kind is None and (kind := _LONG_TAGS.get(raw[stop : stop + 2])) is None:
                between = raw[stop : stop + self._between_size]
                stop += self._between_size
                kind = _SHORT_TAGS.get(raw[stop]) or _LONG_TAGS.get(raw[stop : stop + 2])
            node = self._between.get(between)
            if node is None or kind is None:
                return None
            at = stop + (2 if raw[stop] < _CONTINUE else 3)
            size = raw[at - 1]
            if size >= _CONTINUE:
                size, at = size - _CONTINUE + (raw[at] << 7), at + 1
            end = at + size
            process, at = _part(raw, at, _PROCESS)
            parent, at = _part(raw, at, _PARENT)
        except (IndexError, ValueError):  # it is cut off, or has another form: the parser knows
            return None
        return (node, time_ns, kind, process, parent, raw[at:]) if at <= end == len(raw) else None

    def _time(self, field: bytes) -> int:
        """Read a Timestamp as nearly all of them are. Raises ValueError for any other."""
        base = self._seconds.get(field[:7])
        if base is None:
            base = self._second(field)
        if len(field) == _LONG_TIME:
            a, b, c, d, e = field[7:]
            if a & b & c & d >= _CONTINUE and e < 8:  # noqa: PLR2004 - an int32 has so many bits
                return base + a + (b << 7) + (c << 14) + (d << 21) + (e << 28) - _CONTINUES_4
        elif len(field) == _LONG_TIME - 1:
            a, b, c, d = field[7:]
            if a & b & c >= _CONTINUE > d:
                return base + a + (b << 7) + (c << 14) + (d << 21) - _CONTINUES_3
        raise ValueError

    def _second(self, field: bytes) -> int:
        """Learn a second, as its bytes; they stand before those of the nanoseconds."""
        instant = _instant(field)
        if wire.number_field(1, instant.seconds) + _NANOS != field[:7]:
            raise ValueError
        if len(self._seconds) >= _SECONDS:
            self._seconds.clear()
        base = self._seconds[field[:7]] = instant.seconds * 1_000_000_000
        return base

    def parse(self, raw: bytes) -> tuple[lazy.Event, Node]:
        """Parse any event, and keep its shape. Raises DecodeError."""
        event = lazy.Event.FromString(raw)
        labels = event.node_labels
        key = (event.node_name, event.cluster_name, tuple(sorted(labels)) if labels else ())
        size = sum(map(len, key[2]))
        node = self._nodes.get(key, size)
        if node is None:
            node = Node(*key)
            self._nodes.put(key, node, size)
        self._learn(raw, node)
        return event, node

    def _learn(self, raw: bytes, node: Node) -> None:
        name = node.identity
        head = (_NODE_NAME + wire.varint(len(name)) + name if name else b"") + _TIME
        if not raw.startswith(head):
            return
        try:
            start = stop = len(head) + 1 + raw[len(head)]
            while raw[stop : stop + 2] in _REPEATED:
                size, stop = raw[stop + 2], stop + 3
                if size >= _CONTINUE:
                    size, stop = size & 0x7F | raw[stop] << 7, stop + 1
                stop += size
            between = raw[start:stop]
        except IndexError:
            return
        if raw[stop : stop + 2] not in _TAGS and raw[stop : stop + 1] not in _TAGS:
            return
        if head != self._head or len(between) != self._between_size or len(self._between) >= _ORDERS:
            self._head, self._head_size = head, len(head)
            self._between, self._between_size = {}, len(between)
        self._between[between] = node


def _part(raw: bytes, at: int, tag: int) -> tuple[bytes, int]:
    """Read a field of up to 16 KiB where it is the next one; return it, and where it ends."""
    if at >= len(raw) or raw[at] != tag:
        return b"", at
    size, at = raw[at + 1], at + 2
    if size >= _CONTINUE:
        high = raw[at]
        if high >= _CONTINUE:
            raise ValueError
        size, at = size - _CONTINUE + (high << 7), at + 1
    return raw[at : at + size], at + size
