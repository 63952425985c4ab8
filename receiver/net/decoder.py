"""The server's side of one HTTP/2 connection with one gRPC call: bytes in, messages and events out. Pure.

Strategy: whatever arrives is joined with the incomplete frame before it and read frame by frame. The common frame, a
DATA frame that is exactly one message, is recognised by its first 14 bytes at once (:meth:`Decoder._plain_messages`);
every other one takes the general way, with the same result. Messages go to the :class:`~receiver.net.inbox.Inbox`,
everything else becomes an event. The result does not depend on how the bytes are cut.

Memory is bounded whatever the server sends: one incomplete frame (16 KiB), one header block
(``MAX_HEADER_BLOCK_BYTES``), one incomplete message (``max_message_bytes``), and what the inbox holds.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from hpack import Decoder as HeaderDecoder
from hpack import HPACKError, OversizedHeaderListError

from receiver.net import frames
from receiver.net.frames import Broken, Ended, ErrorCode, Event, Flag, Headers, Type, Violation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from receiver.net.inbox import Inbox

MAX_HEADER_BLOCK_BYTES: Final = 64 << 10
"""Of one header block, compressed (with the headers of its frames) and, as RFC 9113 counts a list, decoded."""

_PLAIN: Final = struct.Struct(">QHI")
"""The first 14 bytes of a DATA frame that begins a message, so grouped that constants meet in one comparison:
length, type, flags and the stream's first 24 bits; its last 8 bits and the message's compressed flag; its size."""
_PLAIN_MARK: Final = frames.CALL_STREAM << 8
_PREFIX: Final = struct.Struct(">BI")
"""Of a gRPC message: compressed flag, size."""

_CONTROL: Final[Mapping[int, Callable[[int, int, bytes], Event | None]]] = {
    Type.PRIORITY: frames.read_priority,
    Type.RST_STREAM: frames.read_reset,
    Type.SETTINGS: frames.read_settings,
    Type.PING: frames.read_ping,
    Type.GOAWAY: frames.read_goaway,
    Type.WINDOW_UPDATE: frames.read_window_update,
}


class Decoder:
    """Reads one connection. After Ended, Reset, Headers that ended, or Broken there is no event, and it takes no more."""

    def __init__(self, inbox: Inbox, max_message_bytes: int) -> None:
        """Put messages of up to ``max_message_bytes`` bytes into ``inbox``."""
        self._inbox = inbox
        self._max_message = max_message_bytes
        self._plain_limit = min(max_message_bytes, frames.MAX_PAYLOAD_BYTES - _PREFIX.size)
        self._headers = HeaderDecoder(max_header_list_size=MAX_HEADER_BLOCK_BYTES)
        self._data = b""
        """What is being read; between calls, an incomplete frame."""
        self._at = 0
        self._message = bytearray()
        """An incomplete message with its prefix."""
        self._block: bytearray | None = None
        """A header block whose END_HEADERS has not come yet."""
        self._block_cost = 0
        self._block_ends_stream = False
        self._greeted = False
        """The server's first frame came: SETTINGS."""
        self._responded = False
        """The response's headers came: DATA may follow."""
        self._ended = False

    @property
    def inside_message(self) -> bool:
        """Whether a part of a message came, but not all of it."""
        return bool(self._message)

    def feed(self, data: bytes | memoryview) -> None:
        """Add what the server sent; then call :meth:`next_event` until it returns None."""
        self._data = b"".join((self._data, data))

    def next_event(self) -> Event | None:
        """Read on to the next event, putting messages into the inbox; None when more bytes are needed."""
        event = None
        try:
            while event is None and (frame := self._next_frame()) is not None:
                event = self._read(*frame)
        except Violation as violation:
            self._ended = True
            event = Broken(violation)
        if event is None:
            self._data = b"" if self._ended else self._data[self._at :]
            self._at = 0
        return event

    def refusal(self) -> str:
        """Say what kind of server this is that closed the connection, or fell silent, before its first frame."""
        return _diagnose(self._data)

    def _next_frame(self) -> tuple[int, int, int, bytes] | None:
        """Read type, flags, stream and payload of the next frame; None when it is incomplete, or nothing may follow."""
        if self._responded and not self._message and self._block is None and not self._ended:
            self._plain_messages()
        data, at = self._data, self._at
        if self._ended or len(data) - at < frames.HEADER_BYTES:
            return None
        length, kind, flags, stream = frames.read_header(data, at)
        if not self._greeted and not _is_greeting(data):
            raise Violation(_diagnose(data), status="UNAVAILABLE")
        if length > frames.MAX_PAYLOAD_BYTES:
            raise Violation(f"a frame of {length} bytes, above {frames.MAX_PAYLOAD_BYTES}", ErrorCode.FRAME_SIZE_ERROR)
        start = at + frames.HEADER_BYTES
        if len(data) - start < length:
            return None
        self._at = start + length
        self._greeted = True
        return kind, flags, stream, data[start : self._at]

    def _plain_messages(self) -> None:
        """Read as many DATA frames as follow each other and are exactly one uncompressed message each."""
        data, start, end = self._data, self._at, len(self._data)
        if end - start > self._inbox.room:
            # What is left may exceed the window; the general way counts frame by frame.
            return
        messages, limit, unpack = self._inbox.tail, self._plain_limit, _PLAIN.unpack_from
        append, before, last, at = messages.append, len(messages), end - _PLAIN.size, start
        while at <= last:
            head, mark, size = unpack(data, at)
            stop = at + 14 + size
            if mark != _PLAIN_MARK or head != size + 5 << 40 or size > limit or stop > end:
                break
            append(data[at + 14 : stop])
            at = stop
        self._at = at
        self._inbox.count(at - start - frames.HEADER_BYTES * (len(messages) - before))

    def _read(self, kind: int, flags: int, stream: int, payload: bytes) -> Event | None:
        if self._block is not None and (kind != Type.CONTINUATION or stream != frames.CALL_STREAM):
            raise Violation(f"a frame of type {kind} on stream {stream} inside of a header block")
        if read := _CONTROL.get(kind):
            event = read(flags, stream, payload)
            self._ended = isinstance(event, frames.Reset)
            return event
        if kind not in (Type.DATA, Type.HEADERS, Type.CONTINUATION, Type.PUSH_PROMISE):
            return None
        if stream != frames.CALL_STREAM:
            raise Violation(f"{Type(kind).name} on stream {stream}, which was never opened")
        if kind == Type.DATA:
            return self._read_data(flags, payload)
        if kind == Type.HEADERS:
            self._block, self._block_cost = bytearray(), 0
            self._block_ends_stream = bool(flags & Flag.END_STREAM)
            # A block that was cut into frames is whole only with its padding gone from the first.
            return self._read_block(flags, frames.without_padding(Type.HEADERS, flags, payload))
        if kind == Type.CONTINUATION and self._block is not None:
            return self._read_block(flags, payload)
        raise Violation(f"{Type(kind).name} where none may come")

    def _read_data(self, flags: int, payload: bytes) -> Event | None:
        if not self._responded:
            raise Violation("DATA before the headers of the response")
        self._inbox.count(len(payload))
        if flags & Flag.PADDED:
            payload = frames.without_padding(Type.DATA, flags, payload)
        self._read_messages(payload)
        if not flags & Flag.END_STREAM:
            return None
        self._ended = True
        return Ended()

    def _read_messages(self, payload: bytes) -> None:
        """Read what a DATA frame carries: any part of any number of messages."""
        append = self._inbox.tail.append
        at, end = (self._continue_message(payload) if self._message else 0), len(payload)
        while end - at >= _PREFIX.size:
            stop = at + _PREFIX.size + self._size(payload, at)
            if stop > end:
                break
            append(payload[at + _PREFIX.size : stop])
            at = stop
        self._message += payload[at:]

    def _continue_message(self, payload: bytes) -> int:
        """Add to the incomplete message; returns how much of ``payload`` that took."""
        message, at = self._message, 0
        if len(message) < _PREFIX.size:
            at = _PREFIX.size - len(message)
            message += payload[:at]
            if len(message) < _PREFIX.size:
                return len(payload)
        missing = _PREFIX.size + self._size(message, 0) - len(message)
        message += payload[at : at + missing]
        if len(payload) - at < missing:
            return len(payload)
        with memoryview(message) as view:
            self._inbox.tail.append(bytes(view[_PREFIX.size :]))
        self._message = bytearray()
        return at + missing

    def _size(self, data: bytes | bytearray, at: int) -> int:
        compressed, size = _PREFIX.unpack_from(data, at)
        if compressed:
            raise Violation(
                "the server sent a compressed message, though only grpc-encoding identity was offered",
                ErrorCode.CANCEL,
            )
        if size > self._max_message:
            raise Violation(
                f"the server sent a message of {size} bytes, above the maximum of {self._max_message}",
                ErrorCode.CANCEL,
                "RESOURCE_EXHAUSTED",
            )
        return int(size)

    def _read_block(self, flags: int, fragment: bytes) -> Event | None:
        """Collect a header block; returns it decoded with its last fragment."""
        assert self._block is not None
        # The frame's own header counts too, or empty CONTINUATION frames could go on for ever.
        self._block_cost += frames.HEADER_BYTES + len(fragment)
        if self._block_cost > MAX_HEADER_BLOCK_BYTES:
            raise Violation(f"headers of more than {MAX_HEADER_BLOCK_BYTES} bytes", ErrorCode.ENHANCE_YOUR_CALM)
        self._block += fragment
        if not flags & Flag.END_HEADERS:
            return None
        block, self._block = bytes(self._block), None
        fields = self._decode(block)
        ended = self._block_ends_stream
        if not ended and not self._responded and fields.get(":status", "").startswith("1"):
            return None  # Informational: the response is still to come.
        if self._responded and not ended:
            raise Violation("a second header block that does not end the stream")
        if not self._responded and ":status" not in fields:
            raise Violation("response headers without :status")
        self._responded, self._ended = True, ended
        return Headers(fields, ended)

    def _decode(self, block: bytes) -> dict[str, str]:
        try:
            pairs = self._headers.decode(block, raw=True)
        except OversizedHeaderListError:
            raise Violation(
                f"headers that decode to more than {MAX_HEADER_BLOCK_BYTES} bytes", ErrorCode.ENHANCE_YOUR_CALM
            ) from None
        except HPACKError as error:
            raise Violation(f"headers that are not HPACK: {error}", ErrorCode.COMPRESSION_ERROR) from None
        return {
            bytes(name).decode("utf-8", "replace"): bytes(value).decode("utf-8", "replace") for name, value in pairs
        }


def _is_greeting(data: bytes) -> bool:
    """Whether the server's preface begins here: SETTINGS, not the acknowledgement of ours (RFC 9113, section 3.4)."""
    length, kind, flags, stream = frames.read_header(data, 0)
    return length <= frames.MAX_PAYLOAD_BYTES and (kind, flags & Flag.ACK, stream) == (Type.SETTINGS, 0, 0)


def _diagnose(data: bytes) -> str:
    """Say what speaks here, from the first bytes of a server whose first frame is not HTTP/2's SETTINGS."""
    if not data:
        return "the server sent nothing: does it expect TLS, or is it no gRPC server?"
    if data.startswith(b"HTTP/"):
        return "the server speaks HTTP/1.1, not gRPC over HTTP/2: is this the address of its gRPC listener?"
    if data[0] in (0x15, 0x16) and data[1:2] in (b"\x03", b""):
        return "the server speaks TLS where plain text was expected: configure tls, or https:// in the endpoint"
    if len(data) >= frames.HEADER_BYTES and _is_greeting(data):
        return "the server does not end its first frame"
    return f"the server does not speak HTTP/2: its first bytes are {data[: frames.HEADER_BYTES]!r}"
