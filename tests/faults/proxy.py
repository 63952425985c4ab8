"""A TCP proxy that resets its first connections in the middle of a request: a process of its own.

``proxy.py LISTEN_PORT TARGET_PORT CUTS SEED``: each of the first ``CUTS`` connections is reset, on both sides, after a
number of bytes from the client that is drawn between 4 and 60 KiB; each cut is a line of output.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import sys

_PIECE_BYTES = 4096


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST: what is on its way is thrown away."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, most_bytes: int | None) -> bool:
    """Copy until the end, or until ``most_bytes``; whether those were reached."""
    size = 0
    while piece := await reader.read(_PIECE_BYTES):
        size += len(piece)
        if most_bytes is not None and size > most_bytes:
            return True
        writer.write(piece)
        await writer.drain()
    return False


class Proxy:
    """Counts connections."""

    def __init__(self, target: int, cuts: int, seed: int) -> None:
        """Connect to ``target``, a port of this machine."""
        self._target = target
        self._left = cuts
        self._random = random.Random(seed)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection."""
        try:
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            _reset(writer)
            return
        most = self._random.randrange(4096, 61440) if self._left else None
        back = asyncio.create_task(_copy(inner_reader, writer, None))
        with contextlib.suppress(OSError):
            if await _copy(reader, inner_writer, most):
                self._left -= 1
                sys.stdout.write(f"reset after {most} bytes\n")
                sys.stdout.flush()
        back.cancel()
        await asyncio.gather(back, return_exceptions=True)
        _reset(inner_writer)
        _reset(writer)


async def main(port: int, target: int, cuts: int, seed: int) -> None:
    """Listen until ended."""
    server = await asyncio.start_server(Proxy(target, cuts, seed).serve, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
