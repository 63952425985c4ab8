"""RetryInfo as the real google.rpc has it."""

from __future__ import annotations

import pytest
from google.protobuf.any_pb2 import Any

from receiver.net.retry_info import encode_status, retry_after_s
from translators.pb.status_pb2 import Status


def test_what_is_written_is_what_googles_types_write() -> None:
    """The bytes of google.rpc.Status{14, "busy", [RetryInfo{1.5 s}]}, as grpc-go sends them."""
    assert encode_status(14, "busy", 1.5) == (
        b"\x08\x0e\x12\x04busy\x1a\x36\n(type.googleapis.com/google.rpc.RetryInfo\x12\x0a\n\x08\x08\x01\x10\x80\xca\xb5\xee\x01"
    )


def test_what_is_written_can_be_read() -> None:
    """With a delay and without."""
    assert retry_after_s(encode_status(14, "busy", 0.25)) == 0.25
    assert retry_after_s(encode_status(14, "busy")) is None


@pytest.mark.parametrize(
    "status",
    [
        b"",
        b"\xff",
        Status(details=[Any(type_url="type.googleapis.com/google.rpc.Other", value=b"")]).SerializeToString(),
        Status(details=[Any(type_url="x/google.rpc.RetryInfo", value=b"\xff")]).SerializeToString(),
    ],
)
def test_what_is_none_counts_as_none(status: bytes) -> None:
    """Details come from the network."""
    assert retry_after_s(status) is None
