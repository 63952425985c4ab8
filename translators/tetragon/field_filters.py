"""Field filters, applied to the whole event before anything else sees it.

Fails closed: fields that the schema does not know are removed from every event that a filter applies to, and an event
of an unknown kind is withheld by whoever finds that filters are active.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from translators.pb import tetragon_pb2 as full

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from google.protobuf.message import Message

    from translators.tetragon.options import FieldFilter

Tree = dict[str, "Tree"]
"""Paths as a tree; a leaf means the whole field."""


def _tree(paths: Iterable[str]) -> Tree:
    root: Tree = {}
    whole: set[tuple[str, ...]] = set()
    for path in sorted(paths, key=len):
        names = tuple(path.split("."))
        # A path inside of one that is already meant as a whole adds nothing.
        if any(names[: len(prefix)] == prefix for prefix in whole):
            continue
        whole.add(names)
        node = root
        for name in names:
            node = node.setdefault(name, {})
    return root


class FieldFilters:
    """The filters of one stream, in the order in which the agent applies them."""

    def __init__(self, filters: Sequence[FieldFilter]) -> None:
        """Turn paths into trees once."""
        self._filters = [(one, _tree(one.fields)) for one in filters]

    def __bool__(self) -> bool:
        """Tell whether there is any filter."""
        return bool(self._filters)

    def apply(self, raw: bytes) -> bytes:
        """Filter one serialised GetEventsResponse. Raises DecodeError."""
        event = full.GetEventsResponse.FromString(raw)
        kind = event.WhichOneof("event")
        if kind is None:
            return raw
        message: Message = getattr(event, kind)
        for one, tree in self._filters:
            if one.applies(kind.upper()):
                message.DiscardUnknownFields()
                (_keep if one.action == "INCLUDE" else _remove)(message, tree)
        # Filtering may have emptied the message; its kind stays.
        message.SetInParent()
        return event.SerializeToString()


def _children(message: Message, name: str) -> Iterable[Any]:
    """Return the messages in a field, singular or repeated; nothing where it holds none."""
    field = message.DESCRIPTOR.fields_by_name[name]
    if field.message_type is None or field.message_type.GetOptions().map_entry:
        return ()
    value = getattr(message, name)
    return value if field.is_repeated else (value,)


def _keep(message: Message, tree: Tree) -> None:
    for field, _ in message.ListFields():
        inner = tree.get(field.name)
        if inner is None:
            message.ClearField(field.name)
        elif inner:
            for child in _children(message, field.name):
                _keep(child, inner)


def _remove(message: Message, tree: Tree) -> None:
    present = {field.name for field, _ in message.ListFields()}
    for name, inner in tree.items():
        if name not in present:
            continue
        if inner:
            for child in _children(message, name):
                _remove(child, inner)
        else:
            message.ClearField(name)
