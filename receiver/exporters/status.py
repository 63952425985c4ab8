"""The one table from a gRPC status to an export error (OTLP specification, "OTLP/gRPC Response")."""

from __future__ import annotations

from typing import Final

import grpc
import grpc.aio

from receiver.errors import ExportError, MessageTooLarge, Permanent, Retryable
from receiver.net.retry_info import DETAILS_KEY, retry_after_s

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
_LARGER_THAN_MAX = "larger than max"
"""grpc-go: "received message larger than max", "received message after decompression larger than max"; gRPC core:
"Received message larger than max". They come as RESOURCE_EXHAUSTED without RetryInfo."""


def export_error(error: grpc.aio.AioRpcError) -> ExportError:
    """Say what a failed export means: later, never, or never at this size.

    RESOURCE_EXHAUSTED is retryable only with RetryInfo, which says that the server can recover.
    """
    code, details = error.code(), error.details() or ""
    message = f"{code.name}: {details}"
    delay_s = _asked_delay_s(error)
    if code in _RETRYABLE:
        return Retryable(message, delay_s)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        if delay_s is not None:
            return Retryable(message, delay_s)
        if _LARGER_THAN_MAX in details.lower():
            return MessageTooLarge(message)
    return Permanent(message)


def _asked_delay_s(error: grpc.aio.AioRpcError) -> float | None:
    """The delay that the status details ask for, in seconds; None without one."""
    for key, value in error.trailing_metadata():
        if key == DETAILS_KEY and isinstance(value, bytes):
            return retry_after_s(value)
    return None
