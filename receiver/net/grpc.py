"""gRPC channels from typed configuration, and calls that move bytes instead of messages."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, NamedTuple

import grpc
import grpc.aio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from receiver.net.tls import ClientTLS

Metadata = tuple[tuple[str, str], ...]

_KEEPALIVE_MS = 330_000
"""grpc-go closes a connection whose client pings more often than every five minutes (``too_many_pings``)."""


class Target(NamedTuple):
    """An endpoint as the user wrote it, in gRPC's terms."""

    address: str
    """gRPC's own target syntax."""
    host: str
    """Host without port; empty for a unix socket."""
    socket_path: str
    """Absolute path of a unix socket; empty for TCP."""
    secure: bool | None
    """What the scheme says: ``https`` True, ``http`` False, none None."""


def parse_endpoint(endpoint: str) -> Target:
    """Understand ``host:port``, ``unix:///path``, ``http(s)://host:port`` and ``dns:///host:port``.

    Raises:
        ValueError: The text is none of these. Its message continues the sentence "<endpoint> is".
    """
    scheme, separator, rest = endpoint.partition("://")
    if not separator:
        return Target(endpoint, _host(endpoint), "", None)
    if scheme == "unix":
        if not rest.startswith("/"):
            raise ValueError("not an absolute path: unix:///run/name.sock has three slashes")
        return Target(f"unix:{rest}", "", rest, None)
    if scheme in {"http", "https"}:
        address = rest.rstrip("/")
        if "/" in address:
            raise ValueError(f"not for gRPC, which takes no path; write {scheme}://host:port")
        return Target(address, _host(address), "", scheme == "https")
    if scheme == "dns":
        return Target(endpoint, _host(rest.rpartition("/")[2]), "", None)
    raise ValueError(
        f"not an endpoint: unknown scheme {scheme}://; write host:port, unix:///path, http://, https:// or dns:///host:port"
    )


def _host(address: str) -> str:
    host, separator, port = address.rpartition(":")
    if not separator or not host or (":" in host and not host.startswith("[")):
        raise ValueError("not an endpoint: it has no port; write host:port, an IPv6 address in brackets")
    if not (port.isascii() and port.isdigit()) or not 0 < int(port) < 1 << 16:
        raise ValueError("not an endpoint: no port between 1 and 65535 follows the last colon")
    return host.strip("[]")


def is_loopback(host: str) -> bool:
    """Whether a host names this machine (or this network namespace) alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def channel(
    endpoint: str,
    tls: ClientTLS,
    *,
    authority: str = "",
    max_recv_msg_size: int = 4 << 20,
    options: Sequence[tuple[str, int | str]] = (),
) -> grpc.aio.Channel:
    """Make a channel; it connects by itself when it is first used.

    Args:
        endpoint: See :func:`parse_endpoint`. ``https`` means TLS and ``http`` plain text, whatever ``tls`` says.
        tls: Plain text or TLS, and with which files.
        authority: The ``:authority`` of the calls, and the name that the certificate must carry unless
            ``tls.server_name_override`` says another.
        max_recv_msg_size: Bytes; a larger message ends its call with RESOURCE_EXHAUSTED.
        options: Further channel arguments of gRPC.

    Raises:
        ValueError: ``endpoint`` is none, or ``http`` contradicts the files that ``tls`` names.
        StartError: A file of ``tls`` cannot be used.
    """
    target = parse_endpoint(endpoint)
    if target.secure is False and tls.names_files:
        raise ValueError("not for TLS, but tls names certificate files; write https:// or remove them")
    credentials = tls.under(target.secure).credentials()
    arguments: list[tuple[str, int | str]] = [
        ("grpc.max_receive_message_length", max_recv_msg_size),
        ("grpc.max_send_message_length", -1),
    ]
    if not target.socket_path:
        # Notices a peer whose machine is gone, as slowly as grpc-go servers permit.
        arguments += [("grpc.keepalive_time_ms", _KEEPALIVE_MS), ("grpc.http2.max_pings_without_data", 0)]
    if target.socket_path or is_loopback(target.host):
        # As in Go, and so in the Collector, http_proxy does not concern this machine.
        arguments.append(("grpc.enable_http_proxy", 0))
    if target.address.startswith("dns:"):
        arguments.append(("grpc.lb_policy_name", "round_robin"))
    if authority:
        arguments.append(("grpc.default_authority", authority))
    if credentials is None:
        return grpc.aio.insecure_channel(target.address, options=[*arguments, *options])
    if name := tls.server_name_override or authority:
        arguments.append(("grpc.ssl_target_name_override", name))
    return grpc.aio.secure_channel(target.address, credentials, options=[*arguments, *options])


async def unary(
    over: grpc.aio.Channel, method: str, request: bytes, *, timeout_s: float, metadata: Metadata = ()
) -> bytes:
    """Call ``/package.Service/Method`` with one serialised message and return the serialised answer.

    Raises:
        grpc.aio.AioRpcError: The call failed, after ``timeout_s`` seconds with DEADLINE_EXCEEDED.
    """
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = over.unary_unary(method)
    return await call(request, timeout=timeout_s, metadata=metadata)
