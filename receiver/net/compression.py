"""Bodies that were compressed, decompressed up to a limit: a bomb costs no more than an honest body of that size."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final, Protocol

import zstandard

from receiver.errors import Malformed, TooLarge, Unsupported

if TYPE_CHECKING:
    from collections.abc import Iterator

ENCODINGS: Final = ("gzip", "zstd", "deflate")
_PIECE_BYTES: Final = 256 * 1024
_GZIP_WBITS: Final = 16 + zlib.MAX_WBITS
_MAX_WINDOW_BYTES: Final = 8 << 20
"""Of a zstd frame: what RFC 8878 (3.1.1.1.2) recommends decoders to support, and RFC 9659 allows in HTTP."""
_MAX_MEMBERS: Final = 16
"""Of gzip, and frames of zstd: a body of very many tiny ones costs more than its size says."""
_MAX_FRAME_HEADER_BYTES: Final = 18
_CHECKSUM_BYTES: Final = 4
_RLE_BLOCK: Final = 1


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unconsumed_tail(self) -> bytes: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


def decompress(encoding: str, body: bytes, max_bytes: int) -> bytes:
    """Decompress a whole body.

    Args:
        encoding: HTTP's ``Content-Encoding``, in lower case; empty and ``identity`` mean none.
        body: As it arrived.
        max_bytes: The most that may come out.

    Raises:
        Unsupported: Another encoding.
        TooLarge: More than ``max_bytes`` would come out.
        Malformed: The body is not compressed so, or is cut off.
    """
    if encoding in {"", "identity"}:
        return body
    pieces: list[bytes] = []
    size = 0
    try:
        for piece in _pieces(encoding, body):
            size += len(piece)
            if size > max_bytes:
                raise TooLarge(f"the decompressed body is larger than {max_bytes} bytes")
            pieces.append(piece)
    except (zlib.error, zstandard.ZstdError, EOFError) as error:
        raise Malformed(f"the body is no {encoding}: {error}") from None
    return b"".join(pieces)


def _pieces(encoding: str, body: bytes) -> Iterator[bytes]:
    """Pieces of at most 256 KiB. Nothing is decompressed before its piece is asked for."""
    if encoding == "gzip":
        yield from _members(body)
    elif encoding == "deflate":
        # RFC 9110 8.4.1.2 means zlib's format; some clients send the bare one.
        wrapped = len(body) > 1 and body[0] & 0x0F == zlib.DEFLATED and (body[0] << 8 | body[1]) % 31 == 0
        yield from _one(zlib.decompressobj(zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS), body)
    elif encoding == "zstd":
        yield from _frames(body)
    else:
        raise Unsupported(f"Content-Encoding {encoding[:40]!r} is not supported; use {', '.join(ENCODINGS)} or none")


def _members(body: bytes) -> Iterator[bytes]:
    for _ in range(_MAX_MEMBERS):
        member = zlib.decompressobj(_GZIP_WBITS)
        yield from _one(member, body)
        body = member.unused_data
        if not body:
            return
    raise Malformed(f"the body has more than {_MAX_MEMBERS} gzip members")


def _one(decompressor: _Decompressor, body: bytes) -> Iterator[bytes]:
    piece = decompressor.decompress(body, _PIECE_BYTES)
    while True:
        yield piece
        if decompressor.eof:
            return
        rest = decompressor.unconsumed_tail
        piece = decompressor.decompress(rest, _PIECE_BYTES)
        if not piece and not rest and not decompressor.eof:
            raise EOFError("it is cut off")


def _frames(body: bytes) -> Iterator[bytes]:
    _check_frames(body)
    decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
    with decompressor.stream_reader(body, read_across_frames=True) as reader:
        while piece := reader.read(_PIECE_BYTES):
            yield piece


def _check_frames(body: bytes) -> None:
    """Walk the blocks of zstd frames (RFC 8878, 3.1.1): the reader takes a body that is cut off for one that ended."""
    position = 0
    for _ in range(_MAX_MEMBERS):
        frame = body[position : position + _MAX_FRAME_HEADER_BYTES]
        checksum = _CHECKSUM_BYTES if zstandard.get_frame_parameters(frame).has_checksum else 0
        position += zstandard.frame_header_size(frame)
        last = False
        while not last:
            header = int.from_bytes(body[position : position + 3], "little")
            last, kind, size = bool(header & 1), header >> 1 & 3, header >> 3
            position += 3 + (1 if kind == _RLE_BLOCK else size)
            if position > len(body):
                raise EOFError("it is cut off")
        position += checksum
        if position > len(body):
            raise EOFError("it is cut off")
        if position == len(body):
            return
    raise Malformed(f"the body has more than {_MAX_MEMBERS} zstd frames")
