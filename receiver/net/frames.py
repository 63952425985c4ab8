"""HTTP/2 frames (RFC 9113, sections 4 and 6), as the client of a single call sees them: bytes to values and back.

Pure: no socket, no clock, no asyncio. Every function that reads a payload raises :class:`Violation` where the RFC says
that the connection is broken.
"""

from __future__ import annotations

import enum
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_BYTES: Final = 9
"""Of every frame: length (24 bits), type (8), flags (8), stream (31, after a reserved bit)."""
MAX_PAYLOAD_BYTES: Final = 16_384
"""SETTINGS_MAX_FRAME_SIZE's default and minimum: valid in both directions without being negotiated."""
INITIAL_WINDOW_BYTES: Final = 65_535
"""Of a connection, and of a stream until SETTINGS_INITIAL_WINDOW_SIZE says otherwise."""
MAX_WINDOW_BYTES: Final = (1 << 31) - 1
CALL_STREAM: Final = 1
"""The first stream that a client may open; a connection with one call has no other."""

_HEADER: Final = struct.Struct(">IBI")
_SETTING: Final = struct.Struct(">HI")


class Type(enum.IntEnum):
    """Frame types of RFC 9113, section 6; a type that is not here must be ignored."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Flag(enum.IntFlag):
    """Frame flags; their meaning depends on the type."""

    ACK = 1
    END_STREAM = 1
    END_HEADERS = 4
    PADDED = 8
    PRIORITY = 32


class Setting(enum.IntEnum):
    """Settings of RFC 9113, section 6.5.2, that this client sends or obeys."""

    ENABLE_PUSH = 2
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class ErrorCode(enum.IntEnum):
    """Why a stream or connection ends (RFC 9113, section 7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


_ERROR_NAMES: Final = {code.value: code.name for code in ErrorCode}


def error_name(code: int) -> str:
    """Name an error code; unknown ones, which a peer may send, by their number."""
    return _ERROR_NAMES.get(code, f"error code {code}")


class Violation(Exception):
    """The server broke the protocol, or a limit of ours; the connection is of no more use.

    Args:
        text: What the server did.
        code: What to tell the server, in GOAWAY; CANCEL ends only the stream, where HTTP/2 itself was kept.
        status: The gRPC status of the call that ends by it.
    """

    def __init__(self, text: str, code: ErrorCode = ErrorCode.PROTOCOL_ERROR, status: str = "INTERNAL") -> None:
        """Keep all three."""
        super().__init__(text)
        self.text = text
        self.code = code
        self.status = status


class Headers(NamedTuple):
    """The response's header block, or its trailers."""

    fields: Mapping[str, str]
    ended: bool
    """The stream ended with it."""


class Ended(NamedTuple):
    """The stream ended with a DATA frame, without trailers."""


class Settings(NamedTuple):
    """The server's settings, in order; to be acknowledged."""

    values: tuple[tuple[int, int], ...]


class Ping(NamedTuple):
    """To be answered with the same eight bytes."""

    opaque: bytes


class WindowUpdate(NamedTuple):
    """The server takes ``increment`` more bytes; ``stream`` 0 is the connection."""

    stream: int
    increment: int


class Reset(NamedTuple):
    """The server ended the call's stream at once."""

    code: int


class GoAway(NamedTuple):
    """The server opens no further streams, and knows none above ``last_stream``."""

    last_stream: int
    code: int
    debug: bytes


class Broken(NamedTuple):
    """The last event of a connection that broke the protocol; see :class:`Violation`."""

    violation: Violation


Event = Headers | Ended | Settings | Ping | WindowUpdate | Reset | GoAway | Broken


def read_header(data: bytes, at: int) -> tuple[int, int, int, int]:
    """Read the nine bytes at ``at``: length, type, flags, stream."""
    length_and_type, flags, stream = _HEADER.unpack_from(data, at)
    return length_and_type >> 8, length_and_type & 0xFF, flags, stream & 0x7FFF_FFFF


def frame(kind: Type, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Serialise one frame; ``payload`` must not exceed what the peer takes."""
    return _HEADER.pack(len(payload) << 8 | kind, flags, stream) + payload


def settings_frame(values: Iterable[tuple[int, int]]) -> bytes:
    """Serialise our settings."""
    return frame(Type.SETTINGS, 0, 0, b"".join(_SETTING.pack(name, value) for name, value in values))


def window_update_frame(stream: int, increment: int) -> bytes:
    """Grant the server ``increment`` more bytes of DATA on ``stream`` (0: the connection)."""
    return frame(Type.WINDOW_UPDATE, 0, stream, increment.to_bytes(4, "big"))


def reset_frame(code: ErrorCode) -> bytes:
    """End the call's stream."""
    return frame(Type.RST_STREAM, 0, CALL_STREAM, code.to_bytes(4, "big"))


def goaway_frame(code: ErrorCode, debug: bytes) -> bytes:
    """End the connection; the server has opened no stream, so the last one is 0."""
    return frame(Type.GOAWAY, 0, 0, bytes(4) + code.to_bytes(4, "big") + debug)


def headers_frames(block: bytes) -> bytes:
    """Open the call's stream with a header block, over as many frames as it takes."""
    parts = [block[at : at + MAX_PAYLOAD_BYTES] for at in range(0, len(block), MAX_PAYLOAD_BYTES)]
    last = len(parts) - 1
    return b"".join(
        frame(Type.CONTINUATION if n else Type.HEADERS, Flag.END_HEADERS if n == last else 0, CALL_STREAM, part)
        for n, part in enumerate(parts)
    )


def read_settings(flags: int, stream: int, payload: bytes) -> Settings | None:
    """Read SETTINGS; None for the acknowledgement of ours."""
    if stream:
        raise Violation(f"SETTINGS on stream {stream}")
    if flags & Flag.ACK:
        if payload:
            raise Violation("a SETTINGS acknowledgement with a payload", ErrorCode.FRAME_SIZE_ERROR)
        return None
    if len(payload) % _SETTING.size:
        raise Violation(f"SETTINGS of {len(payload)} bytes, not a multiple of 6", ErrorCode.FRAME_SIZE_ERROR)
    values = tuple((name, value) for name, value in _SETTING.iter_unpack(payload))
    for name, value in values:
        if name == Setting.INITIAL_WINDOW_SIZE and value > MAX_WINDOW_BYTES:
            raise Violation(f"SETTINGS_INITIAL_WINDOW_SIZE {value}", ErrorCode.FLOW_CONTROL_ERROR)
        if name == Setting.MAX_FRAME_SIZE and not MAX_PAYLOAD_BYTES <= value < 1 << 24:
            raise Violation(f"SETTINGS_MAX_FRAME_SIZE {value}")
        if name == Setting.ENABLE_PUSH and value:
            raise Violation(f"SETTINGS_ENABLE_PUSH {value} from a server")
    return Settings(values)


def read_ping(flags: int, stream: int, payload: bytes) -> Ping | None:
    """Read PING; None for an acknowledgement, though none is ever due: this client sends no PING."""
    if stream:
        raise Violation(f"PING on stream {stream}")
    if len(payload) != 8:  # noqa: PLR2004 - RFC 9113, section 6.7
        raise Violation(f"PING of {len(payload)} bytes", ErrorCode.FRAME_SIZE_ERROR)
    return None if flags & Flag.ACK else Ping(payload)


def read_window_update(_flags: int, stream: int, payload: bytes) -> WindowUpdate:
    """Read WINDOW_UPDATE."""
    if len(payload) != 4:  # noqa: PLR2004 - RFC 9113, section 6.9
        raise Violation(f"WINDOW_UPDATE of {len(payload)} bytes", ErrorCode.FRAME_SIZE_ERROR)
    if stream not in (0, CALL_STREAM):
        raise Violation(f"WINDOW_UPDATE on stream {stream}, which was never opened")
    increment = int.from_bytes(payload, "big") & MAX_WINDOW_BYTES
    if not increment:
        raise Violation("WINDOW_UPDATE of 0 bytes")
    return WindowUpdate(stream, increment)


def read_reset(_flags: int, stream: int, payload: bytes) -> Reset:
    """Read RST_STREAM."""
    if len(payload) != 4:  # noqa: PLR2004 - RFC 9113, section 6.4
        raise Violation(f"RST_STREAM of {len(payload)} bytes", ErrorCode.FRAME_SIZE_ERROR)
    if stream != CALL_STREAM:
        raise Violation(f"RST_STREAM on stream {stream}, which was never opened")
    return Reset(int.from_bytes(payload, "big"))


def read_goaway(_flags: int, stream: int, payload: bytes) -> GoAway:
    """Read GOAWAY."""
    if stream:
        raise Violation(f"GOAWAY on stream {stream}")
    if len(payload) < 8:  # noqa: PLR2004 - RFC 9113, section 6.8
        raise Violation(f"GOAWAY of {len(payload)} bytes", ErrorCode.FRAME_SIZE_ERROR)
    last_stream = int.from_bytes(payload[:4], "big") & MAX_WINDOW_BYTES
    return GoAway(last_stream, int.from_bytes(payload[4:8], "big"), payload[8:])


def read_priority(_flags: int, stream: int, payload: bytes) -> None:
    """Check PRIORITY, which is deprecated and means nothing here."""
    if not stream:
        raise Violation("PRIORITY on stream 0")
    if len(payload) != 5:  # noqa: PLR2004 - RFC 9113, section 6.3
        raise Violation(f"PRIORITY of {len(payload)} bytes", ErrorCode.FRAME_SIZE_ERROR)


def without_padding(kind: Type, flags: int, payload: bytes) -> bytes:
    """Strip what PADDED and PRIORITY add to the payload of DATA and HEADERS."""
    start, end = 0, len(payload)
    if flags & Flag.PADDED:
        if not payload:
            raise Violation(f"a padded {kind.name} frame without a padding length", ErrorCode.FRAME_SIZE_ERROR)
        start, end = 1, end - payload[0]
    if kind == Type.HEADERS and flags & Flag.PRIORITY:
        start += 5
    if start > end:
        raise Violation(f"a {kind.name} frame whose padding is longer than its payload")
    return payload[start:end]
