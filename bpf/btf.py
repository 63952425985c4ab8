"""Reads the running kernel's BTF: where a struct's members lie, and what an enum's constants are.

The format is described in the kernel's Documentation/bpf/btf.rst: a header, type records one after the other (type
ids count from 1; 0 is void), and a string section that records refer to by offset.
"""

from __future__ import annotations

import struct
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

VMLINUX = Path("/sys/kernel/btf/vmlinux")
_MAGIC = 0xEB9F
_POINTER_SIZE = 8

_INT, _POINTER, _ARRAY, _STRUCT, _UNION, _ENUM = 1, 2, 3, 4, 5, 6
_ENUM64 = 19
_ALIASES = frozenset((8, 9, 10, 11, 18))  # typedef, volatile, const, restrict, type_tag: the next type says the size
_FIXED_TAIL = {_INT: 4, _POINTER: 0, _ARRAY: 12, 7: 0, 12: 0, 14: 4, 16: 0, 17: 4} | dict.fromkeys(_ALIASES, 0)
_TAIL_PER_ITEM = {_STRUCT: 12, _UNION: 12, _ENUM: 8, 13: 8, 15: 12, _ENUM64: 12}


class BtfError(Exception):
    """The data is not BTF, or of a kind that this reader does not know."""


@contextmanager
def _damage() -> Iterator[None]:
    """Turn what damaged data raises, such as references into nowhere or in circles, into BtfError."""
    try:
        yield
    except (struct.error, IndexError, ValueError, RecursionError) as error:
        raise BtfError(f"the kernel's BTF is damaged: {error}") from error


class Member(NamedTuple):
    """A member of a struct; ``size`` is 0 for what has no size of its own here (arrays, bit fields)."""

    offset: int
    size: int


class _Type(NamedTuple):
    name: int
    kind: int
    items: int
    kind_flag: bool
    size_or_type: int
    tail: int


class Btf:
    """The types of one kernel. Reading 5 MB of them takes about 0.3 s."""

    def __init__(self, data: bytes) -> None:
        """Index ``data``, the contents of /sys/kernel/btf/vmlinux."""
        with _damage():
            self._index(data)

    def _index(self, data: bytes) -> None:
        self._order = "<" if data[:2] == _MAGIC.to_bytes(2, "little") else ">"
        header = struct.unpack_from(self._order + "H2xIIIII", data)
        magic, header_size, types_at, types_size, strings_at, strings_size = header
        if magic != _MAGIC:
            raise BtfError("the kernel's BTF does not begin with its magic number")
        if header_size + max(types_at + types_size, strings_at + strings_size) > len(data):
            raise BtfError("the kernel's BTF is cut short")
        self._data = data
        self._strings = header_size + strings_at
        self._types = [_Type(0, 0, 0, False, 0, 0)]  # noqa: FBT003 - void
        self._structs: dict[str, list[int]] = {}
        self._enums: dict[str, int] = {}
        record = struct.Struct(self._order + "III")
        at = header_size + types_at
        end = at + types_size
        while at < end:
            name, info, size_or_type = record.unpack_from(data, at)
            kind, items = info >> 24 & 0x1F, info & 0xFFFF
            at += record.size
            if name and kind == _STRUCT:
                self._structs.setdefault(self._text(name), []).append(len(self._types))
            elif name and kind == _ENUM:
                self._enums.setdefault(self._text(name), len(self._types))
            self._types.append(_Type(name, kind, items, bool(info >> 31), size_or_type, at))
            if kind in _TAIL_PER_ITEM:
                at += _TAIL_PER_ITEM[kind] * items
            elif kind in _FIXED_TAIL:
                at += _FIXED_TAIL[kind]
            else:
                raise BtfError(f"the kernel's BTF has types of kind {kind}, which is newer than this reader")

    def member(self, struct_name: str, name: str) -> Member | None:
        """Find a member, also inside anonymous structs and unions; None where the struct has none of this name."""
        with _damage():
            for type_id in self._structs.get(struct_name, ()):
                found = self._member(self._types[type_id], name, 0)
                if found:
                    return found
        return None

    def constants(self, enum_name: str) -> dict[str, int]:
        """Return an enum's constants by name; empty where there is no such enum."""
        found = self._types[self._enums.get(enum_name, 0)]
        item = struct.Struct(self._order + "Ii")
        with _damage():
            pairs = (item.unpack_from(self._data, found.tail + item.size * i) for i in range(found.items))
            return {self._text(name): value for name, value in pairs}

    def _member(self, owner: _Type, wanted: str, base: int) -> Member | None:
        item = struct.Struct(self._order + "III")
        for i in range(owner.items):
            name, type_id, bits = item.unpack_from(self._data, owner.tail + item.size * i)
            bit_field_size = bits >> 24 if owner.kind_flag else 0
            offset = base + (bits & 0xFFFFFF if owner.kind_flag else bits) // 8
            if name and self._text(name) == wanted:
                return Member(offset, 0 if bit_field_size else self._size(type_id))
            if not name and self._types[type_id].kind in (_STRUCT, _UNION):
                found = self._member(self._types[type_id], wanted, offset)
                if found:
                    return found
        return None

    def _size(self, type_id: int) -> int:
        found = self._types[type_id]
        if found.kind in _ALIASES:
            return self._size(found.size_or_type)
        if found.kind == _POINTER:
            return _POINTER_SIZE
        return found.size_or_type if found.kind in (_INT, _STRUCT, _UNION, _ENUM) else 0

    def _text(self, offset: int) -> str:
        start = self._strings + offset
        return self._data[start : self._data.index(b"\0", start)].decode("ascii", "replace")


def read(path: Path = VMLINUX) -> Btf:
    """Read the running kernel's BTF; raises BtfError with the remedy where there is none."""
    try:
        return Btf(path.read_bytes())
    except OSError as error:
        raise BtfError(
            f"{path}: {error.strerror}; the kernel needs CONFIG_DEBUG_INFO_BTF (Linux 5.4 and later), and a container "
            "needs /sys/kernel/btf of the host"
        ) from error
