"""Samples, by their bytes: most of a profile, so that nothing here parses one.

A sample's canonical encoding is its stack (field 1, packed), its values (2, packed) and its labels (3, each a message).
OTLP's ``Stack`` is that first field as it stands, where the indices of locations equal their ids. Of the values, each goes
into the Profile of its type.
"""

from __future__ import annotations

import re
from itertools import chain
from operator import add
from typing import TYPE_CHECKING, Final, NamedTuple

from translators.pb.profile_lazy_pb2 import Ids
from translators.pprof.refused import RefusedError
from translators.profiles.dictionary import number
from translators.wire import field, varint

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from translators.pprof.sample_labels import Labels
    from translators.pprof.tables import Locations
    from translators.profiles.dictionary import Dictionary

_STACK, _VALUES = 0x0A, 0x12
_MORE: Final = 0x80
_VARINT: Final = re.compile(rb"[\x80-\xff]*[\x00-\x7f]")
_CONTINUED: Final = bytes(range(0x80, 0x100))
"""The bytes of a varint that are not its last: without them, a packed list has as many bytes as items."""
_VALUES_TAG: Final = 0x22  # OTLP's Sample.values = 4


class Columns(NamedTuple):
    """Samples taken apart."""

    stacks: list[bytes]
    """The field 1 of each, whole; empty where it has no locations."""
    values: list[bytes]
    """Each a varint, those of a sample together."""
    labels: list[bytes]
    """The fields 3 of each."""


def split(samples: Sequence[bytes], types: int) -> Columns:
    """Take canonical samples apart, each of which must have as many values as there are types.

    Raises:
        RefusedError: One has more or fewer.
    """
    stacks: list[bytes] = []
    values: list[bytes] = []
    labels: list[bytes] = []
    for sample in samples:
        # Nearly all lengths have one byte; this is the one loop over samples in Python.
        end = size + 2 if sample[:1] == b"\x0a" and (size := sample[1]) < _MORE else _end(sample, 0, _STACK)
        if sample[end : end + 1] == b"\x12" and (size := sample[end + 1]) < _MORE:
            behind = end + 2 + size
            values.append(sample[end + 2 : behind])
        else:
            behind = _end(sample, end, _VALUES)
            values.append(_content(sample[end:behind]))
        stacks.append(sample[:end])
        labels.append(sample[behind:])
    for index, each in enumerate(values):
        if (found := len(each.translate(None, _CONTINUED))) != types:
            raise RefusedError(f"sample {index} has {found} values, and there are {types} sample types")
    return Columns(stacks, _VARINT.findall(b"".join(values)), labels)


def stacks(given: Sequence[bytes], locations: Locations, dictionary: Dictionary) -> list[int]:
    """Enter the stacks, fields 1 of samples, and what they refer to; returns the index of each."""
    distinct = list(dict.fromkeys(given))
    ids = Ids.FromString(field(1, b"".join(map(_content, distinct)))).id
    used = set(ids)
    if 0 in used:
        raise RefusedError("location 0 is referred to; ids begin at 1")
    entered = locations.enter(used)
    entries = distinct
    if any(index != identity for identity, index in entered.items()):
        index_of = {varint(identity): varint(index) for identity, index in entered.items()}
        entries = [_renumbered(stack, index_of) for stack in distinct]
    index_of_stack = dict(zip(distinct, dictionary.stacks.extend(entries), strict=True))
    return [index_of_stack[stack] for stack in given]


def encode(indices: Iterable[int], labels: Labels, columns: Columns, types: int, max_bytes: int) -> list[bytes]:
    """Encode the samples of each type as fields ``samples`` of its ``Profile``.

    Args:
        indices: The stack of each sample.
        labels: What the labels of a sample become.
        columns: The samples.
        types: How many values each has.
        max_bytes: Of all that is returned.

    Raises:
        RefusedError: It would be more.
    """
    heads_of = {index: number(1, index) for index in set(indices)}
    heads = [heads_of[index] + labels[each] for index, each in zip(indices, columns.labels, strict=True)]
    sizes = list(map(len, heads))
    if types * sum(sizes) > max_bytes:
        raise RefusedError(
            f"with its labels once for each of {types} types, it is more than {max_bytes} bytes", "too_large"
        )
    pieces = {value: bytes((_VALUES_TAG, len(value))) + value for value in set(columns.values)}
    lengths = _Lengths()
    encoded = []
    for number_of_type in range(types):
        values = [pieces[value] for value in columns.values[number_of_type::types]]
        # Concatenated as it is written: tag and length, head, values. Nothing is done in Python for each sample.
        length_of_each = map(lengths.__getitem__, map(add, sizes, map(len, values)))
        encoded.append(b"".join(chain.from_iterable(zip(length_of_each, heads, values, strict=True))))
    return encoded


class _Lengths(dict[int, bytes]):
    """Tag and length of a sample by its size."""

    def __missing__(self, size: int) -> bytes:
        encoded = self[size] = b"\x12" + varint(size)
        return encoded


def _end(data: bytes, position: int, tag: int) -> int:
    """The offset behind the field at ``position``, which is that one where it has not this tag."""
    if position >= len(data) or data[position] != tag:
        return position
    size = data[position + 1]
    if size < _MORE:
        return position + 2 + size
    shift, position = 7, position + 2
    size &= 0x7F
    while (byte := data[position]) >= _MORE:
        size |= (byte & 0x7F) << shift
        shift += 7
        position += 1
    return position + 1 + (size | byte << shift)


def _content(packed: bytes) -> bytes:
    """What is in a packed field, behind its tag of one byte and its length."""
    if len(packed) < _MORE:
        return packed[2:]
    start = 2
    while packed[start - 1] >= _MORE:
        start += 1
    return packed[start:]


def _renumbered(stack: bytes, index_of: dict[bytes, bytes]) -> bytes:
    found = _VARINT.findall(_content(stack))
    return field(1, b"".join([index_of[each] for each in found])) if found else b""
