"""The socket: one peer, frames out, nothing in.

One thread serves the kernel's buffer, the listener and the peer. Reading the buffer never waits for the peer: what does
not fit into the outbox is dropped and counted by program, and the count is the first thing that the peer gets when it
has caught up, or when it comes back.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import stat
import struct
import sys
import time
from collections import Counter, deque
from typing import TYPE_CHECKING

import frames

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from loader import Loaded

OUTBOX_SIZE = 8 * 1024 * 1024
"""Bytes of records that wait for the peer."""
_FRAME_SIZE = 64 * 1024
_TURN_RECORDS = 1024
"""Records between two looks at the sockets."""
_GATHER_S = 0.05
"""How long records gather once some were read. The kernel wakes the reader only for the first record that it finds
unread: a reader that came back at once would be woken for every record, which costs an exec more than all the rest."""
_REPORT_INTERVAL_S = 1.0
_CLOCK_INTERVAL_S = 60.0
_SOCKET_MODE = 0o660
_PEER_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid; unix(7)


class SocketError(Exception):
    """The socket cannot be opened; the text says why."""


def say(text: str) -> None:
    """Tell whoever runs this process of a change of state."""
    sys.stderr.write(f"otelbee-bpf: {text}\n")
    sys.stderr.flush()


def listen(path: Path, gid: int | None) -> socket.socket:
    """Listen at ``path``, which only root and ``gid`` may open; replaces a socket that nobody listens at."""
    try:
        path.parent.mkdir(mode=0o755, exist_ok=True)
        if path.exists():
            _remove_stale(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        umask = os.umask(0o777)  # nobody connects before group and mode are right
        try:
            listener.bind(str(path))
        finally:
            os.umask(umask)
        if gid is not None:
            os.chown(path, -1, gid)
        path.chmod(_SOCKET_MODE)
        listener.listen(4)
        listener.setblocking(False)  # noqa: FBT003 - the standard library's signature
    except OSError as error:
        raise SocketError(f"{path}: {error.strerror or error}") from error
    return listener


def _remove_stale(path: Path) -> None:
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise SocketError(f"{path}: exists and is no socket; remove it or choose another --socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        if probe.connect_ex(str(path)) == 0:
            raise SocketError(f"{path}: another process listens there; stop it or choose another --socket")
    path.unlink()


class Peer:
    """The connected receiver: a bounded outbox in front of a socket that never blocks."""

    def __init__(self, connection: socket.socket) -> None:
        """Take over a connection."""
        self.connection = connection
        connection.setblocking(False)  # noqa: FBT003 - the standard library's signature
        self._outbox: deque[bytes] = deque()
        self._sent = 0
        """Bytes of the first frame in the outbox that went out already."""
        self.waiting = 0
        """Bytes in the outbox."""

    def send(self, frame: bytes) -> None:
        """Queue a frame whatever waits already; for the few that are not records."""
        self._outbox.append(frame)
        self.waiting += len(frame)

    def offer(self, frame: bytes) -> bool:
        """Queue a frame of records if there is room."""
        if self.waiting + len(frame) > OUTBOX_SIZE:
            return False
        self.send(frame)
        return True

    def unsent(self) -> tuple[bytes, ...]:
        """Return the frames that have not gone out whole."""
        return tuple(self._outbox)

    def flush(self) -> None:
        """Send what the socket takes now; raises OSError when the peer is gone."""
        while self._outbox:
            try:
                sent = self.connection.send(memoryview(self._outbox[0])[self._sent :])
            except BlockingIOError:
                return
            self.waiting -= sent
            self._sent += sent
            if self._sent == len(self._outbox[0]):
                self._outbox.popleft()
                self._sent = 0


class Server:
    """Hands records to the one peer until it is told to stop."""

    def __init__(self, listener: socket.socket, allow_uids: frozenset[int], hello: Callable[[int], bytes]) -> None:
        """Serve ``listener`` to peers of these users; ``hello`` gives the first frame for a peer's pid."""
        self._listener = listener
        self._allow_uids = allow_uids
        self._hello = hello
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._peer: Peer | None = None
        self._had_peer = False
        self._batch: list[bytes] = []
        self._batch_size = 0
        self._turn = 0
        self._dropped: Counter[int] = Counter()
        self._kernel_reported: Mapping[int, int] = {}
        self._gather_until: float | None = None
        self._report_at: float | None = None
        self._clock_at = 0.0
        self._stopped = False

    def receive(self, record: bytes) -> bool:
        """Take a record from the kernel; False when this turn has had enough of them."""
        self._batch.append(record)
        self._batch_size += len(record)
        self._turn += 1
        if self._batch_size >= _FRAME_SIZE:
            self._pass_on()
        return self._turn < _TURN_RECORDS

    def run(self, loaded: Loaded) -> None:
        """Serve until SIGTERM or SIGINT."""
        self._loaded = loaded
        wake_up, waker = socket.socketpair()
        with wake_up, waker:
            for end in (wake_up, waker):
                end.setblocking(False)  # noqa: FBT003 - the standard library's signature
            signal.set_wakeup_fd(waker.fileno())
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: self._stop())
            self._selector.register(wake_up, selectors.EVENT_READ, lambda: wake_up.recv(64))
            self._watch_buffer()
            while not self._stopped:
                for key, _ in self._selector.select(self._timeout()):
                    # A peer that an earlier event of this round dropped has another one here, and its descriptor may
                    # be the next peer's by now.
                    current = self._selector.get_map().get(key.fd)
                    if current is not None and current.fileobj is key.fileobj:
                        key.data()
                self._meet_deadlines()
            signal.set_wakeup_fd(-1)

    def _stop(self) -> None:
        # Only a flag: an exception raised here might surface inside a ctypes callback, which swallows it.
        self._stopped = True

    def _watch_buffer(self) -> None:
        self._gather_until = None
        for fd in self._loaded.fds:
            self._selector.register(fd, selectors.EVENT_READ, self._consume)

    def _consume(self) -> None:
        if self._gather_until is not None:  # another CPU's buffer became readable in the same turn
            return
        self._turn = 0
        self._loaded.consume()
        self._pass_on()
        if self._turn < _TURN_RECORDS:
            self._gather_until = time.monotonic() + _GATHER_S
            for fd in self._loaded.fds:
                self._selector.unregister(fd)
        if self._report_at is None:
            self._report_at = time.monotonic() + _REPORT_INTERVAL_S
        self._flush()

    def _drain(self) -> None:
        self._turn = _TURN_RECORDS
        while self._turn >= _TURN_RECORDS:
            self._turn = 0
            self._loaded.consume()
        self._pass_on()

    def _pass_on(self) -> None:
        if self._batch:
            frame = frames.records(self._batch)
            if self._peer is None or not self._peer.offer(frame):
                self._dropped.update(frames.programs(frame))
        self._batch.clear()
        self._batch_size = 0

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
        pid, uid, _ = _PEER_CREDENTIALS.unpack(credentials)
        if uid not in self._allow_uids:
            say(f"refused a peer: uid {uid} (pid {pid}) is not among --allow-uid")
            connection.close()
            return
        if self._peer is not None:
            say(f"refused a second peer (pid {pid}): one is connected")
            connection.close()
            return
        say(f"peer connected: pid {pid}, uid {uid}")
        self._drain()  # what came before is not this peer's, but counts as lost
        self._peer = Peer(connection)
        self._selector.register(connection, selectors.EVENT_READ, self._peer_readable)
        if not self._had_peer:  # what nobody waited for yet is not lost
            self._had_peer = True
            self._dropped.clear()
            self._kernel_reported = self._loaded.lost()
        self._peer.send(self._hello(pid))
        self._clock_at = 0.0
        self._report_at = 0.0

    def _peer_readable(self) -> None:
        """The peer never sends anything: this is its end, or not our receiver."""
        assert self._peer is not None
        try:
            heard = self._peer.connection.recv(1)
        except OSError:
            heard = b""
        self._drop_peer("it sent something, which a receiver does not" if heard else "it closed the connection")

    def _flush(self) -> None:
        if self._peer is None:
            return
        try:
            self._peer.flush()
        except OSError as error:
            self._drop_peer(error.strerror or str(error))
            return
        if self._peer.waiting:  # a hang-up counts as writable, and sending then tells of it
            self._selector.modify(self._peer.connection, selectors.EVENT_WRITE, self._flush)
        else:
            self._selector.modify(self._peer.connection, selectors.EVENT_READ, self._peer_readable)

    def _drop_peer(self, why: str) -> None:
        assert self._peer is not None
        say(f"peer gone: {why}")
        for frame in self._peer.unsent():
            self._dropped.update(frames.programs(frame))
        self._selector.unregister(self._peer.connection)
        self._peer.connection.close()
        self._peer = None

    def _timeout(self) -> float | None:
        deadlines = [self._gather_until]
        if self._peer is not None:
            deadlines += [self._clock_at, self._report_at]
        pending = [deadline for deadline in deadlines if deadline is not None]
        return max(0.0, min(pending) - time.monotonic()) if pending else None

    def _meet_deadlines(self) -> None:
        """Go back to the buffer; report losses and the clock, to a peer that has caught up."""
        now = time.monotonic()
        if self._gather_until is not None and now >= self._gather_until:
            self._watch_buffer()
        if self._peer is None:
            return
        if now >= self._clock_at:
            self._clock_at = now + _CLOCK_INTERVAL_S
            self._peer.send(frames.clock(time.monotonic_ns(), time.time_ns()))
        if self._report_at is not None and now >= self._report_at:
            self._report_at = None
            if self._peer.waiting > _FRAME_SIZE:
                self._report_at = now + _REPORT_INTERVAL_S
            else:
                self._report()
        self._flush()

    def _report(self) -> None:
        kernel = self._loaded.lost()
        entries = [
            (program, frames.BUFFER_FULL, count - self._kernel_reported.get(program, 0))
            for program, count in kernel.items()
            if count > self._kernel_reported.get(program, 0)
        ]
        entries += [(program, frames.PEER_SLOW_OR_AWAY, count) for program, count in self._dropped.items()]
        self._kernel_reported = kernel
        self._dropped.clear()
        if entries and self._peer is not None:
            self._peer.send(frames.lost(entries))
