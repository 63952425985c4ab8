"""Lines of frames and the functions they are in, to entries of the OTLP dictionary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from translators.parca_arrow import columns
from translators.parca_arrow.malformed import MalformedError
from translators.profiles.packed import at, varints
from translators.wire import varint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from translators.parca_arrow.columns import Array
    from translators.profiles.dictionary import Dictionary


_ZERO = b"\0"


class Lines:
    """The lines of a column of frames; :meth:`intern` encodes those that are used."""

    def __init__(self, array: Array, dictionary: Dictionary) -> None:
        """Take the columns apart."""
        parts = columns.children(array)
        self._lines = columns.numbers(parts["line"]) if "line" in parts else [0] * len(array)
        self._columns = columns.numbers(parts["column"]) if "column" in parts else [0] * len(array)
        if "function" in parts:  # v2
            self._of_line, functions = columns.encoded(parts["function"])
            self._functions = _Functions(columns.children(functions), len(functions), "", dictionary)
        else:  # v1
            self._of_line = range(len(array))
            self._functions = _Functions(parts, len(array), "function_", dictionary)

    def intern(self, used: Sequence[int]) -> dict[int, bytes]:
        """Enter the functions of these lines; returns the field ``lines`` of each."""
        of_line = at(self._of_line, used)
        functions = sorted(set(of_line) - {-1})
        heads = {-1: b"", **dict(zip(functions, self._functions.intern(functions), strict=True))}
        fields = [
            heads[function] + line + column
            for function, line, column in zip(
                of_line,
                _present(b"\x10", varints(at(self._lines, used))),
                _present(b"\x18", varints(at(self._columns, used))),
                strict=True,
            )
        ]
        return {position: b"\x1a" + varint(len(each)) + each for position, each in zip(used, fields, strict=True)}


class _Functions:
    """The functions of a struct's columns. v2 has only the system name; v1 only the name, but for CUDA."""

    def __init__(self, parts: dict[str, Array], size: int, prefix: str, dictionary: Dictionary) -> None:
        if prefix + "name" not in parts and prefix + "system_name" not in parts:
            raise MalformedError("the lines have neither the column function.system_name nor function_name")
        self._dictionary = dictionary
        nothing = columns.Texts([-1] * size, [None])
        self._names, self._system_names, self._files = (
            columns.texts(parts[prefix + name]) if prefix + name in parts else nothing
            for name in ("name", "system_name", "filename")
        )
        self._starts = columns.numbers(parts[prefix + "start_line"]) if prefix + "start_line" in parts else [0] * size

    def intern(self, used: Sequence[int]) -> list[bytes]:
        """Enter functions; returns the field ``function_index`` of each."""
        system_names = self._system_names.at(used)
        # Where there is only one name, v2's, it is both.
        names = [given or name for given, name in zip(self._names.at(used), system_names, strict=True)]
        files = self._files.at(used)
        fields = [
            _present(tag, strings)
            for tag, strings in (
                (b"\x08", self._strings(names)),
                (b"\x10", self._strings(system_names)),
                (b"\x18", self._strings(files)),
            )
        ]
        starts = _present(b"\x20", varints(at(self._starts, used)))
        entries = [
            named + start if named else b""
            for named, start in zip(map(b"".join, zip(*fields, strict=True)), starts, strict=True)
        ]
        return _present(b"\x08", varints(self._dictionary.functions.extend(entries)))

    def _strings(self, texts: Sequence[str]) -> list[bytes]:
        return varints(self._dictionary.strings.extend(map(str.encode, texts)))


def _present(tag: bytes, values: Sequence[bytes]) -> list[bytes]:
    """Encode fields of one number each; none for 0, the default."""
    return [tag + value if value != _ZERO else b"" for value in values]
