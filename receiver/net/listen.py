"""Sockets to listen on, for every address of a name."""

from __future__ import annotations

import errno
import socket
from typing import Any

from receiver.errors import StartError

_BACKLOG = 128
_ABSENT = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
"""Of a name's addresses, those that this machine does not have: ``localhost`` is ``::1`` even where IPv6 is off."""


def split_address(endpoint: str) -> tuple[str, int]:
    """Split ``host:port``; an IPv6 address is in brackets."""
    host, _, port = endpoint.rpartition(":")
    return host.strip("[]"), int(port)


def show_address(listener: socket.socket) -> str:
    """The ``host:port`` that a socket is bound to."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def listen(endpoint: str) -> list[socket.socket]:
    """Listen on every address of ``host:port`` (port 0 for any); the sockets do not block.

    Raises:
        StartError: The address cannot be bound.
    """
    host, port = split_address(endpoint)
    listeners: list[socket.socket] = []
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in addresses:
            if port == 0 and listeners:  # one port for all addresses
                address = (address[0], listeners[0].getsockname()[1], *address[2:])  # noqa: PLW2901 - it is the same address
            try:
                listeners.append(_bound(family, kind, protocol, address))
            except OSError as error:
                if error.errno not in _ABSENT or (address == addresses[-1][4] and not listeners):
                    raise
    except OSError as error:
        for listener in listeners:
            listener.close()
        taken = "another process listens there" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
        raise StartError(f"cannot listen on {endpoint}: {taken}; choose another address") from error
    return listeners


def _bound(family: int, kind: int, protocol: int, address: Any) -> socket.socket:
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
        listener.setblocking(False)  # noqa: FBT003 - the socket module's signature
    except OSError:
        listener.close()
        raise
    return listener
