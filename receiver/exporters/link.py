"""A connection that is made anew when the certificates that it rests on are replaced."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc.aio

from receiver.errors import StartError
from receiver.net.files import Watch

if TYPE_CHECKING:
    from collections.abc import Callable

    import grpc

    from receiver.net.tls import ClientTLS

    _Call = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]

_log = logging.getLogger(__name__)


class Link:
    """Unary calls over one channel. Calls under way when it is replaced end over the old one."""

    def __init__(self, connect: Callable[[], grpc.aio.Channel], tls: ClientTLS) -> None:
        """Connect; do it again when a file of ``tls`` changes.

        Raises:
            StartError: A file of ``tls`` cannot be used.
        """
        self._connect = connect
        self._watch = Watch([path for path in (tls.ca_file, tls.cert_file, tls.key_file) if path is not None])
        self._current = _Channel(connect())
        self._old: list[_Channel] = []

    async def call(self, method: str, data: bytes, metadata: grpc.aio.Metadata, compression: grpc.Compression) -> bytes:
        """Call ``/package.Service/Method``.

        Raises:
            grpc.aio.AioRpcError: The call failed.
        """
        self.renew()
        for idle in [channel for channel in self._old if not channel.under_way]:
            self._old.remove(idle)
            await idle.channel.close()
        channel = self._current
        channel.under_way += 1
        try:
            return await channel.to(method)(data, metadata=metadata, compression=compression)
        finally:
            channel.under_way -= 1

    def renew(self) -> bool:
        """Make another channel if a file has changed; whether it did. Files that are wrong change nothing."""
        if not self._watch.changed():
            return False
        try:
            channel = self._connect()
        except StartError as error:
            _log.warning("%s; the connection from before is still used", error)
            return False
        self._old.append(self._current)
        self._current = _Channel(channel)
        _log.info("The files of tls were read anew")
        return True

    async def close(self) -> None:
        """Close every channel; calls under way are cancelled."""
        for channel in (self._current, *self._old):
            await channel.channel.close()


@dataclass
class _Channel:
    channel: grpc.aio.Channel
    calls: dict[str, _Call] = field(default_factory=dict)
    under_way: int = 0

    def to(self, method: str) -> _Call:
        if method not in self.calls:
            call: _Call = self.channel.unary_unary(method)
            self.calls[method] = call
        return self.calls[method]
