"""The statements of a commit, as few as there can be.

Each call into SQLite lets other threads run, and a busy event loop gives the interpreter back only after 5 ms
(``sys.getswitchinterval``): a commit of one statement waits for that once or twice, one of a statement a row for ever.
"""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from receiver.storage.rows import Group

COLUMNS = "id, signal, source, items, newest_event_ns, arrived_ns, parts, data, crc32"
_MAX_ROWS = 1000
"""In one statement: SQLite takes up to 32,766 values."""

Value = int | str | bytes
Statement = tuple[str, tuple[Value, ...]]


def of(group: Group, rows: Sequence[tuple[Value, ...]]) -> list[Statement]:
    """All statements of a group whose appends are ``rows`` in the order of :data:`COLUMNS`; at most one needs no BEGIN."""
    return [
        *(("DELETE FROM batch WHERE id BETWEEN ? AND ?", ends) for ends in _ranges(group.deletions)),
        *insert(rows),
        *_values(
            "INSERT INTO delivered",
            group.delivered.items(),
            "ON CONFLICT DO UPDATE SET event_ns = max(event_ns, excluded.event_ns)",
        ),
        *_values("INSERT OR REPLACE INTO checkpoint", group.checkpoints.items()),
    ]


def insert(rows: Iterable[tuple[Value, ...]]) -> Iterator[Statement]:
    """Store rows, numbered as they are."""
    return _values(f"INSERT INTO batch ({COLUMNS})", rows)


def _values(head: str, rows: Iterable[tuple[Value, ...]], tail: str = "") -> Iterator[Statement]:
    left = iter(rows)
    while chunk := list(islice(left, _MAX_ROWS)):
        one = f"({', '.join('?' * len(chunk[0]))})"
        yield f"{head} VALUES {', '.join([one] * len(chunk))} {tail}", tuple(chain.from_iterable(chunk))


def _ranges(ids: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The first and the last of each run of consecutive ids."""
    first = last = None
    for one in sorted(ids):
        if first is None or last is None:
            first = one
        elif one != last + 1:
            yield first, last
            first = one
        last = one
    if first is not None and last is not None:
        yield first, last
