"""Compressed bodies: what comes out is bounded, and what is cut off is noticed."""

from __future__ import annotations

import contextlib
import gzip
import tracemalloc
import zlib
from typing import TYPE_CHECKING

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from receiver.errors import Malformed, TooLarge, Unsupported
from receiver.net.compression import decompress

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1 << 20


def bare_deflate(data: bytes) -> bytes:
    """Deflate without zlib's envelope, as some clients send it."""
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


def zstd_stream(data: bytes) -> bytes:
    """A frame that does not say its size beforehand, with a checksum."""
    compressor = zstandard.ZstdCompressor(write_checksum=True).compressobj()
    return compressor.compress(data) + compressor.flush()


WAYS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "two gzip members": ("gzip", lambda data: gzip.compress(data[:5]) + gzip.compress(data[5:])),
    "deflate": ("deflate", zlib.compress),
    "bare deflate": ("deflate", bare_deflate),
    "zstd": ("zstd", zstandard.ZstdCompressor().compress),
    "two zstd frames": (
        "zstd",
        lambda data: zstandard.ZstdCompressor().compress(data[:5]) + zstandard.ZstdCompressor().compress(data[5:]),
    ),
    "zstd stream": ("zstd", zstd_stream),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [0, 1, 1000, 256 * 1024, 700_001])
def test_what_went_in_comes_out(way: str, size: int) -> None:
    """Each encoding, in each of its forms, across the borders of pieces."""
    encoding, compress = WAYS[way]
    data = bytes(index * 7 % 251 for index in range(size))
    assert decompress(encoding, compress(data), MIB) == data


@pytest.mark.parametrize("way", [way for way in WAYS if not way.startswith("two")])
def test_every_cut_is_noticed(way: str) -> None:
    """A body that is cut off is malformed wherever it is cut."""
    encoding, compress = WAYS[way]
    body = compress(b"some telemetry, some more telemetry" * 3)
    for end in range(len(body)):
        with pytest.raises(Malformed):
            decompress(encoding, body[:end], MIB)


@pytest.mark.parametrize("way", WAYS)
def test_a_bomb_costs_its_limit(way: str) -> None:
    """A body of which 200 MiB would come out is refused at the limit, and never was in memory."""
    encoding, compress = WAYS[way]
    bomb = compress(b"\0" * (200 * MIB))
    assert len(bomb) < MIB
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge, match=f"larger than {4 * MIB} bytes"):
            decompress(encoding, bomb, 4 * MIB)
        assert tracemalloc.get_traced_memory()[1] < 8 * MIB
    finally:
        tracemalloc.stop()


def test_a_window_that_would_take_much_memory_is_refused() -> None:
    """A zstd frame may ask for 2 GiB of history."""
    parameters = zstandard.ZstdCompressionParameters(window_log=27, enable_ldm=True)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    body = compressor.compress(b"x" * MIB) + compressor.flush()
    with pytest.raises(Malformed, match="no zstd"):
        decompress("zstd", body, 4 * MIB)


def test_very_many_members_are_refused() -> None:
    """Tiny members cost more than their size says."""
    with pytest.raises(Malformed, match="more than 16 members"):
        decompress("gzip", gzip.compress(b"") * 17, MIB)
    with pytest.raises(Malformed, match="more than 16 frames"):
        decompress("zstd", zstandard.ZstdCompressor().compress(b"") * 17, MIB)


def test_no_encoding_is_no_change() -> None:
    """The very same bytes."""
    body = b"as it is"
    assert decompress("", body, MIB) is body
    assert decompress("identity", body, MIB) is body


def test_another_encoding_names_those_there_are() -> None:
    """The sender learns what to use."""
    with pytest.raises(Unsupported, match=r"'br' is not supported; use gzip, zstd, deflate or none"):
        decompress("br", b"", MIB)


@given(encoding=st.sampled_from(["gzip", "deflate", "zstd"]), body=st.binary(max_size=60))
def test_any_bytes_are_an_error_of_the_sender(encoding: str, body: bytes) -> None:
    """Nothing but our own errors comes out of arbitrary bytes."""
    for prefix in (b"", gzip.compress(b"")[:10], zstandard.FRAME_HEADER):
        with contextlib.suppress(Malformed, TooLarge):
            decompress(encoding, prefix + body, MIB)
