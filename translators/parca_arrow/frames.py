"""Frames to entries of the OTLP dictionary: locations with their lines, functions and mappings.

``reporter/arrow_v2.go`` and ``reporter/arrow.go`` of the agent write them as structs. A frame of machine code has a file,
its build id and an address, and no lines: whoever has the debug information finds its name. All others have one line.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from translators.parca_arrow import columns
from translators.parca_arrow.lines import Lines
from translators.parca_arrow.malformed import TooLargeError
from translators.profiles import build_id
from translators.profiles.dictionary import indices, number
from translators.profiles.frame_type import FRAME_TYPE
from translators.profiles.packed import at, varints
from translators.wire import field

if TYPE_CHECKING:
    from collections.abc import Sequence

    from translators.parca_arrow.columns import Array
    from translators.profiles.dictionary import Dictionary

_FILE_ID: Final = re.compile(r"[0-9a-f]{32}")
"""What the agent writes where an executable has no build id: its own hash of the file, which is OTel's ``htlhash``."""
MAX_LINES: Final = 1 << 21
"""Of all frames of a batch; lists of a view may overlap, so that a small batch could claim any number."""


class Frames:
    """A column of frames; :meth:`intern` enters those that are used into the dictionary."""

    def __init__(self, array: Array, dictionary: Dictionary, *, name_natives: bool) -> None:
        """Take the columns apart; ``name_natives`` gives frames without a name their file and address as one."""
        parts = columns.children(array)
        self._size = len(array)
        self._dictionary = dictionary
        self._name_natives = name_natives
        self._addresses = self._numbers(parts, "address")
        self._types = self._texts(parts, "frame_type")
        self._files, self._build_ids = self._texts(parts, "mapping_file"), self._texts(parts, "mapping_build_id")
        self._ranges = [
            columns.numbers(parts[name]) if (name := f"mapping_{each}") in parts else None
            for each in ("start", "limit", "offset")
        ]
        self._lines = columns.lists(parts["lines"]) if "lines" in parts else None
        self.unnamed = 0
        """Of the frames that were interned, those without a name in what came."""

    def intern(self, used: Sequence[int]) -> dict[int, bytes]:
        """Enter the frames at these positions; returns the index of each as a varint."""
        codes = [self._files.codes, self._build_ids.codes, *(each for each in self._ranges if each is not None)]
        of_frame, firsts = columns.grouped(codes, self._size)
        heads = {group: number(1, self._mapping(firsts[group])) for group in sorted(set(at(of_frame, used)))}
        type_codes, type_words = self._types
        tails = {code: self._frame_type(type_words[code]) for code in sorted(set(at(type_codes, used)))}
        entries = [
            heads[group] + (b"" if address == b"\0" else b"\x10" + address) + line + tails[code]
            for group, address, line, code in zip(
                at(of_frame, used),
                varints(at(self._addresses, used)),
                self._encoded_lines(used),
                at(type_codes, used),
                strict=True,
            )
        ]
        return dict(zip(used, varints(self._dictionary.locations.extend(entries)), strict=True))

    def _encoded_lines(self, used: Sequence[int]) -> list[bytes]:
        """The fields ``lines`` of frames."""
        if self._lines is None:
            return [self._without_lines(position) for position in used]
        starts, sizes = at(self._lines.starts, used), at(self._lines.sizes, used)
        if sum(sizes) > MAX_LINES:
            raise TooLargeError(f"the frames have more than {MAX_LINES} lines")
        spans = list(zip(starts, sizes, strict=True))
        wanted = {start for start, size in spans if size}
        wanted.update(*(range(start, start + size) for start, size in spans if size > 1))
        encoded = Lines(self._lines.values, self._dictionary).intern(sorted(wanted))
        return [
            (encoded[start] if size == 1 else b"".join([encoded[line] for line in range(start, start + size)]))
            if size
            else self._without_lines(position)
            for position, (start, size) in zip(used, spans, strict=True)
        ]

    def _without_lines(self, position: int) -> bytes:
        self.unnamed += 1
        if not self._name_natives:
            return b""
        file, address = self._files.text(position), self._addresses[position]
        name = self._dictionary.string(f"{file}+{address:#x}" if file else f"{address:#x}")
        return field(3, number(1, self._dictionary.function(name, 0, 0, 0)))

    def _mapping(self, position: int) -> int:
        """The index of a frame's mapping; interpreters' frames have none."""
        file, given = self._files.text(position), self._build_ids.text(position)
        start, limit, offset = (column[position] if column is not None else 0 for column in self._ranges)
        if not (file or given or start or limit or offset):
            return 0
        attributes = [self._dictionary.text_attribute(*pair) for pair in _attributes_of(given).items()]
        return self._dictionary.mapping(start, limit, offset, self._dictionary.string(file), attributes)

    def _frame_type(self, frame_type: str | None) -> bytes:
        return indices(4, [self._dictionary.text_attribute(FRAME_TYPE, frame_type)]) if frame_type else b""

    def _texts(self, parts: dict[str, Array], name: str) -> columns.Texts:
        return columns.texts(parts[name]) if name in parts else columns.Texts([-1] * self._size, [None])

    def _numbers(self, parts: dict[str, Array], name: str) -> Sequence[int]:
        return columns.numbers(parts[name]) if name in parts else [0] * self._size


def _attributes_of(text: str) -> dict[str, str]:
    """The attributes of a build id. 16 bytes are the agent's own hash: GNU ids of that size, md5, are rare."""
    return {build_id.HTLHASH: text} if _FILE_ID.fullmatch(text) else build_id.classify(text)
