"""Bodies that were compressed, by their ``Content-Encoding``, decompressed up to a limit."""

from __future__ import annotations

from receiver.errors import Malformed, TooLarge, Unsupported
from translators.decompression import ENCODINGS, Damaged, TooLong, decode


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
    if encoding not in ENCODINGS:
        raise Unsupported(f"Content-Encoding {encoding[:40]!r} is not supported; use {', '.join(ENCODINGS)} or none")
    try:
        return decode(encoding, body, max_bytes)
    except TooLong:
        raise TooLarge(f"the decompressed body is larger than {max_bytes} bytes") from None
    except Damaged as error:
        raise Malformed(f"the body is no {encoding}: {error}") from None
