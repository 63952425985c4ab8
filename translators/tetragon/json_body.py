"""The body for people who come from the Collector's filelog receiver: the event as the agent's JSON export writes it.

It is made from the message, whichever way the event came, so that both ways give the same bytes. The agent's own
serialiser varies its white space from build to build; here there is none. Every string is redacted as its attribute is.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import orjson
from google.protobuf.json_format import MessageToDict

from translators.pb import tetragon_pb2 as full

if TYPE_CHECKING:
    from collections.abc import Sequence

    from translators.tetragon.redaction import Redaction

_IDS = frozenset({"exec_id", "parent_exec_id"})
"""Made by the agent of node, time and pid."""
_BYTES = frozenset({"bytes_arg", "buildid"})
"""Bytes fields of the schema, in JSON as base64; ``truncated_bytes_arg`` holds its own ``bytes_arg``."""
_MAPS = frozenset({"node_labels", "pod_labels", "pod_annotations"})


def json_body(raw: bytes, redaction: Redaction, environment: Sequence[str]) -> bytes:
    """Write an event as one line of JSON, redacted, with the environment variables that are allowed.

    Raises DecodeError.
    """
    event = MessageToDict(full.GetEventsResponse.FromString(raw), preserving_proto_field_name=True)
    return orjson.dumps(_Leaves(redaction, environment).object(event))


class _Leaves:
    """Walks an event and redacts what it finds at the ends."""

    def __init__(self, redaction: Redaction, environment: Sequence[str]) -> None:
        self._redaction = redaction
        self._environment = environment

    def object(self, value: dict[str, Any]) -> dict[str, Any]:
        """Redact the members of an object; ``binary`` and ``Key`` say how to read their neighbours."""
        redacted: dict[str, Any] = {}
        for name, item in value.items():
            if name == "arguments" and isinstance(item, str):
                redacted[name] = self._redaction.arguments(item, value.get("binary", ""))
            elif name == "Value" and "Key" in value:
                redacted[name] = self._redaction.variable(value["Key"], item)
            elif name == "environment_variables":
                allowed = [each for each in item if self._allows(each.get("Key", ""))]
                if allowed:
                    redacted[name] = [self.object(each) for each in allowed]
            elif name in _MAPS:
                # A map has no order on the wire.
                redacted[name] = {key: self._redaction.text(item[key]) for key in sorted(item)}
            else:
                redacted[name] = self._member(name, item)
        return redacted

    def _allows(self, variable: str) -> bool:
        return "*" in self._environment or variable in self._environment

    def _member(self, name: str, value: Any) -> Any:
        if isinstance(value, dict):
            return self.object(value)
        if isinstance(value, list):
            return [self._member(name, item) for item in value]
        if not isinstance(value, str) or name in _IDS:
            return value
        if name in _BYTES:
            return base64.b64encode(self._redaction.data(base64.b64decode(value))).decode()
        return self._redaction.text(value)
