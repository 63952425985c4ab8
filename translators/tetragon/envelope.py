"""The outermost layer of an event: its node, its time, its kind, and where the kind's message begins.

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

Envelope = tuple[Node, lazy.Timestamp, Kind, bytes, int, bytes]
"""Node, time, kind, and a message with the position from which on it is the kind's; the aggregation."""

_NODE_NAME, _TIME = b"\xc2\x3e", b"\xca\x3e"  # fields 1000 and 1001, length-delimited
_REPEATED = frozenset({b"\xda\x3e", b"\xe2\x3e"})  # fields 1003 and 1004: cluster_name, node_labels
_CONTINUE = 0x80

_NODES = 1_024
_BYTES = 8 * 1024 * 1024
_ORDERS = 256
"""How many orders of labels are kept."""

_instant = lazy.Timestamp.FromString
_NUMBERS = lazy.Event.DESCRIPTOR.fields_by_name
_TAGS = {wire.varint(_NUMBERS[name].number << 3 | 2): kind for name, kind in KINDS.items()}
_SHORT_TAGS = {tag[0]: kind for tag, kind in _TAGS.items() if len(tag) == 1}


class Envelopes:
    """Reads envelopes, and keeps what repeats in them."""

    def __init__(self) -> None:
        """Start with no node known."""
        self._nodes: Cache[tuple[str, str, tuple[bytes, ...]], Node] = Cache(_NODES, _BYTES)
        self._head = b"\xff"
        """The last node's name, and the tag of the time; the first byte of no message, before there is one."""
        self._between: dict[bytes, Node] = {}
        """What may stand between that time and the kind."""
        self._between_size = 0

    def read(self, raw: bytes) -> Envelope | None:
        """Take apart an event of a shape that is known; None where it has another."""
        if not raw.startswith(self._head):
            return None
        try:
            at = len(self._head)
            stop = at + 1 + raw[at]
            instant = _instant(raw[at + 1 : stop])
            between = b""
            kind = _SHORT_TAGS.get(raw[stop])
            if kind is None and (kind := _TAGS.get(raw[stop : stop + 2])) is None:
                between = raw[stop : stop + self._between_size]
                stop += self._between_size
                kind = _SHORT_TAGS.get(raw[stop]) or _TAGS.get(raw[stop : stop + 2])
            node = self._between.get(between)
            if node is None or kind is None:
                return None
            stop += 1 if raw[stop] < _CONTINUE else 2
            size, start = raw[stop], stop + 1
            if size >= _CONTINUE:
                size, start = size & 0x7F | raw[start] << 7, start + 1
                if size >= 1 << 14:
                    size, start = size & 0x3FFF | raw[start] << 14, start + 1
            if start + size != len(raw):
                return None
        except IndexError:  # it is cut off; the parser says so
            return None
        return node, instant, kind, raw, start, b""

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
            self._head, self._between_size = head, len(between)
            self._between = {}
        self._between[between] = node
