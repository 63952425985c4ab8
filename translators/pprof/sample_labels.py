"""Labels of samples to attributes and links."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from translators import attributes as key
from translators.pb.profile_pb2 import Label, Sample
from translators.pprof.refused import RefusedError
from translators.profiles.dictionary import indices, number
from translators.profiles.labels import PROFILE_LABEL
from translators.wire import LIST_TAG, Key, any_array, any_int, any_kvlist, any_string

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from translators.pprof.tables import Strings
    from translators.profiles.dictionary import Dictionary
    from translators.redact import Redactor

TRACE_ID, SPAN_ID = "trace_id", "span_id"
"""Both as lowercase hexadecimal digits, they become a link and nothing else."""
_TRACE: Final = re.compile(r"(?!0{32})[0-9a-f]{32}")
_SPAN: Final = re.compile(r"(?!0{16})[0-9a-f]{16}")

ATTRIBUTES: Final[Mapping[str, str]] = MappingProxyType(
    {"cpu": "cpu.logical_number", "thread_id": key.THREAD_ID, "thread_name": "thread.name"}
)
"""String label to attribute, as for Parca's other records; all others keep their name."""
_INTEGERS: Final = frozenset({"cpu", "thread_id"})
_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,17}")
_MAX_LABELS: Final = 1000
"""Of a sample: each may have two bytes and becomes an object."""
_VALUE, _UNIT = Key("value", LIST_TAG), Key("unit", LIST_TAG)


class Labels(dict[bytes, bytes]):
    """The fields ``attribute_indices`` and ``link_index`` of a sample, by the encoded labels that it has."""

    def __init__(self, strings: Strings, dictionary: Dictionary, redactor: Redactor | None) -> None:
        """Enter nothing yet."""
        super().__init__({b"": b""})
        self._strings = strings
        self._dictionary = dictionary
        self._redactor = redactor

    def __missing__(self, encoded: bytes) -> bytes:
        """Enter the attributes and the link of some labels."""
        by_key: dict[str, list[Label]] = {}
        labels = Sample.FromString(encoded).label
        if len(labels) > _MAX_LABELS:
            raise RefusedError(f"a sample has {len(labels)} labels, and at most {_MAX_LABELS} are taken", "too_large")
        for label in labels:
            by_key.setdefault(self._strings.text(label.key), []).append(label)
        link = self._link(by_key)
        if link:
            del by_key[TRACE_ID], by_key[SPAN_ID]
        attributes = [self._attribute(name, labels, by_key) for name, labels in by_key.items()]
        found = self[encoded] = indices(2, attributes) + number(3, link)
        return found

    def _link(self, by_key: Mapping[str, Sequence[Label]]) -> int:
        texts = []
        for name, pattern in ((TRACE_ID, _TRACE), (SPAN_ID, _SPAN)):
            labels = by_key.get(name, ())
            if len(labels) != 1 or not labels[0].str or _has_number(labels[0]):
                return 0
            text = self._strings.text(labels[0].str)
            if not pattern.fullmatch(text):
                return 0
            texts.append(text)
        return self._dictionary.link(bytes.fromhex(texts[0]), bytes.fromhex(texts[1]))

    def _attribute(self, name: str, labels: Sequence[Label], by_key: Mapping[str, Sequence[Label]]) -> int:
        """One attribute of all labels of a name: OTLP's keys are unique."""
        if len(labels) == 1 and not (labels[0].str and _has_number(labels[0])):
            label = labels[0]
            if not label.str:
                return self._dictionary.attribute(_key(name), any_int(label.num), self._strings.text(label.num_unit))
            text = self._text(name, label)
            convention = ATTRIBUTES.get(name)
            if convention is None or convention in by_key:
                return self._dictionary.attribute(_key(name), any_string(text))
            if name not in _INTEGERS:
                return self._dictionary.attribute(convention, any_string(text))
            if _DECIMAL.fullmatch(text):
                return self._dictionary.attribute(convention, any_int(int(text)))
            return self._dictionary.attribute(name, any_string(text))
        return self._repeated(name, labels)

    def _repeated(self, name: str, labels: Sequence[Label]) -> int:
        """An array; of numbers with one unit it is the attribute's, else each number stands with its own."""
        units = {label.num_unit for label in labels} if not any(label.str for label in labels) else set()
        shared = self._strings.text(units.pop()) if len(units) == 1 else None
        values: list[bytes] = []
        for label in labels:
            if label.str:
                values.append(any_string(self._text(name, label)))
            if _has_number(label) or not label.str:
                unit = self._strings.text(label.num_unit)
                parts = [_VALUE.integer(label.num), _UNIT.text(unit)]
                values.append(any_int(label.num) if shared is not None or not unit else any_kvlist(parts))
        return self._dictionary.attribute(_key(name), any_array(values), shared or "")

    def _text(self, name: str, label: Label) -> str:
        text = self._strings.text(label.str)
        return text if self._redactor is None else self._redactor.environment(name, text)


def _key(name: str) -> str:
    """The key of an attribute, which must not be empty."""
    return name or PROFILE_LABEL


def _has_number(label: Label) -> bool:
    return bool(label.num or label.num_unit)
