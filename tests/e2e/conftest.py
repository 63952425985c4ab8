"""The way from a recording through the stand-in for Tetragon's agent, otelbee and the real Collector, as processes."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from peers.processes import Collector, Otelbee, TetragonPeer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path


class Way(NamedTuple):
    """Three running programs, in the order of the data."""

    peer: TetragonPeer
    otelbee: Otelbee
    collector: Collector


@pytest.fixture
def way(tmp_path: Path, peers: None) -> Iterator[Callable[..., Way]]:  # noqa: ARG001 - the fixture that builds them
    """A function that starts the three programs; all are ended after the test."""
    with ExitStack() as stack:

        def start(
            *files: Path,
            flags: Sequence[str] = (),
            source: Mapping[str, Any] | None = None,
            exporter: Mapping[str, Any] | None = None,
            **sections: Any,
        ) -> Way:
            collector = stack.enter_context(Collector(tmp_path))
            peer = stack.enter_context(TetragonPeer(tmp_path, *files, flags=flags))
            config = {
                # A recorded pid may be that of this test's otelbee: nothing is left out as our own.
                "sources": {"tetragon": {"endpoint": peer.address, "exclude_self": False, **(source or {})}},
                "exporter": {
                    "otlp_grpc": {"endpoint": collector.endpoint, "tls": {"insecure": True}, **(exporter or {})}
                },
                **sections,
            }
            return Way(peer, stack.enter_context(Otelbee(tmp_path, config)), collector)

        yield start
