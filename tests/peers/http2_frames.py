"""What an HTTP/2 server sends, made with hyperframe and hpack: a second opinion on how frames look."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from hpack import Encoder
from hyperframe.frame import ContinuationFrame, DataFrame, Frame, HeadersFrame, SettingsFrame

from receiver.net.call import Call, request_headers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

OPEN = ((":status", "200"), ("content-type", "application/grpc"))
OK = (("grpc-status", "0"),)
GREETING = SettingsFrame(0).serialize()


def message(body: bytes, *, compressed: bool = False) -> bytes:
    """A gRPC message with its prefix."""
    return bytes([compressed]) + len(body).to_bytes(4, "big") + body


def data(payload: bytes, *, ended: bool = False, padding: int | None = None, stream: int = 1) -> bytes:
    """A DATA frame; ``padding`` None means not PADDED."""
    frame = DataFrame(stream, payload, pad_length=padding or 0, flags=["END_STREAM"] if ended else [])
    if padding is not None:
        frame.flags.add("PADDED")
    return frame.serialize()


def headers(
    fields: Iterable[tuple[str, str]], *, ended: bool = False, cut: Sequence[int] = (), stream: int = 1
) -> bytes:
    """A header block, over HEADERS and CONTINUATION frames cut at the offsets ``cut``."""
    block = Encoder().encode([(name, value, True) for name, value in fields])
    bounds = [0, *(at for at in cut if at < len(block)), len(block)]
    parts = [block[start:end] for start, end in itertools.pairwise(bounds)]
    frames: list[Frame] = [HeadersFrame(stream, parts[0], flags=["END_STREAM"] if ended else [])]
    frames += [ContinuationFrame(stream, part) for part in parts[1:]]
    frames[-1].flags.add("END_HEADERS")
    return b"".join(frame.serialize() for frame in frames)


def raw(kind: int, flags: int, stream: int, payload: bytes, *, length: int | None = None) -> bytes:
    """Any frame; ``length`` may lie."""
    size = len(payload) if length is None else length
    return size.to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def new_call(request: bytes = b"", *, max_message_bytes: int = 1 << 20, window_bytes: int = 1 << 20) -> Call:
    """A call of a method that nobody implements."""
    fields = request_headers("/test.Service/Watch", scheme="http", authority="localhost")
    return Call(fields, request, max_message_bytes=max_message_bytes, window_bytes=window_bytes)


def take_all(call: Call) -> list[bytes]:
    """Every message that waits."""
    messages: list[bytes] = []
    while batch := call.take():
        assert len(batch) <= 256
        messages += batch
    return messages


def feed(call: Call, parts: Iterable[bytes]) -> list[bytes]:
    """Give the call what a server sent, part by part; the messages that came."""
    messages: list[bytes] = []
    for part in parts:
        call.receive(part)
        messages += take_all(call)
    return messages
