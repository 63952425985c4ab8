"""``google.rpc.RetryInfo``: how long a server asks its client to wait before the next attempt.

It travels in the ``google.rpc.Status`` that gRPC carries in the trailer ``grpc-status-details-bin`` and OTLP/HTTP in the
body of an error. Inside ``Any`` messages are told apart by their type URL alone, so that is compared as text: the
descriptors in ``translators.pb`` stand under a package of our own.
"""

from __future__ import annotations

from typing import Final

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError

from translators.pb.status_pb2 import RetryInfo, Status

DETAILS_KEY: Final = "grpc-status-details-bin"
_NAME: Final = "google.rpc.RetryInfo"
_TYPE_URL: Final = f"type.googleapis.com/{_NAME}"


def encode_status(code: int, message: str, retry_after_s: float | None = None) -> bytes:
    """Serialise a ``google.rpc.Status``; with a delay, in seconds, it says when to come back."""
    status = Status(code=code, message=message)
    if retry_after_s is not None:
        delay = Duration()
        delay.FromNanoseconds(round(retry_after_s * 1e9))
        status.details.append(Any(type_url=_TYPE_URL, value=RetryInfo(retry_delay=delay).SerializeToString()))
    return status.SerializeToString()


def retry_after_s(status: bytes) -> float | None:
    """The delay of the first RetryInfo in a serialised ``google.rpc.Status``, in seconds; None without one.

    What cannot be parsed counts as none: it comes from the network and only refines a status code.
    """
    try:
        for detail in Status.FromString(status).details:
            if detail.type_url.rpartition("/")[2] == _NAME:
                delay = RetryInfo.FromString(detail.value).retry_delay
                return max(0.0, delay.seconds + delay.nanos / 1e9)
    except DecodeError:
        pass
    return None
