"""The one table from what went wrong with a sender's request to what the sender is told, in gRPC and in HTTP.

Sources: OTLP specification, "OTLP/gRPC Response" and "OTLP/HTTP Response" (which codes a client tries again);
the Collector's ``receiver/otlpreceiver/internal/errors``. The way back, from an answer to an error, is
``receiver/exporters/status.py``.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import grpc

from receiver.errors import Malformed, Overdue, Relayed, TooLarge, TryLater, Unauthenticated, Unsupported


class Answer(NamedTuple):
    """How a request that was not taken is answered."""

    code: grpc.StatusCode
    http: int
    reason: str
    """For the counter's label."""
    message: str
    retry_after_s: float | None = None
    """With this, gRPC carries a RetryInfo and HTTP a Retry-After; RESOURCE_EXHAUSTED without it is final."""


_FINAL: Final = (
    (Unauthenticated, grpc.StatusCode.UNAUTHENTICATED, 401, "unauthenticated"),
    (Unsupported, grpc.StatusCode.INVALID_ARGUMENT, 415, "unsupported"),
    (Malformed, grpc.StatusCode.INVALID_ARGUMENT, 400, "malformed"),
    (TooLarge, grpc.StatusCode.RESOURCE_EXHAUSTED, 413, "too_large"),
    (Overdue, grpc.StatusCode.FAILED_PRECONDITION, 400, "overdue"),
)
_RETRY_AFTER_S: Final = 1.0
FAULT: Final = "internal_error"
"""The reason of what is no error of ours on purpose."""


def answer(error: Exception) -> Answer:
    """What the sender is told. What is not foreseen is a fault on this side: the sender should try again."""
    if isinstance(error, TryLater):
        return Answer(grpc.StatusCode.UNAVAILABLE, 503, "busy", str(error), error.retry_after_s)
    if isinstance(error, Relayed):
        return Answer(grpc.StatusCode[error.status], 502, "relayed", str(error))
    for kind, code, http, reason in _FINAL:
        if isinstance(error, kind):
            return Answer(code, http, reason, str(error))
    return Answer(grpc.StatusCode.UNAVAILABLE, 503, FAULT, "a fault of this server", _RETRY_AFTER_S)
