"""Tells the service manager how the service is (sd_notify(3)): a datagram to ``$NOTIFY_SOCKET``, nothing without it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

_log = logging.getLogger(__name__)

READY = "READY=1"
STOPPING = "STOPPING=1"


def reloading() -> str:
    """What to say when a reload begins; systemd wants the time with it (``Type=notify-reload``)."""
    return f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"


def notify(text: str, environ: Mapping[str, str] = os.environ) -> None:
    """Send ``text``; a service manager that cannot be reached is no reason to fail."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.setblocking(False)  # noqa: FBT003 - the standard library's signature
        try:
            sender.sendto(text.encode(), "\0" + address[1:] if address.startswith("@") else address)
        except OSError as error:
            _log.debug("NOTIFY_SOCKET %s: %s", address, error.strerror)


@asynccontextmanager
async def watchdog(environ: Mapping[str, str] = os.environ) -> AsyncIterator[None]:
    """Show twice in ``$WATCHDOG_USEC`` that the event loop turns, while the context is open (``WatchdogSec=``)."""
    text = environ.get("WATCHDOG_USEC", "")
    if not text.isdecimal() or int(text) == 0:
        yield
        return
    task = asyncio.create_task(_turn(int(text) / 2e6, environ), name="watchdog")
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _turn(interval_s: float, environ: Mapping[str, str]) -> None:
    while True:
        notify("WATCHDOG=1", environ)
        await asyncio.sleep(interval_s)
