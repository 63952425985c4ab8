"""Texts for Tetragon's numbers: enum values, instants, file modes."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING

from translators.pb import tetragon_pb2 as full

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.descriptor import EnumDescriptor

_ENUMS = full.DESCRIPTOR.enum_types_by_name
_LAST_NS = (1 << 64) - 1
_SECOND_NS = 1_000_000_000


def enum_name(descriptor: EnumDescriptor, number: int) -> str:
    """Return the name of an enum value; the number as text where a newer agent uses one that is not known here."""
    value = descriptor.values_by_number.get(number)
    return value.name if value is not None else str(number)


def capabilities(numbers: Iterable[int]) -> list[str]:
    """Name capabilities as Linux does; Tetragon's schema lacks the prefix in ``DAC_OVERRIDE``."""
    names = (enum_name(_ENUMS["CapabilitiesType"], number) for number in numbers)
    return ["CAP_DAC_OVERRIDE" if name == "DAC_OVERRIDE" else name for name in names]


def secure_bits(numbers: Iterable[int]) -> list[str]:
    """Name secure bits as Tetragon does."""
    return [enum_name(_ENUMS["SecureBitsType"], number) for number in numbers]


def privilege_changes(numbers: Iterable[int]) -> list[str]:
    """Name the reasons for raised privileges as Tetragon does."""
    return [enum_name(_ENUMS["ProcessPrivilegesChanged"], number) for number in numbers]


@lru_cache(maxsize=64)
def action(number: int) -> str:
    """Name a policy's action: ``post``, ``sigkill``, ``override``."""
    return enum_name(_ENUMS["KprobeAction"], number).removeprefix("KPROBE_ACTION_").lower()


def throttle_type(number: int) -> str:
    """Name a throttle's type: ``start``, ``stop``."""
    return enum_name(_ENUMS["ThrottleType"], number).removeprefix("THROTTLE_").lower()


@lru_cache(maxsize=256)
def _second(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]
    except (ValueError, OverflowError, OSError):
        # Outside of the years 1 to 9999 there is no such text; the number of seconds still tells what was sent.
        return str(seconds)


def instant(seconds: int, nanos: int) -> str:
    """Write an instant in RFC 3339 UTC with 0, 3, 6 or 9 fraction digits, as protobuf's JSON mapping does."""
    if nanos % 1_000:
        return f"{_second(seconds)}.{nanos:09d}Z"
    if nanos == 0:
        return _second(seconds) + "Z"
    if nanos % 1_000_000 == 0:
        return f"{_second(seconds)}.{nanos // 1_000_000:03d}Z"
    return f"{_second(seconds)}.{nanos // 1_000:06d}Z"


def unix_ns(seconds: int, nanos: int) -> int:
    """Return Unix nanoseconds, clamped to what OTLP's fixed64 can say: 0 to 2**64 - 1."""
    time_ns = seconds * _SECOND_NS + nanos
    return time_ns if 0 <= time_ns <= _LAST_NS else 0 if time_ns < 0 else _LAST_NS


_MODE_BITS = tuple(zip("rwxrwxrwx", (0o400, 0o200, 0o100, 0o40, 0o20, 0o10, 0o4, 0o2, 0o1), strict=True))
_SPECIAL = {3: ("s", "S", 0o4000), 6: ("s", "S", 0o2000), 9: ("t", "T", 0o1000)}


def file_mode(permission: str) -> str:
    """Turn the mode string of ``ls -l`` into octal: ``-rw-r-----`` is ``0640``; "" where it is none."""
    if len(permission) != 1 + len(_MODE_BITS):
        return ""
    mode = 0
    for position, (letter, (expected, bit)) in enumerate(zip(permission[1:], _MODE_BITS, strict=True), 1):
        with_x, without_x, special = _SPECIAL.get(position, ("", "", 0))
        if letter == expected:
            mode |= bit
        elif letter == with_x:
            mode |= bit | special
        elif letter == without_x:
            mode |= special
        elif letter != "-":
            return ""
    return f"{mode:04o}"
