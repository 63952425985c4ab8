"""What is in a file of profiles: pprof, OTLP profiles, or the Arrow records of Parca's agent."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, Final

from receiver.errors import RecordingError
from receiver.inspection import otlp, pprof
from receiver.inspection.text import amount, render
from translators.decompression import GZIP_MAGIC, ZSTD_MAGIC, Damaged, TooLong, decompress

if TYPE_CHECKING:
    from receiver.inspection.summary import Summary

_MAX_BYTES: Final = 256 << 20
"""Of a file, and of what comes out of it."""
_ARROW_MAGIC: Final = b"\xff\xff\xff\xff"
"""The continuation marker in front of a stream's first message (Arrow columnar format, IPC)."""
_JFR_MAGIC: Final = b"FLR\0"
_COMPRESSIONS: Final = ((GZIP_MAGIC, ", gzip"), (ZSTD_MAGIC, ", zstd"))


def inspect(name: str, stream: BinaryIO) -> str:
    """Say what is in a file, as text that ends with a line break.

    Raises:
        RecordingError: It is none of the three, damaged, or larger than 256 MiB.
    """
    data = stream.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise RecordingError(f"the file is larger than {_MAX_BYTES >> 20} MiB")
    try:
        plain = decompress(data, _MAX_BYTES)
    except TooLong:
        raise RecordingError(f"the file is larger than {_MAX_BYTES >> 20} MiB when it is decompressed") from None
    except Damaged as error:
        raise RecordingError(str(error)) from None
    summary = _summary(plain)
    packed = next((text for magic, text in _COMPRESSIONS if data.startswith(magic)), "")
    sizes = amount(len(data), "bytes") + (f" ({amount(len(plain), 'bytes')} decompressed)" if packed else "")
    summary.form = f"{summary.form}{packed}, {sizes}"
    return render(name, summary)


def _summary(data: bytes) -> Summary:
    if data.startswith(_ARROW_MAGIC):
        from receiver.inspection import arrow  # noqa: PLC0415 - pyarrow takes a quarter of a second to load

        return arrow.summarise(data)
    if data.startswith(_JFR_MAGIC):
        raise RecordingError("this is a JFR recording; only pprof, OTLP profiles and Arrow are read")
    if pprof.is_one(data):
        return pprof.summarise(data)
    if (requests := otlp.requests(data)) is not None:
        return otlp.summarise(requests)
    raise RecordingError(
        "this is neither a pprof profile (profile.proto), nor OTLP profiles (protobuf, alone or behind 4-byte lengths), "
        "nor an Arrow stream of Parca's agent; older text and binary forms of pprof are not read: convert them with "
        "go tool pprof -proto"
    )
