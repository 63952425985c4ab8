"""Messages that wait for their consumer, and the flow-control window that bounds them. Pure."""

from __future__ import annotations

from collections import deque

from receiver.net.frames import ErrorCode, Violation

BATCH_MESSAGES = 256
"""No turn of the event loop handles more messages than this."""

_GRANT_BYTES = 1 << 20


class Inbox:
    """The messages of one call in order of arrival, and the account of its window.

    The window is granted again only as messages are taken, so that a consumer that stops stops the server. Invariant:
    ``received <= granted <= released + window_bytes``. The bytes of a message that is still incomplete count as taken
    only while no complete one waits, since the consumer can do nothing for them: otherwise a message larger than the
    window would never arrive. So no more is held than one window plus one message of the greatest size (and Python's
    own 57 bytes for each, at worst eight times the window where all messages have two bytes).

    All amounts are flow-controlled bytes: payloads of DATA frames, with padding.
    """

    def __init__(self, window_bytes: int) -> None:
        """Grant ``window_bytes``."""
        self._window = window_bytes
        self._received = 0
        self._released = 0
        self._granted = window_bytes
        self._full: deque[tuple[list[bytes], int]] = deque()
        """At least ``BATCH_MESSAGES`` messages each, and what had been received with the last of them."""
        self._offset = 0
        """How many messages of the first full list are taken."""
        self.tail: list[bytes] = []
        """Where the decoder appends; fewer than ``BATCH_MESSAGES`` after :meth:`seal`."""

    def __bool__(self) -> bool:
        """Whether a message waits."""
        return bool(self._full or self.tail)

    @property
    def full(self) -> bool:
        """Whether at least one whole batch waits."""
        return bool(self._full)

    @property
    def waiting_bytes(self) -> int:
        """How many bytes wait to be taken; those of a list that is taken in part count whole."""
        return self._received - self._released

    @property
    def room(self) -> int:
        """How many bytes the server may still send."""
        return self._granted - self._received

    def count(self, amount: int) -> None:
        """Count received bytes.

        Raises:
            Violation: The server sent more than it was granted.
        """
        if amount > self.room:
            raise Violation(
                f"DATA of {amount} bytes where flow control left room for {self.room}", ErrorCode.FLOW_CONTROL_ERROR
            )
        self._received += amount

    def seal(self) -> None:
        """Mark the end of what one read brought."""
        if len(self.tail) >= BATCH_MESSAGES:
            self._full.append((self.tail, self._received))
            self.tail = []

    def take(self) -> list[bytes]:
        """Return up to ``BATCH_MESSAGES`` messages; empty when none waits."""
        if self._full:
            messages, received = self._full[0]
            batch = messages[self._offset : self._offset + BATCH_MESSAGES]
            self._offset += BATCH_MESSAGES
            if self._offset >= len(messages):
                self._full.popleft()
                self._offset = 0
                self._released = max(self._released, received)
        else:
            batch, self.tail = self.tail, []
        return batch

    def grant(self) -> int:
        """Return how many more bytes to grant the server now; 0 while that is too little for a frame of its own.

        What was taken and is not granted yet makes the window smaller than it is meant to be, so it is never much.
        """
        if not self:
            self._released = self._received
        more = self._released + self._window - self._granted
        if more < min(self._window // 4, _GRANT_BYTES):
            return 0
        self._granted += more
        return more
