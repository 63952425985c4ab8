"""One server-streaming gRPC call over an HTTP/2 connection of its own, without I/O (PROTOCOL-HTTP2.md of gRPC). Pure.

The rim (:mod:`receiver.net.stream`) feeds what the server sent, writes what :meth:`Call.outgoing` returns after every
step, and hands messages to the consumer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, assert_never

from hpack import Encoder

from receiver.net import frames
from receiver.net.decoder import MAX_HEADER_BLOCK_BYTES, Decoder
from receiver.net.frames import (
    Broken,
    Ended,
    ErrorCode,
    Event,
    Flag,
    GoAway,
    Headers,
    Ping,
    Reset,
    Setting,
    Settings,
    Type,
    WindowUpdate,
)
from receiver.net.inbox import Inbox
from receiver.net.status import StreamError, reset_error, response_error, shown, trailers_error

if TYPE_CHECKING:
    from collections.abc import Sequence

_CONNECTION: Final = 0


class Call:
    """The state of one call.

    Attributes:
        ready: The server greeted: it speaks HTTP/2. Its headers may come much later, with the first message.
        ended: Nothing more will arrive; messages may still wait.
        error: Why it ended; None for the status OK.
    """

    def __init__(
        self, headers: Sequence[tuple[str, str]], request: bytes, *, max_message_bytes: int, window_bytes: int
    ) -> None:
        """Begin the call, optimistically: the request goes out before the server's settings come.

        Args:
            headers: As :func:`request_headers` makes them.
            request: The one serialised message.
            max_message_bytes: A larger message ends the call with RESOURCE_EXHAUSTED.
            window_bytes: How much the server may send ahead of the consumer; at least 65,535, HTTP/2's initial window.

        Raises:
            ValueError: ``window_bytes`` is out of its range.
        """
        if not frames.INITIAL_WINDOW_BYTES <= window_bytes <= frames.MAX_WINDOW_BYTES:
            raise ValueError(
                f"window_bytes is {window_bytes}, not between {frames.INITIAL_WINDOW_BYTES} and "
                f"{frames.MAX_WINDOW_BYTES} as HTTP/2 needs"
            )
        self.ready = False
        self.ended = False
        self.error: StreamError | None = None
        self._inbox = Inbox(window_bytes)
        self._decoder = Decoder(self._inbox, max_message_bytes)
        self._goaway = ""
        self._peer_initial_window = frames.INITIAL_WINDOW_BYTES
        self._peer_windows = [frames.INITIAL_WINDOW_BYTES, frames.INITIAL_WINDOW_BYTES]
        """What the server takes: of the connection, of the stream."""
        self._request = b"\0" + len(request).to_bytes(4, "big") + request
        self._request_sent = 0
        self._out = [
            frames.PREFACE,
            frames.settings_frame(
                (
                    (Setting.ENABLE_PUSH, 0),
                    (Setting.INITIAL_WINDOW_SIZE, window_bytes),
                    (Setting.MAX_HEADER_LIST_SIZE, MAX_HEADER_BLOCK_BYTES),
                )
            ),
        ]
        if more := window_bytes - frames.INITIAL_WINDOW_BYTES:
            self._out.append(frames.window_update_frame(_CONNECTION, more))
        # Never indexed: the server's HEADER_TABLE_SIZE is thereby obeyed before it is known, and hpack's debug log
        # shows no value, which may be a credential.
        block = Encoder().encode([(name, value, True) for name, value in headers])
        self._out.append(frames.headers_frames(block))
        self._send_request()

    def __bool__(self) -> bool:
        """Whether a message waits."""
        return bool(self._inbox)

    @property
    def full(self) -> bool:
        """Whether a whole batch waits: waiting longer would not make it larger."""
        return self._inbox.full

    @property
    def waiting_bytes(self) -> int:
        """How many bytes of messages wait to be taken."""
        return self._inbox.waiting_bytes

    def receive(self, data: bytes | memoryview) -> None:
        """Take in what the server sent; nothing after the end."""
        if not self.ended:
            self._decoder.feed(data)
            self._advance()

    def take(self) -> list[bytes]:
        """Return up to 256 messages, and grant the server as much again; empty when none waits."""
        messages = self._inbox.take()
        self._grant()
        return messages

    def outgoing(self) -> bytes:
        """Return what must be written now."""
        data = b"".join(self._out)
        self._out.clear()
        return data

    def cancel(self) -> None:
        """End the call from our side."""
        if not self.ended:
            self._end(StreamError("CANCELLED", "the call was cancelled here"))
            self._out.append(frames.reset_frame(ErrorCode.CANCEL))

    def fail(self, code: str, message: str) -> None:
        """End the call for a reason that lies in the connection; what has arrived can still be taken."""
        if not self.ended:
            self._end(StreamError(code, message))

    def disconnect(self, reason: str) -> None:
        """End the call because the connection closed."""
        if not self.ready:
            self.fail("UNAVAILABLE", f"the connection {reason}; {self._decoder.refusal()}")
        else:
            inside = " in the middle of a message" if self._decoder.inside_message else ""
            self.fail("UNAVAILABLE", f"the connection {reason}{inside}{self._goaway}")

    def silence(self) -> str:
        """Say what has come from a server that never greeted."""
        return self._decoder.refusal()

    def _advance(self) -> None:
        while not self.ended and (event := self._decoder.next_event()) is not None:
            self._handle(event)
        self._inbox.seal()
        self._grant()

    def _end(self, error: StreamError | None) -> None:
        self.ended = True
        self.error = error

    def _grant(self) -> None:
        if not self.ended and (more := self._inbox.grant()):
            self._out.append(frames.window_update_frame(_CONNECTION, more))
            self._out.append(frames.window_update_frame(frames.CALL_STREAM, more))

    def _handle(self, event: Event) -> None:
        match event:
            case Settings():
                self._apply(event)
            case Ping(opaque):
                self._out.append(frames.frame(Type.PING, Flag.ACK, _CONNECTION, opaque))
            case WindowUpdate(stream, increment):
                self._widen(stream, increment)
                self._send_request()
            case Headers():
                self._headers(event)
            case Ended():
                self.fail("INTERNAL", "the server ended the stream without trailers")
            case Reset(code):
                error = reset_error(code)
                self.fail(error.code, error.message + self._goaway)
            case GoAway():
                self._go_away(event)
            case Broken(violation):
                self._break(violation)
            case _:
                assert_never(event)

    def _apply(self, settings: Settings) -> None:
        self.ready = True
        for name, value in settings.values:
            # MAX_FRAME_SIZE is never below the frames that we send, HEADER_TABLE_SIZE has no effect on the only
            # header block, and the others concern what a client with one request does not do.
            if name == Setting.INITIAL_WINDOW_SIZE:
                # May leave a negative window (RFC 9113, section 6.9.2).
                self._widen(frames.CALL_STREAM, value - self._peer_initial_window)
                self._peer_initial_window = value
        self._out.append(frames.frame(Type.SETTINGS, Flag.ACK, _CONNECTION))
        self._send_request()

    def _widen(self, stream: int, increment: int) -> None:
        self._peer_windows[stream] += increment
        if self._peer_windows[stream] > frames.MAX_WINDOW_BYTES:
            self._break(
                frames.Violation(f"a window of {self._peer_windows[stream]} bytes", ErrorCode.FLOW_CONTROL_ERROR)
            )

    def _send_request(self) -> None:
        while not self.ended and self._request_sent < len(self._request):
            room = min(*self._peer_windows, frames.MAX_PAYLOAD_BYTES)
            if room <= 0:
                return
            part = self._request[self._request_sent : self._request_sent + room]
            self._request_sent += len(part)
            self._peer_windows = [window - len(part) for window in self._peer_windows]
            last = self._request_sent == len(self._request)
            self._out.append(frames.frame(Type.DATA, Flag.END_STREAM if last else 0, frames.CALL_STREAM, part))

    def _headers(self, headers: Headers) -> None:
        if not headers.ended:
            if error := response_error(headers.fields):
                # What follows are no gRPC messages, even where it could be read as such: it is not read.
                self.cancel()
                self.error = error
            return
        error = trailers_error(headers.fields)
        if error is None and self._decoder.inside_message:
            error = StreamError("INTERNAL", "the server ended the stream in the middle of a message")
        self._end(error)

    def _go_away(self, event: GoAway) -> None:
        text = event.debug.decode("utf-8", "replace")
        name = frames.error_name(event.code)
        self._goaway = f"; the server had sent GOAWAY {name}" + (f" ({shown(text)})" if text else "")
        # A server that shuts down gracefully lets streams that it knows go on to their end.
        if event.last_stream < frames.CALL_STREAM:
            self.fail("UNAVAILABLE", f"the server did not take the call{self._goaway}")

    def _break(self, violation: frames.Violation) -> None:
        text = violation.text
        if violation.status == "INTERNAL" and violation.code != ErrorCode.CANCEL:
            text = f"the server broke HTTP/2 ({violation.code.name}): {text}"
        self.fail(violation.status, text + self._goaway)
        if violation.code == ErrorCode.CANCEL:
            self._out.append(frames.reset_frame(ErrorCode.CANCEL))
        else:
            self._out.append(frames.goaway_frame(violation.code, violation.text.encode()))


def request_headers(
    method: str,
    *,
    scheme: str,
    authority: str,
    metadata: Sequence[tuple[str, str]] = (),
    timeout_s: float | None = None,
) -> list[tuple[str, str]]:
    """Make the headers of a call to ``/package.Service/Method``.

    Raises:
        ValueError: ``metadata`` has a name that is gRPC's own or is no header name, or a value that is not printable
            ASCII; the value is not shown.
    """
    headers = [(":method", "POST"), (":scheme", scheme), (":path", method), (":authority", authority)]
    headers += [("te", "trailers"), ("content-type", "application/grpc"), ("grpc-accept-encoding", "identity")]
    if timeout_s is not None:
        # At most eight digits (PROTOCOL-HTTP2.md, "TimeoutValue"): milliseconds reach over a day.
        headers.append(("grpc-timeout", f"{min(max(int(timeout_s * 1000), 1), 99_999_999)}m"))
    for name, value in metadata:
        if not name.isascii() or not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
            raise ValueError(f"{name!r} cannot be a metadata name: letters, digits, '-', '_' and '.' only")
        if name.lower().startswith("grpc-") or name.lower() in _RESERVED:
            raise ValueError(f"{name!r} cannot be set as metadata: it is gRPC's own header")
        if not value.isascii() or not value.isprintable():
            raise ValueError(f"the value of the metadata {name!r} has characters other than printable ASCII")
        headers.append((name.lower(), value))
    return headers


_RESERVED: Final = frozenset({"te", "content-type", "connection", "host", "transfer-encoding", "content-length"})
