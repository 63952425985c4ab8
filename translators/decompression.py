"""gzip, zstd and deflate, decompressed up to a limit: a bomb costs no more than honest data of that size."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final, Protocol

import zstandard

if TYPE_CHECKING:
    from collections.abc import Iterator

ENCODINGS: Final = ("gzip", "zstd", "deflate")
"""By the names of HTTP's ``Content-Encoding``."""
GZIP_MAGIC: Final = b"\x1f\x8b"
ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"

_PIECE_BYTES: Final = 256 * 1024
_GZIP_WBITS: Final = 16 + zlib.MAX_WBITS
_MAX_WINDOW_BYTES: Final = 8 << 20
"""Of a zstd frame: what RFC 8878 (3.1.1.1.2) recommends decoders to support, and RFC 9659 allows in HTTP."""
_MAX_MEMBERS: Final = 16
"""Of gzip, and frames of zstd: very many tiny ones cost more than their size says."""
_MAX_FRAME_HEADER_BYTES: Final = 18
_CHECKSUM_BYTES: Final = 4
_RLE_BLOCK: Final = 1


class Damaged(ValueError):
    """The data is not compressed so, or is cut off."""


class TooLong(ValueError):
    """More would come out than is allowed."""


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unconsumed_tail(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


def decompress(data: bytes, max_bytes: int) -> bytes:
    """Decompress what begins like gzip or zstd, return anything else as it is; at most ``max_bytes`` come out.

    Raises:
        Damaged: It is cut off, or something in it is wrong.
        TooLong: More than ``max_bytes`` would come out.
    """
    if data.startswith(GZIP_MAGIC):
        return decode("gzip", data, max_bytes)
    if data.startswith(ZSTD_MAGIC):
        return decode("zstd", data, max_bytes)
    if len(data) > max_bytes:
        raise TooLong(f"more than {max_bytes} bytes (uncompressed)")
    return data


def decode(encoding: str, data: bytes, max_bytes: int) -> bytes:
    """Decompress what is written in one of :data:`ENCODINGS`; raises as :func:`decompress`."""
    taken: list[bytes] = []
    size = 0
    try:
        for piece in _PIECES[encoding](data):
            size += len(piece)
            if size > max_bytes:
                raise TooLong(f"more than {max_bytes} bytes ({encoding})")
            taken.append(piece)
    except (zlib.error, zstandard.ZstdError, EOFError) as error:
        raise Damaged(f"the {encoding} data is damaged or cut off: {error}") from None
    return b"".join(taken)


# Pieces of at most 256 KiB; nothing is decompressed before its piece is asked for.


def _members(data: bytes) -> Iterator[bytes]:
    for _ in range(_MAX_MEMBERS):
        member = zlib.decompressobj(_GZIP_WBITS)
        yield from _one(member, data)
        data = member.unused_data
        if not data:
            return
    raise EOFError(f"it has more than {_MAX_MEMBERS} members")


def _deflated(data: bytes) -> Iterator[bytes]:
    # RFC 9110 8.4.1.2 means zlib's format; some clients send the bare one.
    wrapped = len(data) > 1 and data[0] & 0x0F == zlib.DEFLATED and (data[0] << 8 | data[1]) % 31 == 0
    yield from _one(zlib.decompressobj(zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS), data)


def _one(decompressor: _Decompressor, data: bytes) -> Iterator[bytes]:
    piece = decompressor.decompress(data, _PIECE_BYTES)
    while True:
        yield piece
        if decompressor.eof:
            return
        rest = decompressor.unconsumed_tail
        piece = decompressor.decompress(rest, _PIECE_BYTES)
        if not piece and not rest and not decompressor.eof:
            raise EOFError("its end is missing")


def _frames(data: bytes) -> Iterator[bytes]:
    _check_frames(data)
    decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
    with decompressor.stream_reader(data, read_across_frames=True) as reader:
        while piece := reader.read(_PIECE_BYTES):
            yield piece


def _check_frames(data: bytes) -> None:
    """Walk the blocks of zstd frames (RFC 8878, 3.1.1): the reader takes data that is cut off for data that ended."""
    position = 0
    for _ in range(_MAX_MEMBERS):
        frame = data[position : position + _MAX_FRAME_HEADER_BYTES]
        checksum = _CHECKSUM_BYTES if zstandard.get_frame_parameters(frame).has_checksum else 0
        position += zstandard.frame_header_size(frame)
        last = False
        while not last:
            header = int.from_bytes(data[position : position + 3], "little")
            last, kind, size = bool(header & 1), header >> 1 & 3, header >> 3
            position += 3 + (1 if kind == _RLE_BLOCK else size)
            if position > len(data):
                raise EOFError("its end is missing")
        position += checksum
        if position > len(data):
            raise EOFError("its end is missing")
        if position == len(data):
            return
    raise EOFError(f"it has more than {_MAX_MEMBERS} frames")


_PIECES: Final = {"gzip": _members, "zstd": _frames, "deflate": _deflated}
