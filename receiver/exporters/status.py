"""The one table from a gRPC status to an export error (OTLP specification, "OTLP/gRPC Response")."""

from __future__ import annotations

from typing import Final

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from receiver.errors import ExportError, MessageTooLarge, Permanent, Retryable
from translators.pb.status_pb2 import RetryInfo, Status

_RETRYABLE: Final = frozenset(
    {
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)
_DETAILS_KEY = "grpc-status-details-bin"
_LARGER_THAN_MAX = "larger than max"
"""grpc-go: "received message larger than max", "received message after decompression larger than max"; gRPC core:
"Received message larger than max". They come as RESOURCE_EXHAUSTED without RetryInfo."""


def export_error(error: grpc.aio.AioRpcError) -> ExportError:
    """Say what a failed export means: later, never, or never at this size.

    RESOURCE_EXHAUSTED is retryable only with RetryInfo, which says that the server can recover.
    """
    code, details = error.code(), error.details() or ""
    message = f"{code.name}: {details}"
    retry_after_s = _retry_after_s(error)
    if code in _RETRYABLE:
        return Retryable(message, retry_after_s)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        if retry_after_s is not None:
            return Retryable(message, retry_after_s)
        if _LARGER_THAN_MAX in details.lower():
            return MessageTooLarge(message)
    return Permanent(message)


def _retry_after_s(error: grpc.aio.AioRpcError) -> float | None:
    """The delay of the first RetryInfo in the status details, in seconds; None without one.

    Details that cannot be parsed count as none: they come from the network and only refine the status.
    """
    for key, value in error.trailing_metadata():
        if key != _DETAILS_KEY or not isinstance(value, bytes):
            continue
        try:
            status = Status.FromString(value)
            for detail in status.details:
                retry_info = RetryInfo()
                if detail.Unpack(retry_info):
                    delay = retry_info.retry_delay
                    return max(0.0, delay.seconds + delay.nanos / 1e9)
        except DecodeError:
            return None
    return None
