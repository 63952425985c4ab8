"""What a failed call means and what to do about it."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from receiver.identity import in_container
from receiver.net.grpc import is_loopback, parse_endpoint
from receiver.sources.tetragon.discovery import Problem

if TYPE_CHECKING:
    from receiver.net.status import StreamError

_TOO_LARGE = "above the maximum"
_CLOSED = ("Socket closed", "reset by peer", "Broken pipe")
_NO_TLS = ("WRONG_VERSION_NUMBER", "handshake failed", "verification check failed", "CERTIFICATE")


def connection_problem(
    error: grpc.aio.AioRpcError, endpoint: str, *, discovery_file: Path | None, timeout_s: float
) -> Problem:
    """Explain why the first call on a connection failed.

    ``discovery_file`` is where ``endpoint`` was found, None where it was configured. A unix socket is tried once
    more to learn why, because its errno says it better than gRPC's text.
    """
    target = parse_endpoint(endpoint)
    if target.socket_path and (problem := _socket_problem(target.socket_path)):
        return problem
    code, details = error.code(), error.details() or ""
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Problem(
            "no_answer",
            f"{endpoint} takes connections but did not answer GetVersion within {timeout_s:g} s: "
            "the agent is stuck or starting, or another service listens there",
        )
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return Problem(
            "not_tetragon",
            f"{endpoint} speaks gRPC but not Tetragon's: correct endpoint (the agent's health port, 6789, is another)",
        )
    if "Connection refused" in details:
        return _refused(endpoint, target.host, discovery_file)
    if any(text in details for text in _NO_TLS):
        return Problem(
            "tls",
            f"TLS with {endpoint} failed ({_reason(details)}): check tls.ca_file and tls.server_name_override; "
            "an agent up to 1.7 speaks plain text only (tls.insecure: true)",
        )
    if "Failed parsing HTTP/2" in details or "http1.x" in details:
        return Problem("not_grpc", f"{endpoint} does not speak gRPC: correct endpoint, or what listens there")
    if any(text in details for text in _CLOSED):
        return Problem(
            "closed",
            f"{endpoint} closes the connection at once: it expects TLS or a client certificate (see tls), "
            "or it is not the agent",
        )
    if "resolving" in details or "lookup" in details:
        return Problem("dns", f"the name in {endpoint} cannot be resolved: correct endpoint or the DNS of this machine")
    return Problem(f"call_{code.name}", f"{endpoint} refused GetVersion: {code.name}: {_one_line(details)}")


def stream_problem(error: StreamError | OSError | None, endpoint: str, max_recv_msg_size: int) -> Problem:
    """Explain why a stream has ended, or was not opened; ``error`` is None where the agent ended it in good order."""
    if error is None:
        return Problem("ended", f"the agent at {endpoint} ended the stream")
    if isinstance(error, OSError) or error.code == "UNAVAILABLE":
        return Problem("lost", f"the agent at {endpoint} closed the connection; it may have stopped or restarted")
    if error.code == "RESOURCE_EXHAUSTED" and _TOO_LARGE in error.message and not error.from_server:
        return Problem(
            "message_too_large",
            f"the agent at {endpoint} sent an event of more than max_recv_msg_size ({max_recv_msg_size} bytes), which "
            "is lost with the stream: raise max_recv_msg_size, or remove the large field with filters.fields",
        )
    return Problem(f"lost_{error.code}", f"the stream from {endpoint} broke: {error.code}: {_one_line(error.message)}")


def refusal(error: StreamError) -> str | None:
    """Return the agent's text where it refused the request itself; None for every other end of a stream.

    The agent answers a filter that it cannot compile with UNKNOWN and a text (an error of Go without a status of its
    own).
    """
    if not error.from_server or error.code not in {"UNKNOWN", "INVALID_ARGUMENT"}:
        return None
    return _one_line(error.message) or None


def _socket_problem(path: str) -> Problem | None:
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    probe.settimeout(0)
    try:
        number = probe.connect_ex(path)
    except OSError as error:  # a path longer than sun_path
        return Problem("socket_path", f"{path} cannot be the path of a unix socket: {error}; correct endpoint")
    finally:
        probe.close()
    if number in {errno.ENOENT, errno.ENOTDIR}:
        return Problem(
            "socket_missing",
            f"{path} does not exist: start the agent with this --server-address, or mount {Path(path).parent} here",
        )
    if number in {errno.EACCES, errno.EPERM}:
        return Problem("socket_denied", _denied(path))
    if number == errno.ECONNREFUSED:
        if not Path(path).is_socket():
            return Problem("socket_kind", f"{path} is not a socket: correct endpoint")
        return Problem("socket_stale", f"nobody listens on {path} any more: the agent has stopped, or is starting")
    return None


def _denied(path: str) -> str:
    try:
        status = Path(path).stat()
        owner = f"it belongs to uid {status.st_uid}, gid {status.st_gid}, mode {stat.S_IMODE(status.st_mode):04o}"
    except OSError:
        owner = "a folder above it is closed"
    return (
        f"{path} may not be opened by uid {os.geteuid()} ({owner}; the agent's own is root's, 0660): "
        "give otelbee the socket's group as a supplementary group, or run it as another user"
    )


def _refused(endpoint: str, host: str, discovery_file: Path | None) -> Problem:
    if discovery_file is not None and is_loopback(host) and in_container():
        return Problem(
            "localhost_in_pod",
            f"{discovery_file} names {endpoint}, which inside this container is not the host's: set hostNetwork: true, "
            "or mount /var/run/tetragon and set endpoint: unix:///var/run/tetragon/tetragon.sock",
        )
    return Problem(
        "refused", f"nothing listens on {endpoint}: start the agent with this --server-address, or correct endpoint"
    )


def _reason(details: str) -> str:
    for text, reason in (
        ("CERTIFICATE_VERIFY_FAILED", "the server's certificate is not signed by a known authority"),
        ("Hostname Verification", "the server's certificate carries another name"),
        ("WRONG_VERSION_NUMBER", "the server does not speak TLS"),
    ):
        if text in details:
            return reason
    return _one_line(details)


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 300 else f"{line[:300]}..."  # noqa: PLR2004 - an agent's text may quote a whole filter
