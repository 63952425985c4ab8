"""Many integers at once: what a loop over ``varint`` would cost too much for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from opentelemetry.proto.profiles.v1development.profiles_pb2 import Sample

from translators.wire import INT64_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence

_VARINT: Final = re.compile(rb"[\x80-\xff]*[\x00-\x7f]")


def at(values: Sequence[int], positions: Sequence[int]) -> list[int]:
    """Return the values at some positions."""
    values = list(values)
    return [values[position] for position in positions]


def varints(values: Sequence[int]) -> list[bytes]:
    """Encode unsigned integers below 2**64: protobuf writes all as a packed field, which falls apart into varints."""
    if not any(values):
        return [b"\0"] * len(values)
    signed = values if max(values) <= INT64_MAX else [value - (value >> 63 << 64) for value in values]
    _, _, *found = _VARINT.findall(Sample(values=signed).SerializeToString())  # behind tag and length
    return found
