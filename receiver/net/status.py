"""How a gRPC call ends: status codes, and what stands for one when the server sent none. Pure.

Sources: gRPC's PROTOCOL-HTTP2.md ("Responses", "Errors"), http-grpc-status-mapping.md and statuscodes.md.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from receiver.errors import OtelbeeError
from receiver.net.frames import ErrorCode, error_name

if TYPE_CHECKING:
    from collections.abc import Mapping

_CODES: Final = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
_BY_NUMBER: Final = {str(number): name for number, name in enumerate(_CODES)}

_FROM_HTTP: Final = {
    "400": "INTERNAL",
    "401": "UNAUTHENTICATED",
    "403": "PERMISSION_DENIED",
    "404": "UNIMPLEMENTED",
    "429": "UNAVAILABLE",
    "502": "UNAVAILABLE",
    "503": "UNAVAILABLE",
    "504": "UNAVAILABLE",
}
"""All others are UNKNOWN."""

_FROM_RESET: Final[Mapping[int, str]] = {
    ErrorCode.STREAM_CLOSED: "UNKNOWN",
    ErrorCode.REFUSED_STREAM: "UNAVAILABLE",
    ErrorCode.CANCEL: "CANCELLED",
    ErrorCode.ENHANCE_YOUR_CALM: "RESOURCE_EXHAUSTED",
    ErrorCode.INADEQUATE_SECURITY: "PERMISSION_DENIED",
    ErrorCode.HTTP_1_1_REQUIRED: "UNKNOWN",
}
"""All other known codes are INTERNAL."""

_SHOWN_CHARACTERS: Final = 1024
"""Of text that a peer chose; the rest says nothing more."""


class StreamError(OtelbeeError):
    """A call failed.

    Attributes:
        code: Name of the gRPC status, never ``OK``.
        message: What happened; the server's own words where it sent a status.
        from_server: Whether the server answered with that status; if not, it was concluded here.
        details: The serialised ``google.rpc.Status`` of ``grpc-status-details-bin``; empty when there was none.
    """

    def __init__(self, code: str, message: str, *, from_server: bool = False, details: bytes = b"") -> None:
        """Keep all four."""
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.from_server = from_server
        self.details = details


def shown(text: str) -> str:
    """Shorten text that a peer chose to what is worth showing."""
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}... ({len(text)} characters)"


def response_error(fields: Mapping[str, str]) -> StreamError | None:
    """Judge the headers that open a response; None where gRPC messages may follow."""
    status, content_type = fields.get(":status", ""), fields.get("content-type", "")
    if status != "200":
        code = _FROM_HTTP.get(status, "UNKNOWN")
        answer = f"HTTP status {shown(status)}"
        if content_type:
            answer += f" and content-type {shown(content_type)}"
        return StreamError(code, f"the server answered with {answer} instead of gRPC: does a proxy stand between?")
    kind = content_type.lower()
    if kind != "application/grpc" and not kind.startswith(("application/grpc+", "application/grpc;")):
        return StreamError(
            "UNKNOWN", f"the server answered with content-type {shown(content_type)!r} instead of application/grpc"
        )
    return None


def trailers_error(fields: Mapping[str, str]) -> StreamError | None:
    """Judge the trailers, or the only headers, of a response; None for OK."""
    number = fields.get("grpc-status")
    if number is None:
        # Only then does the HTTP status decide (http-grpc-status-mapping.md).
        error = response_error(fields) if ":status" in fields else None
        return error or StreamError("UNKNOWN", "the server ended the call without a grpc-status")
    if number == "0":
        return None
    message = unquote(fields.get("grpc-message", ""), errors="replace")
    code = _BY_NUMBER.get(number)
    if code is None:
        return StreamError("UNKNOWN", shown(f"grpc-status {number}: {message}"), from_server=True)
    return StreamError(
        code, shown(message), from_server=True, details=_binary(fields.get("grpc-status-details-bin", ""))
    )


def reset_error(code: int) -> StreamError:
    """Map RST_STREAM's error code."""
    unlisted = "INTERNAL" if code <= max(ErrorCode) else "UNKNOWN"
    return StreamError(_FROM_RESET.get(code, unlisted), f"the server reset the stream ({error_name(code)})")


def _binary(value: str) -> bytes:
    """Decode a ``-bin`` value, whose base64 padding is optional; empty where it is not base64."""
    try:
        return base64.b64decode(value + "=" * (-len(value) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""
