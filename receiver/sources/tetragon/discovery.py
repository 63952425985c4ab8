"""Where the agent is: the configured endpoint, or the file that the agent writes when it starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from receiver.net.grpc import parse_endpoint

DISCOVERY_FILE = Path("/var/run/tetragon/tetragon-info.json")
"""``InitInfo`` of the agent (pkg/bugtool), key ``server_address``."""
_DEFAULT_PORT = 54321
_ANY_ADDRESS = {"", "0.0.0.0", "::"}  # noqa: S104 - what the agent listens on, not what we bind


class Problem(NamedTuple):
    """Why there is no stream, for a person. Problems of one ``kind`` are one state, however their texts differ."""

    kind: str
    text: str
    """One line: what is wrong, where, and what to do."""


class DiscoveryError(Exception):
    """The discovery file gives no address."""

    def __init__(self, problem: Problem) -> None:
        """Keep the problem."""
        super().__init__(problem.text)
        self.problem = problem


def with_default_port(address: str) -> str:
    """Complete an address as the agent does: without a colon it gets port 54321."""
    return address if ":" in address else f"{address}:{_DEFAULT_PORT}"


def reachable_host(address: str) -> str:
    """Turn a ``host:port`` that somebody on this host listens on into one that can be connected to."""
    host, _, port = address.rpartition(":")
    return f"localhost:{port}" if host.strip("[]") in _ANY_ADDRESS else address


def discovered_address(path: Path) -> str:
    """Read the address that the agent listens on, as a client reaches it.

    Raises:
        DiscoveryError: There is no such file, it may not be read, it is no JSON object, or it has no usable address.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise _error(
            "discovery_missing",
            f"no endpoint is configured and {path} does not exist: start the agent, mount {path.parent} here, or set endpoint",
        ) from None
    except OSError as error:
        raise _error(
            "discovery_unreadable",
            f"no endpoint is configured and {path} cannot be read ({error.strerror}): make it readable to this user, "
            "or set endpoint",
        ) from None
    try:
        info = json.loads(content)
    except ValueError:
        info = None
    address = info.get("server_address") if isinstance(info, dict) else None
    if not isinstance(address, str):
        raise _error(
            "discovery_malformed",
            f"{path} is not what the agent writes: it has no text at 'server_address'; set endpoint",
        )
    return _reachable(path, address)


def _reachable(path: Path, address: str) -> str:
    if not address:
        raise _error(
            "discovery_disabled",
            f"{path} says that the agent's gRPC is off (empty server_address): start the agent with --server-address "
            "(Helm: tetragon.grpc.enabled)",
        )
    if address.startswith("unix://"):
        return address
    address = reachable_host(with_default_port(address))
    try:
        parse_endpoint(address)
    except ValueError as error:
        raise _error("discovery_malformed", f"{path} names {address}, which is {error}; set endpoint") from None
    return address


def _error(kind: str, text: str) -> DiscoveryError:
    return DiscoveryError(Problem(kind, text))
