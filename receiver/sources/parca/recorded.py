"""A file of Parca's data: one Arrow IPC stream of schema v2, as ``WriteArrow`` carries it."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from receiver.errors import RecordingError
from receiver.recording import MAX_RECORD_BYTES, Recorded

if TYPE_CHECKING:
    from collections.abc import Iterator


def read_recorded(stream: BinaryIO) -> Iterator[Recorded]:
    """Read the one record of a file.

    Raises:
        RecordingError: It is larger than a record may be.
    """
    data = stream.read(MAX_RECORD_BYTES + 1)
    if len(data) > MAX_RECORD_BYTES:
        raise RecordingError(f"the file has more than {MAX_RECORD_BYTES} bytes; give one Arrow stream at a time")
    if data:
        yield Recorded("arrow_v2", 1, data)
