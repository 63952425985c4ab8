"""What hook arguments say in terms of the semantic conventions: files, sockets, packets.

Every argument is kept whole in ``tetragon.args``; these attributes are a second, searchable view of it.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from translators import attributes as key
from translators import wire
from translators.tetragon import names
from translators.tetragon.values import snake_case

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message

    from translators.pb import tetragon_pb2 as full

Promoted = list[tuple[str, bytes]]
"""(key, encoded attribute): the first argument that sets a key wins."""

_NETWORK_TYPES = {"AF_INET": "ipv4", "AF_INET6": "ipv6"}
_STATES = {
    "CLOSE": "closed",
    "FIN_WAIT1": "fin_wait_1",
    "FIN_WAIT2": "fin_wait_2",
    "LISTEN": "listen",
    "SYN_RECV": "syn_received",
}
"""TCP states of Linux whose name in network.connection.state is not their own in lower case."""


@cache
def _key(name: str) -> wire.Key:
    return wire.Key(name)


def text(name: str, value: str) -> Promoted:
    """Promote a string, unless it is empty."""
    return [(name, _key(name).text(value))] if value else []


def number(name: str, value: int) -> Promoted:
    """Promote an integer, zero included."""
    return [(name, _key(name).integer(value))]


def port(name: str, value: int) -> Promoted:
    """Promote a port; 0 means that there is none."""
    return number(name, value) if value else []


def file(path: str, permission: str) -> Promoted:
    """Promote a path and the mode string that the agent adds."""
    directory, slash, name = path.rpartition("/")
    stem, dot, extension = name.rpartition(".")
    return [
        *text(key.FILE_PATH, path),
        *text(key.FILE_NAME, name),
        *text(key.FILE_DIRECTORY, directory or slash),
        *text(key.FILE_EXTENSION, extension if dot and stem else ""),
        *text(key.FILE_MODE, names.file_mode(permission)),
        *text("tetragon.file.permission", permission),
    ]


def _network(family: str, protocol: str) -> Promoted:
    transport = protocol.removeprefix("IPPROTO_").lower() if protocol.startswith("IPPROTO_") else ""
    return [
        *text(key.NETWORK_TRANSPORT, "unix" if family == "AF_UNIX" else transport),
        *text(key.NETWORK_TYPE, _NETWORK_TYPES.get(family, "")),
    ]


def connection_state(state: str) -> str:
    """Name a TCP state as network.connection.state does."""
    name = state.removeprefix("TCP_")
    return _STATES.get(name, name.lower())


def sock(value: full.KprobeSock) -> Promoted:
    """Promote a socket: local and peer, which hold whoever began."""
    return [
        *_network(value.family, value.protocol),
        *text(key.NETWORK_LOCAL_ADDRESS, value.saddr),
        *port(key.NETWORK_LOCAL_PORT, value.sport),
        *text(key.NETWORK_PEER_ADDRESS, value.daddr),
        *port(key.NETWORK_PEER_PORT, value.dport),
        *text(key.NETWORK_CONNECTION_STATE, connection_state(value.state)),
        *text("tetragon.sock.cookie", str(value.cookie) if value.cookie else ""),
    ]


def endpoints(source: tuple[str, int], destination: tuple[str, int]) -> Promoted:
    """Promote a direction, where it is known."""
    return [
        *text(key.SOURCE_ADDRESS, source[0]),
        *port(key.SOURCE_PORT, source[1]),
        *text(key.DESTINATION_ADDRESS, destination[0]),
        *port(key.DESTINATION_PORT, destination[1]),
    ]


def skb(value: full.KprobeSkb) -> Promoted:
    """Promote a packet."""
    return [
        *_network(value.family, value.protocol),
        *endpoints((value.saddr, value.sport), (value.daddr, value.dport)),
    ]


def sockaddr(value: full.KprobeSockaddr) -> Promoted:
    """Promote an internet address that a call was given."""
    return [
        *text(key.NETWORK_TYPE, _NETWORK_TYPES.get(value.family, "")),
        *text(key.NETWORK_PEER_ADDRESS, value.addr),
        *port(key.NETWORK_PEER_PORT, value.port),
    ]


def unix_address(path: str) -> Promoted:
    """Promote the path of a unix socket."""
    return [*text(key.NETWORK_TRANSPORT, "unix"), *text(key.NETWORK_PEER_ADDRESS, path)]


def prefixed(prefix: str, message: Message, redact: Callable[[str], str]) -> Promoted:
    """Promote the strings and numbers of a flat message under the tool's own prefix."""
    promoted: Promoted = []
    for field, value in message.ListFields():
        name = prefix + snake_case(field.name)
        promoted += text(name, redact(value)) if isinstance(value, str) else number(name, value)
    return promoted
