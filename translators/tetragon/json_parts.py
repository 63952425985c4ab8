"""JSON lines whose parts were seen before are read without being parsed.

A line of the agent is ``{"<kind>":{"process":{...},"parent":{...},<rest>},"node_name":"...","time":"..."}``. Process,
parent and rest repeat, as text; what each became as protobuf is kept under its text.

Why that is exact: a quotation mark inside of a JSON string stands behind a backslash, so ``"parent":{`` with bare marks
never stands in a string. And a complete JSON object never begins another one: where the text at a place begins with an
object that was parsed before, the object at that place is this one, wherever its end was guessed to be. Every text is
parsed before it is kept, and a line is only read here when it is nothing but such texts and what stands between them.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, cast

import orjson

from translators import wire
from translators.pb import tetragon_pb2 as full
from translators.tetragon.cache import Cache
from translators.tetragon.json_lines import encoder
from translators.tetragon.kinds import EXIT, KINDS, Kind

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor

    from translators.tetragon.envelope import Envelope
    from translators.tetragon.json_lines import Encode
    from translators.tetragon.place import Node

_TEXTS = 16_384
_RESTS = 8_192
_BYTES = 32 * 1024 * 1024
_SHARE = 2
_TAILS = 64

_PROCESS = b'":{"process":{'
_PARENT = b'"parent":{'
_EXEC_ID = b'{"exec_id":"'
_REFCNT = b'"refcnt":'
_COUNTED = re.compile(rb'"parent_exec_id":"[A-Za-z0-9+/=]*"(, ?"refcnt":[1-9]\d*),')
_TIME = b'"time":"'
_LONGEST_KIND = max(map(len, KINDS))
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}]', re.DOTALL)
_TAIL = re.compile(rb'\},( ?)"node_name":"[^"\\]*",\1"time":"([^"\\]*)"[^\n]*\n?')
_SECOND = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
_OWN = re.compile(
    rb'\{"exec_id":"([A-Za-z0-9+/=]+)", ?"pid":(0|[1-9]\d*)(.*?), ?"start_time":"([^"]{30})"(.*?)'
    rb', ?"parent_exec_id":"([A-Za-z0-9+/=]*)"(.*?), ?"tid":(0|[1-9]\d*)(.*)\}',
    re.DOTALL,
)
"""A process as it is written, around what is its own; none of these keys has a namesake at another level but the time."""
_ELSEWHERE = frozenset(("process", "parent", "time", "exec_id", "pid", "start_time", "parent_exec_id", "refcnt", "tid"))
_INSTANT_BYTES = 30
"""Of 2026-01-02T03:04:05.678901234Z, as all but one time in a thousand is written."""

_GetEventsResponse = cast("Descriptor", full.GetEventsResponse.DESCRIPTOR)
_KINDS = {name.encode(): kind for name, kind in KINDS.items() if kind.parts > 1}
_ENCODERS: dict[bytes, Encode] = {
    name: encoder(cast("Descriptor", _GetEventsResponse.fields_by_name[kind.name].message_type))
    for name, kind in _KINDS.items()
}
_PROCESS_ENCODER = _ENCODERS[b"process"] = encoder(cast("Descriptor", full.Process.DESCRIPTOR))


class JsonParts:
    """Reads lines of known parts, and keeps the parts."""

    def __init__(self) -> None:
        """Start with nothing known."""
        self._processes: Cache[bytes, bytes] = Cache(2 * _TEXTS, _BYTES)
        """Process messages by their text."""
        self._latest: Cache[bytes, tuple[bytes, bytes]] = Cache(_TEXTS, _BYTES)
        """Text and message of a process, by its exec_id as it came last as somebody's parent."""
        self._last = b"\n", b""
        """The same of the last line's parent: one process often is that of many events in a row."""
        self._rests: Cache[tuple[bytes, bytes], bytes] = Cache(_RESTS, _BYTES)
        self._seconds: dict[bytes, tuple[int, bytes]] = {}
        self._comma = b","
        """Which of its two forms the agent's build writes."""
        self._head = b"\n"
        """What stands between an event's own message and its time; nothing does, before one was seen."""
        self._tails: dict[bytes, Node] = {}
        """What may follow that time."""

    def read(self, line: bytes) -> Envelope | None:
        """Take a line apart; None where it has another form, is no event, or holds what the schema does not know."""
        at = line.rfind(self._head)
        kind_ends = line.find(_PROCESS, 2, _LONGEST_KIND + len(_PROCESS) + 2)
        name = line[2:kind_ends]
        kind = _KINDS.get(name)
        if at < 0 or kind is None or not line.startswith(b'{"'):
            return None
        start = at + len(self._head)
        node = self._tails.get(line[start + _INSTANT_BYTES :])
        if node is None:
            return None
        try:
            time_ns = self._instant(line[start : start + _INSTANT_BYTES])[0]
            start = kind_ends + len(_PROCESS) - 1
            parent_at = line.index(_PARENT, start)
            stop = parent_at - len(self._comma)
            if line[stop:parent_at] != self._comma:
                return None
            text = line[start:stop]
            process = self._processes.young.get(text) or self._process(text)
            start = parent_at + len(_PARENT) - 1
            text, parent = self._last
            if not line.startswith(text, start):
                text, parent = self._last = self._text_at(line, start)
            start += len(text)
            if start > at:
                return None
            rest = self._rest(name, kind, line[start:at])
        except ValueError:  # the long way finds out what is wrong, if anything is
            return None
        return node, time_ns, kind, process, parent, rest

    def learn(self, line: bytes, node: Node) -> None:
        """Keep the form of a line that was read the long way, an event of ``node``."""
        found = _TAIL.match(line, line.rfind(b'"node_name":"') - 2) or _TAIL.match(
            line, line.rfind(b'"node_name":"') - 3
        )
        if found is None:
            return
        head = line[found.start() : found.start(2)]
        if head != self._head or len(self._tails) >= _TAILS:
            self._head, self._comma, self._tails = head, b"," + found[1], {}
        self._tails[line[found.end(2) :]] = node

    def _process(self, text: bytes) -> bytes:
        """Return a process as a message. Raises ValueError."""
        message = self._processes.get(text, len(text))
        if message is None:
            bare = self._without_refcnt(text)
            message = self._processes.get(bare, len(text))
            if message is None:
                message = self._assembled(bare)
                self._processes.put(bare, message, _SHARE * len(bare))
            self._processes.put(text, message, len(text))
        return message

    def _assembled(self, text: bytes) -> bytes:
        """Encode a process: what is its own, and what it has in common with others, by its text. Raises ValueError."""
        found = _OWN.fullmatch(text)
        if found is None or b"{" in found[3]:  # there, a time could be that of something else
            return _encode(_PROCESS_ENCODER, text, frozenset())
        exec_id, pid, before, start, between, parent_exec_id, behind, tid, end = found.groups()
        common = before + between + behind + end
        shape = self._fields(b"process", common)
        return b"".join(
            (
                wire.field(1, exec_id),
                wire.field(2, _number(pid)),
                shape,
                wire.field(8, self._instant(start)[1]),
                wire.field(12, parent_exec_id) if parent_exec_id else b"",
                wire.field(16, _number(tid)),
            )
        )

    def _without_refcnt(self, text: bytes) -> bytes:
        """Leave out a counter of the agent's cache, for which no record has a place. Raises ValueError."""
        if _REFCNT not in text:
            return text
        found = _COUNTED.search(text)
        if found is None:
            raise ValueError
        return text[: found.start(1)] + text[found.end(1) :]

    def _text_at(self, line: bytes, start: int) -> tuple[bytes, bytes]:
        """Return text and message of the process that begins at ``start``. Raises ValueError."""
        if not line.startswith(_EXEC_ID, start):
            raise ValueError
        begin = start + len(_EXEC_ID)
        exec_id = line[begin : line.index(b'"', begin)]
        found = self._latest.get(exec_id, len(exec_id))
        if found is None or not line.startswith(found[0], start):
            text = line[start : _end(line, start)]
            found = text, self._process(text)
            self._latest.put(exec_id, found, len(text))
        return found

    def _rest(self, name: bytes, kind: Kind, text: bytes) -> bytes:
        """Return what else a kind's message holds. Raises ValueError."""
        if kind is not EXIT:
            return self._rests.young.get((name, text)) or self._fields(name, text)
        # Each exit has a time of its own.
        at = text.index(_TIME)
        start = at + len(_TIME)
        value, behind = text[start : start + _INSTANT_BYTES], text[start + _INSTANT_BYTES :]
        if not behind.startswith(b'"') or text[at - len(self._comma) : at] != self._comma:
            raise ValueError
        fields = self._fields(name, text[: at - len(self._comma)]) + wire.field(5, self._instant(value)[1])
        return fields + self._fields(name, behind[1:]) if len(behind) > 1 else fields

    def _fields(self, name: bytes, text: bytes) -> bytes:
        fields = self._rests.get((name, text), len(text))
        if fields is None:
            if text and not text.startswith(self._comma):
                raise ValueError
            fields = _encode(_ENCODERS[name], b"{" + text[len(self._comma) :] + b"}")
            self._rests.put((name, text), fields, _SHARE * len(text))
        return fields

    def _instant(self, text: bytes) -> tuple[int, bytes]:
        """Read a time with nine digits of a second: Unix nanoseconds, and a Timestamp. Raises ValueError for others."""
        digits = text[20:29]
        if len(text) != _INSTANT_BYTES or text[19:20] != b"." or text[29:] != b"Z" or not digits.isdigit():
            raise ValueError
        second = self._seconds.get(text[:19])
        if second is None:
            if _SECOND.fullmatch(text[:19]) is None:
                raise ValueError
            seconds = int(datetime.fromisoformat(f"{text[:19].decode()}+00:00").timestamp())
            if seconds <= 0:
                raise ValueError
            if len(self._seconds) >= _TAILS:
                self._seconds.clear()
            second = self._seconds[text[:19]] = seconds * 1_000_000_000, wire.number_field(1, seconds)
        nanos = int(digits)
        return second[0] + nanos, second[1] + b"\x10" + wire.varint(nanos) if nanos else second[1]


def _number(digits: bytes) -> bytes:
    """Encode a UInt32Value. Raises ValueError."""
    value = int(digits)
    if value >= 1 << 32:
        raise ValueError
    return wire.number_field(1, value) if value else b""


def _encode(encode: Encode, text: bytes, elsewhere: frozenset[str] = _ELSEWHERE) -> bytes:
    """Encode a part by itself. Raises ValueError where it is no object, or not all of it is known."""
    value = orjson.loads(text)
    unknown: list[str] = []
    message = encode(value, "", unknown)
    # Nothing may come twice: once in the part, and once where the part was cut out.
    if unknown or not elsewhere.isdisjoint(value):
        raise ValueError
    return message


def _end(line: bytes, start: int) -> int:
    """Find where the object that begins at ``start`` ends. Raises ValueError."""
    depth = 0
    for token in _TOKEN.finditer(line, start):
        if token[0] == b"{":
            depth += 1
        elif token[0] == b"}":
            depth -= 1
            if depth == 0:
                return token.end()
    raise ValueError
