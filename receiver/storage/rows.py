"""What is stored, and what is asked of the storage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Row(NamedTuple):
    """A batch as it is stored."""

    signal: str
    source: str
    items: int
    newest_event_ns: int
    """Unix time in nanoseconds, 0 where unknown; likewise ``arrived_ns``."""
    arrived_ns: int
    parts: bytes
    """JSON, ``[[source, items, newest_event_ns], ...]``."""
    data: bytes


class Numbered(NamedTuple):
    """A row and its id; ids grow in the order in which rows were stored."""

    id: int
    row: Row
    is_intact: bool
    """Whether the data has the checksum that was stored with it."""


class Backlog(NamedTuple):
    """What one source has in the queue of one signal when the database is opened."""

    signal: str
    source: str
    rows: int
    items: int
    size_bytes: int
    newest_event_ns: int


@dataclass(frozen=True, slots=True)
class Group:
    """What is committed together. New rows may be refused for want of space; the rest makes space or needs little."""

    appends: Sequence[Sequence[Row]] = ()
    """Each is stored whole or not at all."""
    deletions: Sequence[int] = ()
    delivered: dict[str, int] = field(default_factory=dict)
    """Time of the newest event by source, Unix nanoseconds."""
    checkpoints: dict[str, bytes] = field(default_factory=dict)


class Committed(NamedTuple):
    """What became of a group."""

    first_ids: list[int | None]
    """Of each append; its rows are numbered from there. None where it was refused."""
    rest: bool
    """Whether everything but the appends is stored."""
    problem: str
    """Why something is not; empty when all is well."""
    is_log_long: bool
    """Whether it is time to tidy up."""
