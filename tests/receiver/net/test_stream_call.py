"""The protocol of a stream, without a socket: what a server may send, in any cut, and what it may not."""

from __future__ import annotations

import base64
import logging
import tracemalloc
from typing import TYPE_CHECKING

import h2.config
import h2.connection
import h2.events
import pytest
from hpack import Decoder
from hyperframe.frame import (
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peers.http2_frames import GREETING, OK, OPEN, data, feed, headers, message, new_call, raw, take_all

from receiver.net import frames
from receiver.net.call import request_headers

if TYPE_CHECKING:
    from receiver.net.call import Call

BODIES = [b"", b"a", b"x" * 600, bytes(range(256)) * 80, b"y" * 16_379, b"z" * 16_380, b"end"]


def everything() -> bytes:
    """One stream with every kind of frame that a server may send, and every way to frame a message."""
    wire = b"".join(map(message, BODIES))
    padded = HeadersFrame(1, pad_length=7, flags=["PADDED", "PRIORITY"], depends_on=0, stream_weight=15)
    block = headers(OPEN)[9:]
    padded.data = block[:5]
    parts = [
        SettingsFrame(0, settings={1: 4096, 3: 100, 4: 1 << 20, 5: 1 << 20, 6: 8192}).serialize(),
        SettingsFrame(0, flags=["ACK"]).serialize(),
        WindowUpdateFrame(0, window_increment=1000).serialize(),
        headers([(":status", "100")]),
        padded.serialize(),
        raw(frames.Type.CONTINUATION, 0, 1, b""),
        raw(frames.Type.CONTINUATION, frames.Flag.END_HEADERS, 1, block[5:]),
        data(message(b"plain")),
        PingFrame(0, opaque_data=b"12345678").serialize(),
        data(message(b"one") + message(b"two") + message(b"")),
        data(b""),
        data(message(b"padded"), padding=30),
        data(b"", padding=255),
        raw(0xBE, 0xFF, 1, b"a type that nobody knows"),
        PriorityFrame(3, depends_on=1, stream_weight=1).serialize(),
        WindowUpdateFrame(1, window_increment=1000).serialize(),
        SettingsFrame(0, settings={4: 10}).serialize(),
    ]
    # Frames of all sizes, whatever the messages' bounds.
    at, size = 0, 1
    while at < len(wire):
        parts.append(data(wire[at : at + size]))
        at += size
        size = size * 5 % 16_381
    parts += [
        GoAwayFrame(0, last_stream_id=(1 << 31) - 1, error_code=0).serialize(),
        PingFrame(0, opaque_data=b"graceful").serialize(),
        headers([*OK, ("grpc-message", ""), ("x-more", "v" * 100)], ended=True, cut=(1, 50)),
    ]
    return b"".join(parts)


EXPECTED = [b"plain", b"one", b"two", b"", b"padded", *BODIES]


def answers(call: Call) -> list[bytes]:
    """What the call wrote after its request, WINDOW_UPDATE apart: those depend on when the consumer takes."""
    out, found, at = call.outgoing(), [], 0
    out = out.removeprefix(frames.PREFACE)
    while at < len(out):
        length, kind, flags, _ = frames.read_header(out, at)
        if kind in (frames.Type.PING, frames.Type.GOAWAY, frames.Type.RST_STREAM) or (kind == 4 and flags):
            found.append(out[at : at + 9 + length])
        at += 9 + length
    return found


@pytest.mark.parametrize("size", [1, 2, 3, 7, 13, 14, 100, 16_393, 1 << 20])
def test_all_that_a_server_may_send_is_understood_in_parts_of_any_size(size: int) -> None:
    """Every message arrives once and in order, SETTINGS and PING are answered, and the status is OK."""
    call, wire = new_call(), everything()
    assert feed(call, (wire[at : at + size] for at in range(0, len(wire), size))) == EXPECTED
    assert (call.ready, call.ended, call.error) == (True, True, None)
    assert answers(call) == [
        SettingsFrame(0, flags=["ACK"]).serialize(),
        PingFrame(0, opaque_data=b"12345678", flags=["ACK"]).serialize(),
        SettingsFrame(0, flags=["ACK"]).serialize(),
        PingFrame(0, opaque_data=b"graceful", flags=["ACK"]).serialize(),
    ]


def test_a_stream_cut_in_two_at_any_byte_is_the_same_stream() -> None:
    """Wherever one read ends and the next begins, the messages and the end are the same."""
    bodies = [b"", b"q", b"r" * 300, b"s" * 20, b""]
    wire = (
        GREETING
        + headers(OPEN, cut=(3,))
        + b"".join(data(message(body)) for body in bodies)
        + data(message(b"t" * 40)[:3])
        + data(message(b"t" * 40)[3:] + message(b"u"), padding=2)
        + headers([("grpc-status", "14"), ("grpc-message", "bye%21")], ended=True)
    )
    for cut in range(len(wire) + 1):
        call = new_call()
        assert feed(call, (wire[:cut], wire[cut:])) == [*bodies, b"t" * 40, b"u"], cut
        assert str(call.error) == "UNAVAILABLE: bye!", cut


BROKEN: dict[str, tuple[bytes, str]] = {
    "HTTP/1.1": (b"HTTP/1.1 400 Bad Request\r\n\r\n", "speaks HTTP/1.1"),
    "TLS alert": (b"\x15\x03\x01\x00\x02\x02\x46\x00\x00", "speaks TLS where plain text"),
    "garbage": (b"SSH-2.0-OpenSSH_9.6\r\n", "does not speak HTTP/2: its first bytes are b'SSH-2.0-O'"),
    "no greeting": (headers(OPEN), "does not speak HTTP/2"),
    "acknowledgement as greeting": (SettingsFrame(0, flags=["ACK"]).serialize(), "does not speak HTTP/2"),
    "frame too long": (GREETING + raw(0, 0, 1, b"", length=16_385), "a frame of 16385 bytes, above 16384"),
    "SETTINGS on a stream": (GREETING + raw(4, 0, 1, b""), "SETTINGS on stream 1"),
    "SETTINGS cut": (GREETING + raw(4, 0, 0, b"12345"), "SETTINGS of 5 bytes"),
    "SETTINGS ACK with payload": (GREETING + raw(4, 1, 0, b"123456"), "acknowledgement with a payload"),
    "window setting": (raw(4, 0, 0, b"\0\4\x80\0\0\0"), "SETTINGS_INITIAL_WINDOW_SIZE 2147483648"),
    "frame size setting": (raw(4, 0, 0, b"\0\5\0\0\x3f\xff"), "SETTINGS_MAX_FRAME_SIZE 16383"),
    "push setting": (raw(4, 0, 0, b"\0\2\0\0\0\1"), "SETTINGS_ENABLE_PUSH 1"),
    "PING size": (GREETING + raw(6, 0, 0, b"1234567"), "PING of 7 bytes"),
    "PING on a stream": (GREETING + raw(6, 0, 1, b"12345678"), "PING on stream 1"),
    "WINDOW_UPDATE size": (GREETING + raw(8, 0, 0, b"12345"), "WINDOW_UPDATE of 5 bytes"),
    "WINDOW_UPDATE of nothing": (GREETING + raw(8, 0, 1, bytes(4)), "WINDOW_UPDATE of 0 bytes"),
    "WINDOW_UPDATE elsewhere": (GREETING + raw(8, 0, 3, b"\0\0\0\1"), "on stream 3"),
    "WINDOW_UPDATE too far": (GREETING + raw(8, 0, 0, b"\x7f\xff\xff\xff"), "a window of 2147"),
    "RST_STREAM size": (GREETING + raw(3, 0, 1, b"123"), "RST_STREAM of 3 bytes"),
    "RST_STREAM elsewhere": (GREETING + raw(3, 0, 0, bytes(4)), "RST_STREAM on stream 0"),
    "GOAWAY size": (GREETING + raw(7, 0, 0, b"1234567"), "GOAWAY of 7 bytes"),
    "GOAWAY on a stream": (GREETING + raw(7, 0, 1, bytes(8)), "GOAWAY on stream 1"),
    "PRIORITY size": (GREETING + raw(2, 0, 1, b"1234"), "PRIORITY of 4 bytes"),
    "PRIORITY on stream 0": (GREETING + raw(2, 0, 0, b"12345"), "PRIORITY on stream 0"),
    "PUSH_PROMISE": (
        GREETING + PushPromiseFrame(1, promised_stream_id=2, data=b"", flags=["END_HEADERS"]).serialize(),
        "PUSH_PROMISE where none may come",
    ),
    "DATA before headers": (GREETING + data(message(b"a")), "DATA before the headers"),
    "DATA elsewhere": (GREETING + headers(OPEN) + data(message(b"a"), stream=3), "DATA on stream 3"),
    "HEADERS elsewhere": (GREETING + headers(OPEN, stream=2), "HEADERS on stream 2"),
    "CONTINUATION alone": (GREETING + raw(9, 4, 1, b""), "CONTINUATION where none may come"),
    "a frame inside of a block": (
        GREETING + raw(1, 0, 1, b"") + PingFrame(0, opaque_data=bytes(8)).serialize(),
        "a frame of type 6 on stream 0 inside of a header block",
    ),
    "headers twice": (GREETING + headers(OPEN) + headers(OPEN), "does not end the stream"),
    "no :status": (GREETING + headers(OK), "without :status"),
    "no HPACK": (GREETING + raw(1, 4, 1, b"\xff\xff\xff\xff\xff\xff\xff\xff"), "not HPACK"),
    "padding without length": (GREETING + headers(OPEN) + raw(0, 8, 1, b""), "without a padding length"),
    "padding too long": (GREETING + headers(OPEN) + raw(0, 8, 1, b"\x05abcd"), "padding is longer"),
    "HEADERS without priority": (GREETING + raw(1, 36, 1, b"abc"), "padding is longer"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_server_that_breaks_the_protocol_gets_one_clear_error(name: str) -> None:
    """The same error however the bytes are cut, GOAWAY for the server, and nothing after it is looked at."""
    wire, text = BROKEN[name]
    wire += data(message(b"after"))
    for size in (1, 5, len(wire)):
        call = new_call()
        messages = feed(call, (wire[at : at + size] for at in range(0, len(wire), size)))
        assert call.error is not None
        assert text in call.error.message
        assert call.error.code == ("INTERNAL" if call.ready else "UNAVAILABLE") or "setting" in name
        assert not call.error.from_server
        assert messages == []
        assert answers(call)[-1][3] == frames.Type.GOAWAY


@pytest.mark.parametrize(
    ("wire", "error", "from_server"),
    [
        (headers([(":status", "200"), ("grpc-status", "5")], ended=True), "NOT_FOUND: ", True),
        (
            headers([*OPEN, ("grpc-status", "2"), ("grpc-message", "a%20%e2%82%ac%zz")], ended=True),
            "UNKNOWN: a €%zz",
            True,
        ),
        (
            headers([*OPEN, ("grpc-status", "99"), ("grpc-message", "?")], ended=True),
            "UNKNOWN: grpc-status 99: ?",
            True,
        ),
        (headers([*OPEN, ("grpc-status", "00")], ended=True), "UNKNOWN: grpc-status 00: ", True),
        (headers([*OPEN, ("grpc-status", "-1")], ended=True), "UNKNOWN: grpc-status -1: ", True),
        (headers(OPEN, ended=True), "UNKNOWN: the server ended the call without a grpc-status", False),
        (
            headers(OPEN) + headers([("x", "y")], ended=True),
            "UNKNOWN: the server ended the call without a grpc-status",
            False,
        ),
        (headers(OPEN) + data(b"", ended=True), "INTERNAL: the server ended the stream without trailers", False),
        (
            headers(OPEN) + data(b"\0\0\0\0\5ab") + headers(OK, ended=True),
            "INTERNAL: .* in the middle of a message",
            False,
        ),
        (headers(OPEN) + data(b"\0\0") + headers(OK, ended=True), "INTERNAL: .* in the middle of a message", False),
        # A status that the server gives wins over what could be concluded.
        (headers([(":status", "503"), ("grpc-status", "7")], ended=True), "PERMISSION_DENIED: ", True),
        (headers([(":status", "400")], ended=True), "INTERNAL: .*HTTP status 400", False),
        (headers([(":status", "401")], ended=True), "UNAUTHENTICATED: .*HTTP status 401", False),
        (headers([(":status", "403")], ended=True), "PERMISSION_DENIED: .*HTTP status 403", False),
        (headers([(":status", "404")], ended=True), "UNIMPLEMENTED: .*HTTP status 404", False),
        (headers([(":status", "429")], ended=True), "UNAVAILABLE: .*HTTP status 429", False),
        (headers([(":status", "302")], ended=True), "UNKNOWN: .*HTTP status 302", False),
        (
            headers([(":status", "502"), ("content-type", "text/html")]) + data(message(b"<html>")),
            "UNAVAILABLE: .*HTTP status 502 and content-type text/html instead of gRPC",
            False,
        ),
        (
            headers([(":status", "200"), ("content-type", "text/html")]) + data(message(b"<html>")),
            "UNKNOWN: .*'text/html' instead of application/grpc",
            False,
        ),
        (headers([(":status", "200"), ("content-type", "application/grpcx")]), "UNKNOWN: .*application/grpcx", False),
        (RstStreamFrame(1, error_code=8).serialize(), r"CANCELLED: .*\(CANCEL\)", False),
        (RstStreamFrame(1, error_code=7).serialize(), r"UNAVAILABLE: .*\(REFUSED_STREAM\)", False),
        (RstStreamFrame(1, error_code=11).serialize(), r"RESOURCE_EXHAUSTED: .*\(ENHANCE_YOUR_CALM\)", False),
        (RstStreamFrame(1, error_code=12).serialize(), r"PERMISSION_DENIED: .*\(INADEQUATE_SECURITY\)", False),
        (RstStreamFrame(1, error_code=2).serialize(), r"INTERNAL: .*\(INTERNAL_ERROR\)", False),
        (RstStreamFrame(1, error_code=77).serialize(), r"UNKNOWN: .*\(error code 77\)", False),
        (
            GoAwayFrame(0, last_stream_id=0).serialize(),
            "UNAVAILABLE: the server did not take the call.*NO_ERROR",
            False,
        ),
        (
            GoAwayFrame(0, last_stream_id=1, error_code=11, additional_data=b"too_many_pings").serialize()
            + RstStreamFrame(1, error_code=8).serialize(),
            r"CANCELLED: .*GOAWAY ENHANCE_YOUR_CALM \(too_many_pings\)",
            False,
        ),
        (headers(OPEN) + data(message(b"a", compressed=True)), "INTERNAL: .*compressed message.*identity", False),
        (
            headers(OPEN) + data(message(b"a" * 2000)[:9]),
            "RESOURCE_EXHAUSTED: .*message of 2000 bytes, above the maximum of 1000",
            False,
        ),
        (
            headers(OPEN) + data(message(b"a" * 1001)),
            "RESOURCE_EXHAUSTED: .*of 1001 bytes, above the maximum of 1000",
            False,
        ),
        (headers(OPEN) + data(b"\0\xff\xff") + data(b"\xff\xff"), "RESOURCE_EXHAUSTED: .*of 4294967295 bytes", False),
    ],
)
def test_an_end_has_the_status_that_grpc_says(wire: bytes, error: str, *, from_server: bool) -> None:
    """Trailers, headers alone, HTTP's own status, RST_STREAM, GOAWAY and messages that may not be."""
    call = new_call(max_message_bytes=1000)
    assert feed(call, (GREETING, wire)) == []
    assert call.ended
    with pytest.raises(type(call.error), match=f"(?s)^{error}"):
        raise call.error
    assert call.error.from_server == from_server


def test_messages_before_a_violation_are_kept() -> None:
    """What arrived whole is handed out before the error."""
    call = new_call()
    call.receive(GREETING + headers(OPEN) + data(message(b"good")) + raw(6, 0, 0, b"short"))
    assert call.ended
    assert take_all(call) == [b"good"]


def test_details_of_a_status_are_available() -> None:
    """grpc-status-details-bin is decoded with or without its padding; what is not base64 is nothing."""
    text = base64.b64encode(b"\x08\x02detail").decode()
    for value, expected in ((text, b"\x08\x02detail"), (text.rstrip("="), b"\x08\x02detail"), ("=!", b"")):
        call = new_call()
        fields = [*OPEN, ("grpc-status", "2"), ("grpc-status-details-bin", value)]
        call.receive(GREETING + headers(fields, ended=True))
        assert call.error is not None
        assert call.error.details == expected


def test_a_graceful_goaway_lets_the_stream_go_on() -> None:
    """A server that shuts down in order finishes what it has begun; its reason is told when the connection closes."""
    call = new_call()
    call.receive(GREETING + headers(OPEN) + GoAwayFrame(0, last_stream_id=1, error_code=0).serialize())
    assert feed(call, [data(message(b"more"))]) == [b"more"]
    assert not call.ended
    call.disconnect("was closed by the server")
    assert str(call.error) == (
        "UNAVAILABLE: the connection was closed by the server; the server had sent GOAWAY NO_ERROR"
    )


@pytest.mark.parametrize(
    ("wire", "text"),
    [
        (b"", "the server sent nothing: does it expect TLS"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "speaks TLS where plain text was expected"),
        (b"HTTP/", "speaks HTTP/1.1"),
        (b"\0\0\0", "does not speak HTTP/2"),
        (GREETING + headers(OPEN) + data(message(b"abc")[:6]), "was lost: reset in the middle of a message"),
        (GREETING, "was lost: reset$"),
    ],
)
def test_a_connection_that_closes_says_at_what(wire: bytes, text: str) -> None:
    """The error tells a wrong kind of server from a lost one."""
    call = new_call()
    call.receive(wire)
    call.disconnect("was lost: reset")
    assert call.error is not None
    assert call.error.code == "UNAVAILABLE"
    with pytest.raises(type(call.error), match=text):
        raise call.error


# Memory


@pytest.mark.parametrize(
    ("flood", "text"),
    [
        (raw(9, 0, 1, b""), "headers of more than 65536 bytes"),
        (raw(9, 0, 1, b"\0\1a\1b" * 1000), "headers of more than 65536 bytes"),
    ],
)
def test_headers_without_end_are_bounded(flood: bytes, text: str) -> None:
    """CONTINUATION after CONTINUATION, empty or not, ends at a limit, and long before the flood does."""
    call = new_call()
    call.receive(GREETING + raw(1, 0, 1, b""))
    for _ in range(10_000):
        call.receive(flood)
    assert call.error is not None
    assert text in call.error.message


def test_headers_that_inflate_are_bounded() -> None:
    """A few bytes that name a large table entry again and again are refused at the limit."""
    call = new_call()
    block = b"\x40\x01a\x7f\xa1\x1e" + b"b" * 4000 + b"\xbe" * 5000
    call.receive(GREETING + raw(1, 4, 1, block))
    assert call.error is not None
    assert "headers that decode to more than 65536 bytes" in call.error.message


@pytest.mark.parametrize("body", [b"", b"ab", b"x" * 50, b"x" * 16_379, b"x" * 40_000])
@pytest.mark.parametrize("per_read", [1 << 14, 1 << 18])
def test_a_consumer_that_stops_stops_the_server_within_the_window(body: bytes, per_read: int) -> None:
    """Nothing is granted for what was not taken; once it is taken, all of the window is granted again."""
    window = 1 << 17
    call = new_call(window_bytes=window)
    call.receive(GREETING + headers(OPEN))
    call.outgoing()
    wire, sent, granted = message(body) * (4 * window // len(message(body))), 0, window
    total: list[bytes] = []
    while sent < len(wire):
        while sent < min(granted, len(wire)):
            room = min(granted - sent, per_read)
            part = wire[sent : sent + room]
            call.receive(b"".join(data(part[at : at + 16_384]) for at in range(0, len(part), 16_384)))
            assert not call.ended
            sent += len(part)
            granted += granted_by(call.outgoing())
        # The bytes of one incomplete message may have been granted ahead, as long as none was complete.
        assert sum(map(len, total)) + window + 2 * len(message(body)) + 5 * len(total) >= sent or sent == len(wire)
        taken = take_all(call)
        assert taken or sent == len(wire)
        total += taken
        granted += granted_by(call.outgoing())
    assert total == [body] * (4 * window // len(message(body)))


def test_window_is_granted_in_large_amounts() -> None:
    """Taking message by message does not send a WINDOW_UPDATE for each."""
    call = new_call(window_bytes=100_000)
    call.receive(GREETING + headers(OPEN))
    call.outgoing()
    grants = []
    for _ in range(1000):
        call.receive(data(message(b"x" * 95)))
        take_all(call)
        grants.append(granted_by(call.outgoing()))
    assert [grant for grant in grants if grant] == [25_000] * 4


def test_what_was_taken_from_a_large_window_is_granted_soon() -> None:
    """Else a quarter of what may be read ahead could not be used in a burst."""
    window, body = 64 << 20, b"x" * 16_379
    call = new_call(window_bytes=window)
    call.receive(GREETING + headers(OPEN))
    call.outgoing()
    wire, taken, granted = data(message(body)) * 64, 0, 0
    for _ in range(32):
        call.receive(wire)
        taken += len(take_all(call)) * (5 + len(body))
        granted += granted_by(call.outgoing())
        assert taken - granted < 1 << 20


def granted_by(out: bytes) -> int:
    """The bytes that WINDOW_UPDATE frames in ``out`` grant; connection and stream get the same."""
    grants, at = {0: 0, 1: 0}, 0
    while at < len(out):
        length, kind, _, stream = frames.read_header(out, at)
        assert kind == frames.Type.WINDOW_UPDATE
        grants[stream] += int.from_bytes(out[at + 9 : at + 13], "big")
        at += 9 + length
    assert grants[0] == grants[1]
    return grants[0]


def test_a_message_larger_than_the_window_arrives() -> None:
    """The parts of an incomplete message are granted again while nothing else can be taken."""
    window = frames.INITIAL_WINDOW_BYTES
    call = new_call(window_bytes=window, max_message_bytes=1 << 20)
    call.receive(GREETING + headers(OPEN))
    call.outgoing()
    wire, room, at = message(b"m" * 900_000), window, 0
    while at < len(wire):
        assert room > 0, f"stuck at {at}"
        part = wire[at : at + min(room, 16_384)]
        call.receive(data(part))
        at += len(part)
        room += granted_by(call.outgoing()) - len(part)
    assert take_all(call) == [b"m" * 900_000]


@pytest.mark.parametrize("padding", [None, 100])
def test_a_server_that_ignores_the_window_is_refused(padding: int | None) -> None:
    """More than was granted is FLOW_CONTROL_ERROR, padding included; what came before is kept."""
    call = new_call(window_bytes=frames.INITIAL_WINDOW_BYTES)
    call.receive(GREETING + headers(OPEN))
    frame = data(message(b"x" * 16_000), padding=padding)
    call.receive(frame * 4)
    assert not call.ended
    call.receive(frame * 100)
    assert call.error is not None
    assert call.error.code == "INTERNAL"
    assert "FLOW_CONTROL_ERROR" in call.error.message
    assert take_all(call) == [b"x" * 16_000] * 4


def test_messages_of_two_bytes_cost_no_more_than_is_documented() -> None:
    """The worst case of Python's own bytes per message: eight times the window."""
    window = 1 << 20
    call = new_call(window_bytes=window)
    call.receive(GREETING + headers(OPEN))
    part = data(b"".join(message(bytes([n & 255, 200])) for n in range(2340)))
    tracemalloc.start()
    try:
        for _ in range(window // (len(part) - 9)):
            call.receive(part)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert not call.ended
    assert held < 8.5 * window


# The request


def requested(call: Call) -> tuple[list[tuple[str, str]], bytes]:
    """What a server written by others reads: headers, and the request as far as it was sent."""
    server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
    server.initiate_connection()
    fields, body = [], b""
    for event in server.receive_data(call.outgoing()):
        if isinstance(event, h2.events.RequestReceived):
            fields = list(event.headers)
        if isinstance(event, h2.events.DataReceived):
            body += event.data
    return fields, body


def test_the_request_has_what_grpc_demands() -> None:
    """Pseudo-headers first, te, content-type, the encodings, the deadline, and metadata in lower case."""
    fields = request_headers(
        "/a.B/C", scheme="https", authority="agent:1", metadata=[("Authorization", "Bearer x")], timeout_s=1.5
    )
    call = new_call()
    call = type(call)(fields, b"request", max_message_bytes=1, window_bytes=1 << 20)
    seen, body = requested(call)
    assert seen == [
        (":method", "POST"),
        (":scheme", "https"),
        (":path", "/a.B/C"),
        (":authority", "agent:1"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("grpc-accept-encoding", "identity"),
        ("grpc-timeout", "1500m"),
        ("authorization", "Bearer x"),
    ]
    assert body == message(b"request")


def test_no_log_shows_a_credential(caplog: pytest.LogCaptureFixture) -> None:
    """At debug level the hpack library logs what it encodes, but no value of ours."""
    caplog.set_level(logging.DEBUG)
    fields = request_headers("/a.B/C", scheme="http", authority="a", metadata=[("authorization", "Bearer s3cret")])
    type(new_call())(fields, b"", max_message_bytes=1, window_bytes=1 << 20)
    assert "authorization" in caplog.text
    assert "s3cret" not in caplog.text


def test_a_header_block_larger_than_a_frame_is_continued() -> None:
    """Large metadata goes over CONTINUATION frames."""
    metadata = [("x-large", "v" * 40_000)]
    fields = request_headers("/a.B/C", scheme="http", authority="a", metadata=metadata)
    call = type(new_call())(fields, b"", max_message_bytes=1, window_bytes=1 << 20)
    sizes, out, at = [], call.outgoing().removeprefix(frames.PREFACE), 0
    block = b""
    while at < len(out):
        length, kind, flags, _ = frames.read_header(out, at)
        if kind in (frames.Type.HEADERS, frames.Type.CONTINUATION):
            sizes.append((kind, length, bool(flags & frames.Flag.END_HEADERS)))
            block += out[at + 9 : at + 9 + length]
        at += 9 + length
    assert [kind for kind, _, _ in sizes] == [1, 9, 9]
    assert [last for _, _, last in sizes] == [False, False, True]
    assert all(size <= 16_384 for _, size, _ in sizes)
    assert ("x-large", "v" * 40_000) in Decoder(1 << 20).decode(block)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("grpc-timeout", "1S", "gRPC's own header"),
        ("TE", "x", "gRPC's own header"),
        (":path", "/x", "cannot be a metadata name"),
        ("a b", "x", "cannot be a metadata name"),
        ("", "x", "cannot be a metadata name"),
        ("token", "secret\r\nx: y", "other than printable ASCII"),
        ("token", "secret é", "other than printable ASCII"),
    ],
)
def test_metadata_that_cannot_be_sent_is_refused(name: str, value: str, text: str) -> None:
    """The error names the header and never shows its value."""
    with pytest.raises(ValueError, match=text) as caught:
        request_headers("/a.B/C", scheme="http", authority="a", metadata=[(name, value)])
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("window", [0, 65_534, 1 << 31])
def test_a_window_that_http2_cannot_have_is_refused(window: int) -> None:
    """The connection's initial window cannot be lowered, and none is larger than 31 bits."""
    with pytest.raises(ValueError, match="window_bytes"):
        new_call(window_bytes=window)


def test_a_large_request_waits_for_the_servers_windows() -> None:
    """No more is sent than connection and stream take, a window may become negative, and END_STREAM comes last."""
    call = new_call(b"r" * 200_000)
    sent = data_of(call.outgoing())
    assert len(sent) == 65_535
    # 65,535 are in flight; a smaller initial window leaves the stream's at -55,535.
    call.receive(SettingsFrame(0, settings={4: 10_000}).serialize())
    call.receive(WindowUpdateFrame(0, window_increment=1 << 20).serialize())
    call.receive(WindowUpdateFrame(1, window_increment=55_535).serialize())
    assert data_of(call.outgoing()) == b""
    call.receive(WindowUpdateFrame(1, window_increment=7).serialize())
    sent += (more := data_of(call.outgoing()))
    assert len(more) == 7
    call.receive(SettingsFrame(0, settings={4: 1 << 20}).serialize())
    out = call.outgoing()
    sent += data_of(out)
    assert sent == message(b"r" * 200_000)
    assert call_ends(out)


def data_of(out: bytes) -> bytes:
    """The payloads of the DATA frames in ``out``."""
    out, payload, at = out.removeprefix(frames.PREFACE), b"", 0
    while at < len(out):
        length, kind, _, _ = frames.read_header(out, at)
        assert length <= 16_384
        if kind == frames.Type.DATA:
            payload += out[at + 9 : at + 9 + length]
        at += 9 + length
    return payload


def call_ends(out: bytes) -> bool:
    """Whether the last DATA frame in ``out`` has END_STREAM."""
    flag, at = False, 0
    while at < len(out):
        length, kind, flags, _ = frames.read_header(out, at)
        flag = bool(flags & 1) if kind == frames.Type.DATA else flag
        at += 9 + length
    return flag


def test_cancelling_resets_the_stream_once() -> None:
    """RST_STREAM(CANCEL) while the call is open, and nothing after its end."""
    call = new_call()
    call.receive(GREETING)
    call.outgoing()
    call.cancel()
    assert call.outgoing() == RstStreamFrame(1, error_code=8).serialize()
    call.cancel()
    assert call.outgoing() == b""


# Generated framings, with a server written by others


@st.composite
def sessions(draw: st.DrawFn) -> tuple[list[bytes], list[tuple[str, int]], list[int], int]:
    """Messages, what the server does between them, the sizes of frames, and the size of reads."""
    if draw(st.booleans()):
        bodies, size = draw(st.lists(st.binary(max_size=30), max_size=8)), st.integers(1, 40)
    else:
        bodies = [b"m" * n for n in draw(st.lists(st.integers(0, 70_000), max_size=6))]
        size = st.one_of(st.integers(1000, 16_384), st.just(16_384))
    actions = draw(st.lists(st.tuples(st.sampled_from(["ping", "settings", "pad", "empty"]), st.integers(0, 255))))
    sizes = draw(st.lists(size, min_size=1, max_size=8))
    return bodies, actions, sizes, draw(st.one_of(st.integers(20, 100), st.integers(1000, 300_000)))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sessions())
def test_any_framing_by_the_h2_library_brings_the_same_messages(
    session: tuple[list[bytes], list[tuple[str, int]], list[int], int],
) -> None:
    """However h2 frames the messages, pads, pings and changes its settings, each arrives once and in order."""
    bodies, actions, sizes, read_size = session
    pair = Pair(read_size)
    pair.server.send_headers(1, OPEN)
    wire, at, step = b"".join(map(message, bodies)), 0, 0
    while at < len(wire):
        size = min(sizes[step % len(sizes)], pair.room())
        padding = pair.act(*actions[step % len(actions)]) if actions else None
        size = min(size, pair.room())
        if padding is not None and size > padding + 1:
            size -= padding + 1
        else:
            padding = None
        pair.server.send_data(1, wire[at : at + size], pad_length=padding)
        at += len(wire[at : at + size])
        step += 1
        if pair.room() < 1000:
            pair.exchange()
            assert pair.room() > 1000, "the reader took all, but granted nothing"
    pair.server.send_headers(1, OK, end_stream=True)
    pair.exchange()
    assert pair.got == bodies
    assert pair.call.ended
    assert pair.call.error is None


class Pair:
    """A call and the h2 library as its server, in one process without a socket."""

    def __init__(self, read_size: int) -> None:
        """Greet each other; the call reads ``read_size`` bytes at a time."""
        self.server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self.server.initiate_connection()
        self.call = new_call(window_bytes=frames.INITIAL_WINDOW_BYTES)
        self.got: list[bytes] = []
        self._read_size = read_size
        self.exchange()

    def exchange(self) -> None:
        """Move what both sides have to say, until neither has."""
        while (out := self.call.outgoing()) or (wire := self.server.data_to_send()):
            if out:
                for event in self.server.receive_data(out):
                    assert not isinstance(event, h2.events.ConnectionTerminated | h2.events.StreamReset)
                wire = self.server.data_to_send()
            self.got += feed(
                self.call, (wire[at : at + self._read_size] for at in range(0, len(wire), self._read_size))
            )

    def room(self) -> int:
        """How much the server may send."""
        return self.server.local_flow_control_window(1)

    def act(self, action: str, number: int) -> int | None:
        """Do something beside sending messages; returns the padding of the next frame."""
        if action == "ping":
            self.server.ping(bytes([number] * 8))
        elif action == "settings":
            self.server.update_settings({4: 65_535 + number})
        elif action == "empty":
            self.server.send_data(1, b"", pad_length=min(number, self.room() - 1))
        else:
            return number
        return None


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_streams_never_raise_and_do_not_depend_on_the_cut(draw: st.DataObject) -> None:
    """Flipped, inserted and removed bytes: an end or a wait, the same in one piece as byte by byte."""
    wire = bytearray(
        GREETING
        + headers(OPEN)
        + data(message(b"abc"))
        + data(message(b"de") + message(b"f"), padding=3)
        + PingFrame(0, opaque_data=bytes(8)).serialize()
        + headers(OK, ended=True)
    )
    for _ in range(draw.draw(st.integers(1, 4))):
        at = draw.draw(st.integers(0, len(wire) - 1))
        match draw.draw(st.sampled_from(["flip", "insert", "remove"])):
            case "flip":
                wire[at] = draw.draw(st.integers(0, 255))
            case "insert":
                wire[at:at] = draw.draw(st.binary(min_size=1, max_size=12))
            case _:
                del wire[at : at + draw.draw(st.integers(1, 12))]
                wire += b"\0"
    whole, single = new_call(), new_call()
    results = [
        (feed(call, parts), call.ended, str(call.error), answers(call))
        for call, parts in ((whole, [bytes(wire)]), (single, [bytes([byte]) for byte in wire]))
    ]
    assert results[0] == results[1]
