"""The exchange of ``Write``, schema v1: samples first, then the stacks that the server asks for.

``reporter/parca_reporter.go`` of the agent: it takes an answer whose schema has exactly one field, ``stacktrace_id`` of
type binary. Both parts of an exchange are one record for the translator: each with its length in 4 bytes, big-endian,
before it, as in the agent's own files of offline mode (``reporter/offline.go``, after the header).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from translators.parca_arrow.malformed import MalformedError

_LENGTH_BYTES: Final = 4


class Wanted(NamedTuple):
    """What a server must know to go on."""

    stacks: int
    """How many it asks for; 0 where the samples say all themselves."""
    request: bytes
    """An IPC stream of their ids, empty for none."""


def wanted(samples: bytes) -> Wanted:
    """Return which stacks the first record of an exchange lacks.

    Raises:
        MalformedError: It is no IPC stream, or has no stacks at all.
    """
    from translators.parca_arrow import columns  # noqa: PLC0415 - pyarrow is only loaded where a record comes

    ids: dict[bytes, None] = {}
    with columns.refusing("the samples cannot be read"):
        for batch in columns.read(samples):
            if "stacktrace" in batch:
                continue  # schema v2
            if "stacktrace_id" not in batch:
                raise MalformedError("the column stacktrace_id is missing")
            ids.update((each, None) for each in columns.blobs(batch["stacktrace_id"]) if each is not None)
        return Wanted(len(ids), columns.write("stacktrace_id", list(ids)) if ids else b"")


def framed(samples: bytes, locations: bytes) -> bytes:
    """Join both parts of an exchange to one record of kind ``arrow_v1``."""
    return b"".join(len(part).to_bytes(_LENGTH_BYTES, "big") + part for part in (samples, locations))


def parts(record: bytes) -> tuple[bytes, bytes]:
    """Take a record of kind ``arrow_v1`` apart.

    Raises:
        MalformedError: A length is wrong.
    """
    found: list[bytes] = []
    position = 0
    while position < len(record):
        start = position + _LENGTH_BYTES
        position = start + int.from_bytes(record[position:start], "big")
        found.append(record[start:position])
    if position != len(record) or len(found) != 2:  # noqa: PLR2004 - samples and locations
        raise MalformedError("a record of schema v1 is samples and locations, each with its length before it")
    return found[0], found[1]
