"""Stack traces: lossless lists of frames, and the text that the conventions ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from translators import attributes as key
from translators import wire
from translators.pb import tetragon_pb2 as full
from translators.tetragon.values import message_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from translators.tetragon.redaction import Redaction

_KERNEL_STACK = wire.Key("tetragon.kernel_stack")
_USER_STACK = wire.Key("tetragon.user_stack")
_STACKTRACE = wire.Key(key.CODE_STACKTRACE)


def stack_parts(kernel: Iterable[bytes], user: Iterable[bytes], redaction: Redaction) -> Iterator[bytes]:
    """Encode both stacks, innermost frame first. Raises DecodeError."""
    lines: list[str] = []
    for name, entries in ((_KERNEL_STACK, kernel), (_USER_STACK, user)):
        frames = [full.StackTraceEntry.FromString(entry) for entry in entries]
        if frames:
            yield name.any(wire.any_array([message_value(frame, redaction) for frame in frames]))
            lines += [_line(frame, redaction) for frame in frames]
    if lines:
        yield _STACKTRACE.text("\n".join(lines))


def _line(frame: full.StackTraceEntry, redaction: Redaction) -> str:
    address = f"{frame.address:#x}: " if frame.address else ""
    module = f" ({redaction.text(frame.module)})" if frame.module else ""
    return f"{address}{redaction.text(frame.symbol)}+{frame.offset:#x}{module}"
