"""The one table from a gRPC status to an export error (OTLP specification, "OTLP/gRPC Response").

Three ends: *retryable*; *held*, which data cannot help, only somebody who puts something right; *rejected*, all else.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import grpc
import grpc.aio

from receiver.errors import ExportError, Held, MessageTooLarge, Permanent, Retryable
from receiver.net.retry_info import DETAILS_KEY, retry_after_s
from translators.batch import Signal

if TYPE_CHECKING:
    from collections.abc import Mapping

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

_NO_PIPELINE: Final[Mapping[Signal, str]] = {
    Signal.LOGS: "the Collector has no logs pipeline with this receiver: add one",
    Signal.TRACES: "the Collector has no traces pipeline with this receiver: add one, or turn process_spans off",
    Signal.METRICS: "the Collector has no metrics pipeline with this receiver: add one, or send no metrics",
    Signal.PROFILES: "the Collector has no profiles pipeline with this receiver: add one, for which it needs "
    "--feature-gates=service.profilesSupport",
}
_REMEDIES: Final = {
    grpc.StatusCode.UNAUTHENTICATED: "check the token that exporter::otlp_grpc::auth (or headers) names against what the "
    "Collector's authenticator expects",
    grpc.StatusCode.PERMISSION_DENIED: "the Collector, or a proxy before it, knows this sender and does not let it "
    "export; allow it there",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "a quota or a limit of the Collector, or of a proxy before it, is used up; raise "
    "it there, or send less",
}
_TLS: Final = (
    ("Hostname Verification", "the server's certificate has another name; set tls.server_name_override to its name"),
    ("certificate has expired", "the server's certificate has expired; renew it there"),
    ("certificate is not yet valid", "the server's certificate is not valid yet; check both machines' clocks"),
    ("unable to get", "the server's certificate is not signed by what tls.ca_file holds; name its authority there"),
    ("self signed", "the server's certificate is not signed by what tls.ca_file holds; name its authority there"),
    ("WRONG_VERSION_NUMBER", "the server does not speak TLS here; correct the endpoint, or set tls.insecure: true"),
    (
        "ALERT",
        "the server refuses the client's certificate; name one that it accepts in tls.cert_file and tls.key_file",
    ),
    ("SSL_ERROR_SSL", "check tls here and there"),
)
"""Words of gRPC core and BoringSSL when a handshake fails, which comes as UNAVAILABLE, to what to do; the first counts."""
_NOT_CONNECTED = re.compile(r"(failed to connect to all addresses|connections to all backends failing); last error: ")
"""What gRPC core itself says; a server may tell of failed handshakes of its own."""


def export_error(error: grpc.aio.AioRpcError, signal: Signal) -> ExportError:
    """Say what the failed export of a signal means: later, not before somebody acts, never, or never at this size.

    RESOURCE_EXHAUSTED is retryable only with RetryInfo, which says that the server can recover.
    """
    code, details = error.code(), error.details() or ""
    message = f"{code.name}: {details}"
    if code is grpc.StatusCode.UNAVAILABLE and (not_connected := _NOT_CONNECTED.match(details)):
        last_error = details[not_connected.end() :]
        for words, remedy in _TLS:
            if words in last_error:
                return Held(f"no TLS connection: {last_error}", remedy)
    delay_s = _delay_s(error)
    if code in _RETRYABLE:
        return Retryable(message, delay_s)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        if delay_s is not None:
            return Retryable(message, delay_s)
        if _LARGER_THAN_MAX in details.lower():
            return MessageTooLarge(message)
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return Held(message, _NO_PIPELINE[signal])
    if remedy := _REMEDIES.get(code, ""):
        return Held(message, remedy)
    return Permanent(message)


def _delay_s(error: grpc.aio.AioRpcError) -> float | None:
    """The delay of the first RetryInfo in the status details, in seconds; None without one."""
    for key, value in error.trailing_metadata():
        if key == DETAILS_KEY and isinstance(value, bytes):
            return retry_after_s(value)
    return None
