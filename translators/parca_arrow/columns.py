"""Arrow columns as plain Python sequences, whatever wraps them.

Agents changed how a column is written between their versions: run-end encoded or not, a dictionary or not, utf8, binary
or a view. What is meant stays the same, so everything here unwraps by type and never asks for one encoding. Columns are
taken whole; nothing visits the rows one by one through pyarrow. The only importer of pyarrow.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no types
import pyarrow.compute as pc  # type: ignore[import-untyped]  # likewise
import pyarrow.ipc  # type: ignore[import-untyped]  # likewise
from pyarrow import types

from translators.parca_arrow import ipc
from translators.parca_arrow.malformed import MalformedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    Array = Any
    """A ``pyarrow.Array``."""

_TEXTS = (types.is_string, types.is_large_string, types.is_string_view)
_BLOBS = (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary)
_LISTS = (types.is_list, types.is_large_list, types.is_list_view, types.is_large_list_view)


class Texts(NamedTuple):
    """A column of strings: row ``i`` has ``words[codes[i]]``, None for null."""

    codes: Sequence[int]
    words: list[str | None]

    def text(self, row: int) -> str:
        """Return the string of a row, null as ""."""
        return self.words[self.codes[row]] or ""

    def at(self, rows: Iterable[int]) -> list[str]:
        """Return the strings of some rows, null as ""."""
        codes, words = self.codes, [word or "" for word in self.words]
        return [words[codes[row]] for row in rows]


class Lists(NamedTuple):
    """A column of lists: entry ``i`` is ``values[starts[i] : starts[i] + sizes[i]]``."""

    starts: Sequence[int]
    sizes: Sequence[int]
    values: Array


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Raise what pyarrow finds wrong as a :class:`MalformedError` that begins with ``what``."""
    try:
        yield
    except MalformedError:
        raise
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
        raise MalformedError(f"{what}: {_first_line(error)}") from None


def read(record: bytes) -> list[dict[str, Array]]:
    """Read the batches of an IPC stream, each as its columns by name; all of it is checked.

    Raises:
        MalformedError: The stream is damaged, contradicts itself, or claims too much.
    """
    ipc.check(record)
    with refusing("no Arrow IPC stream that can be read"):
        with pa.ipc.open_stream(record) as reader:
            batches = list(reader)
        for batch in batches:
            batch.validate(full=True)
    names = batches[0].schema.names if batches else []
    if len(set(names)) < len(names):
        raise MalformedError("a column stands there more than once")
    return [dict(zip(names, batch.columns, strict=True)) for batch in batches]


def write(name: str, values: Sequence[bytes]) -> bytes:
    """Write an IPC stream of one column of bytes, marked as schema v1 as Parca does."""
    schema = pa.schema([pa.field(name, pa.binary())], {"parca_write_schema_version": "v1"})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(pa.record_batch([pa.array(values, pa.binary())], schema=schema))
    data: bytes = sink.getvalue().to_pybytes()
    return data


def texts(array: Array) -> Texts:
    """Return a column of strings; bytes that are no UTF-8 are replaced."""
    array = _unrun(array)
    if types.is_dictionary(array.type):
        return Texts(_indices(array), [*_strings(array.dictionary, _TEXTS), None])
    return Texts(range(len(array)), [*_strings(array, _TEXTS), None])


def blobs(array: Array) -> list[bytes | None]:
    """Return a column of bytes."""
    return _strings(array, _BLOBS)


def numbers(array: Array, null: int = 0) -> Sequence[int]:
    """Return a column of integers, signed or unsigned as they are; timestamps in nanoseconds."""
    array = _unrun(array)
    kind = array.type
    if types.is_dictionary(kind):
        words = [*numbers(array.dictionary, null), null]
        return [words[index] for index in _indices(array)]
    if types.is_timestamp(kind):
        array = array.cast(pa.timestamp("ns", kind.tz)).cast(pa.int64())
    elif types.is_unsigned_integer(kind):
        array = array.cast(pa.uint64())
    elif types.is_integer(kind):
        array = array.cast(pa.int64())
    elif types.is_null(kind):
        return [null] * len(array)
    else:
        raise MalformedError(f"a column of integers is {_shown(kind)}")
    return _words(array.fill_null(null) if array.null_count else array)


def lists(array: Array) -> Lists:
    """Return a column of lists; null is an empty one."""
    array = _storage(array)
    if not any(is_kind(array.type) for is_kind in _LISTS):
        raise MalformedError(f"a column of lists is {_shown(array.type)}")
    sizes = pc.list_value_length(array)
    return Lists(numbers(array.offsets), numbers(sizes), array.values)


def children(array: Array) -> dict[str, Array]:
    """Return the columns of a column of structs, by name.

    Raises:
        MalformedError: It is none, or an entry of it is null.
    """
    array = _storage(array)
    if not types.is_struct(array.type):
        raise MalformedError(f"a column of structs is {_shown(array.type)}")
    if array.null_count:
        raise MalformedError("an entry of a column of structs is null")
    names = [field.name for field in array.type]
    if len(set(names)) < len(names):
        raise MalformedError("a column stands there more than once")
    return {name: array.field(index) for index, name in enumerate(names)}


def grouped(columns: Sequence[Sequence[int]], size: int) -> tuple[Sequence[int], dict[int, int]]:
    """Number the distinct rows of some columns: the number of each row, and by number the first row that has it."""
    groups = pa.nulls(size, pa.int64()).fill_null(0)
    for column in columns:
        codes = pc.dictionary_encode(_array(column)).indices.cast(pa.int64())
        # Both are below 2**22, so that no product leaves 64 bits.
        groups = pc.add(pc.multiply(groups, pc.add(pc.max(codes), 1)), codes)
        groups = pc.dictionary_encode(groups).indices.cast(pa.int64())
    of_row = _words(groups)
    return of_row, dict(zip(of_row[::-1], range(size - 1, -1, -1), strict=True))


def encoded(array: Array) -> tuple[Sequence[int], Array]:
    """Return a column as indices, -1 for null, and the distinct values that they address.

    A column without a dictionary is its own one.
    """
    array = _storage(array)
    if types.is_dictionary(array.type):
        return _indices(array), array.dictionary
    return range(len(array)), array


def _strings(array: Array, kinds: tuple[Any, ...]) -> list[Any]:
    array = _unrun(array)
    kind = array.type
    if types.is_dictionary(kind):
        words = [*_strings(array.dictionary, kinds), None]
        return [words[index] for index in _indices(array)]
    if any(is_kind(kind) for is_kind in kinds) or types.is_null(kind):
        same: list[Any] = array.to_pylist()
        return same
    if any(is_kind(kind) for is_kind in _TEXTS):
        return [None if text is None else text.encode() for text in array.to_pylist()]
    if any(is_kind(kind) for is_kind in _BLOBS):
        return [None if text is None else text.decode(errors="replace") for text in array.to_pylist()]
    raise MalformedError(f"a column of {'strings' if kinds is _TEXTS else 'bytes'} is {_shown(kind)}")


def _storage(array: Array) -> Array:
    while isinstance(array, pa.ExtensionArray):
        array = array.storage
    return array


def _unrun(array: Array) -> Array:
    """The rows of a run-end encoded column, as a dictionary of its runs where it is none yet."""
    array = _storage(array)
    if not types.is_run_end_encoded(array.type):
        return array
    values = _storage(array.values)
    indices, words = (
        (values.indices, values.dictionary)
        if types.is_dictionary(values.type)
        else (pa.array(range(len(values)), pa.int32()), values)
    )
    rows = pc.run_end_decode(pa.RunEndEncodedArray.from_arrays(array.run_ends, indices))
    return pa.DictionaryArray.from_arrays(rows, words)


def _indices(array: Array) -> Sequence[int]:
    indices = array.indices.cast(pa.int64())
    return _words(indices.fill_null(-1) if indices.null_count else indices)


def _words(array: Array) -> memoryview:
    """The values of an array of 64-bit integers."""
    code: Literal["Q", "q"] = "Q" if types.is_unsigned_integer(array.type) else "q"
    if not len(array):
        return memoryview(b"").cast(code)
    return memoryview(array.buffers()[1]).cast("B").cast(code)[array.offset : array.offset + len(array)]


def _array(words: Sequence[int]) -> Array:
    if isinstance(words, memoryview) and len(words):
        kind = pa.uint64() if words.format == "Q" else pa.int64()
        return pa.Array.from_buffers(kind, len(words), [None, pa.py_buffer(words)])
    return pa.array(words, pa.int64())


def _shown(kind: Any) -> str:
    return str(kind)[:80]


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200] or type(error).__name__
