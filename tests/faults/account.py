"""What became of every record: each has an id of its own, which is found again in the bytes of whoever had it.

A sender writes what it sent and what was acknowledged to a ledger of its own. Delivered is what lies in the files of the
next stage. *Lost* is what was acknowledged, is not delivered and not in ``dead_letter`` once the queue has been emptied.
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_ID = re.compile(rb"fault\.[a-z]+[0-9]*\.[0-9]{9}")


def record_id(sender: str, number: int) -> str:
    """The ``log.record.uid`` of one record."""
    return f"fault.{sender}.{number:09d}"


class Ids:
    """The ids in a file that others append to, in any format that does not compress."""

    def __init__(self, path: Path) -> None:
        """Read ``path``, once it is there."""
        self._path = path
        self._position = 0
        self._seen: set[bytes] = set()
        self._total = 0

    def all(self) -> set[bytes]:
        """Every id so far."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._position)
                data = file.read()
            end = 0
            for match in _ID.finditer(data):
                self._seen.add(match[0])
                self._total += 1
                end = match.end()
            self._position += end
        return self._seen

    @property
    def duplicated(self) -> int:
        """How many more ids were read than there are."""
        return self._total - len(self._seen)


class Ledger:
    """What a sender says of its records: lines of a verb, the sender's name, the first number and the last."""

    def __init__(self, path: Path) -> None:
        """Read ``path``, once it is there."""
        self._path = path
        self._position = 0
        self._ids: dict[bytes, set[bytes]] = {b"sent": set(), b"acknowledged": set(), b"refused": set()}

    @property
    def sent(self) -> set[bytes]:
        """What it has sent, once or more often."""
        return self._read()[b"sent"]

    @property
    def acknowledged(self) -> set[bytes]:
        """What was answered with success."""
        return self._read()[b"acknowledged"]

    @property
    def refused(self) -> set[bytes]:
        """What was answered so that an OTLP client must not send it again."""
        return self._read()[b"refused"]

    def _read(self) -> dict[bytes, set[bytes]]:
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._position)
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            self._position += len(whole)
            for line in whole.splitlines():
                verb, name, first, last = line.split()
                numbers = range(int(first), int(last) + 1)
                self._ids[verb].update(record_id(name.decode(), number).encode() for number in numbers)
        return self._ids


def queued(directory: Path) -> set[bytes]:
    """The ids in the queue of an otelbee that does not run."""
    path = directory / "otelbee.sqlite3"
    with closing(sqlite3.connect(path)) as database:
        return {match[0] for (data,) in database.execute("SELECT data FROM batch") for match in _ID.finditer(data)}


class Row(NamedTuple):
    """One line of the table."""

    fault: str
    sent: int
    acknowledged: int
    delivered: int
    duplicated: int
    lost: int
    dead_letter: int
    peak_mib: float
    """Of otelbee; of the Collector where it is the one that must not be felled."""
    limit_mib: int
    seconds: float


ROW = "row of the table of faults"
"""The property of a test's report that holds its row, as a tuple: reports pass between processes."""


def lines(rows: Iterable[Row]) -> list[str]:
    """The table as text."""
    head = ("fault", "sent", "acknowl.", "delivered", "dupl.", "lost", "dead l.", "peak MiB", "of", "s")
    cells = [
        head,
        *(
            (row.fault, *(f"{n:,}" for n in row[1:7]), f"{row.peak_mib:.0f}", str(row.limit_mib), f"{row.seconds:.0f}")
            for row in rows
        ),
    ]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    return [
        "  ".join(
            [line[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(line[1:], widths[1:], strict=True))]
        )
        for line in cells
    ]
