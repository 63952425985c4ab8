"""Bodies of ``multipart/form-data``, read by aiohttp."""

from __future__ import annotations

import asyncio
import warnings
from typing import Final, NamedTuple

from aiohttp import BodyPartReader, MultipartReader, StreamReader, hdrs
from aiohttp.base_protocol import BaseProtocol
from aiohttp.helpers import parse_mimetype
from aiohttp.http_exceptions import HttpProcessingError

from receiver.errors import Malformed

CONTENT_TYPE: Final = "multipart/form-data"
_MAX_PARTS: Final = 64
_MAX_FIRST_LINE_BYTES: Final = 128
"""A boundary has 70 characters at most (RFC 2046, 5.1.1)."""
_PIECE_BYTES: Final = 256 * 1024


class Part(NamedTuple):
    """One part of a form."""

    name: str
    filename: str
    data: bytes


async def read(content_type: str, body: bytes) -> list[Part]:
    """Read all parts of a body that has arrived whole.

    Raises:
        Malformed: It is no form, it is cut off, or it has more than 64 parts.
    """
    parts: list[Part] = []
    try:
        _check_beginning(content_type, body)
        reader = MultipartReader({hdrs.CONTENT_TYPE: content_type}, _stream(body))
        while (part := await _next(reader)) is not None:
            if not isinstance(part, BodyPartReader):
                raise Malformed("a part of the form is a form itself")
            if len(parts) == _MAX_PARTS:
                raise Malformed(f"the form has more than {_MAX_PARTS} parts")
            parts.append(Part(_text(part.name), _text(part.filename), await _data(part)))
    except (HttpProcessingError, ValueError, RuntimeError, KeyError, AssertionError) as error:
        # All of them are how aiohttp says that a form is wrong.
        raise Malformed(f"the body is no {CONTENT_TYPE}: {str(error)[:200] or 'it is cut off'}") from None
    return parts


def _check_beginning(content_type: str, body: bytes) -> None:
    """Refuse text in front of the first part, which no client writes and aiohttp would skip line by line."""
    boundary = parse_mimetype(content_type).parameters["boundary"]
    line = body[: body.find(b"\n", 0, _MAX_FIRST_LINE_BYTES)].rstrip()
    if line.removesuffix(b"--") != b"--" + boundary.encode(errors="replace"):
        raise Malformed("the form does not begin with the boundary that Content-Type names")


async def _next(reader: MultipartReader) -> MultipartReader | BodyPartReader | None:
    """The next part; one whose disposition cannot be read has no name."""
    # aiohttp warns of it, which whoever can connect could cause. Nothing in here waits: the whole body has arrived.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        part = await reader.next()
        if isinstance(part, BodyPartReader):
            _ = part.name, part.filename  # read once, and kept by aiohttp
        return part


def _text(value: str | None) -> str:
    """Text that can be encoded: aiohttp keeps bytes that are no UTF-8 as surrogates."""
    return (value or "").encode(errors="replace").decode()


async def _data(part: BodyPartReader) -> bytes:
    pieces = bytearray()
    while piece := await part.read_chunk(_PIECE_BYTES):
        pieces += piece
        await asyncio.sleep(0)  # all of it is here already: nothing else would give others a turn
    return bytes(pieces)


def _stream(body: bytes) -> StreamReader:
    """The body as aiohttp reads it from a connection."""
    loop = asyncio.get_running_loop()
    stream = StreamReader(BaseProtocol(loop), len(body) + 1, loop=loop)
    view = memoryview(body)
    for begin in range(0, len(body), _PIECE_BYTES):
        stream.feed_data(bytes(view[begin : begin + _PIECE_BYTES]))
    stream.feed_eof()
    return stream
