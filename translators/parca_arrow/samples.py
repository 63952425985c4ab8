"""What of a row's labels stands on its sample and not on a resource: which thread, which CPU, which trace."""

from __future__ import annotations

import re
from itertools import repeat
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from translators import attributes as key
from translators.profiles.dictionary import number
from translators.profiles.labels import SAMPLE_LABELS
from translators.wire import any_int, any_string, varint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from translators.parca_arrow.columns import Texts
    from translators.profiles.dictionary import Dictionary

ATTRIBUTES: Final[Mapping[str, str]] = MappingProxyType(
    {"cpu": "cpu.logical_number", "thread_id": key.THREAD_ID, "thread_name": "thread.name"}
)
"""Label to attribute; others keep their name. The agent writes the first two as decimal text, OTel has integers."""
TRACE_ID, SPAN_ID = "trace_id", "span_id"
LABELS: Final = SAMPLE_LABELS | {"gpu_view", TRACE_ID, SPAN_ID}

_HEADS: Final = (b"", *(b"\x12" + varint(size) for size in range(1, 128)))
"""Tag and length of ``attribute_indices``, by size: a varint of at most 5 bytes for each of :data:`LABELS`."""
_INTEGERS: Final = frozenset({"cpu", "thread_id"})
_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,17}")
_TRACE: Final = re.compile(r"(?!0{32})[0-9a-f]{32}")
_SPAN: Final = re.compile(r"(?!0{16})[0-9a-f]{16}")


def encode(labels: Mapping[str, Texts], size: int, dictionary: Dictionary) -> list[bytes]:
    """Encode the labels of each row as the fields ``attribute_indices`` and ``link_index`` of its ``Sample``.

    Every column must be one of :data:`LABELS`.
    """
    links = _links(labels, dictionary)
    linked = {SPAN_ID, TRACE_ID} if links else set()
    columns = [
        _attributes(name, column, dictionary, links if name in linked else []) for name, column in labels.items()
    ]
    packed = map(b"".join, zip(*columns, strict=True)) if columns else repeat(b"", size)
    attributes = [_HEADS[len(each)] + each for each in packed]
    return [head + link for head, link in zip(attributes, links, strict=True)] if links else attributes


def _attributes(name: str, column: Texts, dictionary: Dictionary, links: Sequence[bytes]) -> list[bytes]:
    """The index of each row's attribute as a varint; empty where it has none, or ``links`` has a link instead."""
    key_ = ATTRIBUTES.get(name, name)
    codes: Sequence[int] = column.codes
    if links:
        codes = [-1 if link else code for code, link in zip(codes, links, strict=True)]
    encoded = {
        code: varint(dictionary.attribute(key_, _value(name, value))) if (value := column.words[code]) else b""
        for code in sorted(set(codes))
    }
    return [encoded[code] for code in codes]


def _value(name: str, value: str) -> bytes:
    return any_int(int(value)) if name in _INTEGERS and _DECIMAL.fullmatch(value) else any_string(value)


def _links(labels: Mapping[str, Texts], dictionary: Dictionary) -> list[bytes]:
    """The link of each row, empty where it has no trace id with a span id; no list where no row could have one."""
    if TRACE_ID not in labels or SPAN_ID not in labels:
        return []
    trace_ids, span_ids = labels[TRACE_ID], labels[SPAN_ID]
    pairs = list(zip(trace_ids.codes, span_ids.codes, strict=True))
    links = {
        pair: number(3, dictionary.link(bytes.fromhex(ids[0]), bytes.fromhex(ids[1])))
        for pair in sorted(set(pairs))
        if _are_ids(ids := (trace_ids.words[pair[0]] or "", span_ids.words[pair[1]] or ""))
    }
    return [links.get(pair, b"") for pair in pairs]


def _are_ids(ids: tuple[str, str]) -> bool:
    return _TRACE.fullmatch(ids[0]) is not None and _SPAN.fullmatch(ids[1]) is not None
