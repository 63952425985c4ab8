"""Every error that otelbee raises on purpose.

OtelbeeError
 ├─ ConfigError            the configuration is wrong; carries every problem, exit 2
 ├─ StartError             the configuration is right but cannot be started here; exit 2
 ├─ PermanentSourceError   a source's peer refused it for good; a retry would be refused again
 ├─ RecordingError         a recording cannot be read further
 ├─ TryLater               retryable: a sender's request cannot be taken now
 │   └─ QueueFull          the queue has no room
 ├─ TooLarge               permanent: more than can ever be taken at once
 ├─ RequestError           permanent: a sender's request is wrong
 │   ├─ Unauthenticated    nobody vouches for it
 │   ├─ Malformed          it is not what it should be
 │   ├─ Unsupported        it is written in a way that is not understood here
 │   ├─ Overdue            it was put off for so long that its sender should drop it
 │   └─ Relayed            another server refused it
 └─ ExportError            the next stage did not take a batch
     ├─ Retryable          it may take it later
     ├─ Held               it takes nothing of this signal until somebody has put something right
     └─ Permanent          it never will
          └─ MessageTooLarge   but it may take a smaller one
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class OtelbeeError(Exception):
    """The root; its text tells a user what is wrong, where, and what to do."""


class ConfigError(OtelbeeError):
    """The configuration is wrong. ``problems`` has one line each, beginning with the path that the user typed."""

    def __init__(self, problems: Sequence[str]) -> None:
        """Keep ``problems``; the error's text is all of them, a line each."""
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class StartError(OtelbeeError):
    """A part cannot start on this machine: a port is taken, a file may not be opened."""


class PermanentSourceError(OtelbeeError):
    """A source's peer refused what was asked of it for good, a malformed filter for example: do not ask again."""


class RecordingError(OtelbeeError):
    """A recording cannot be read further; the records before it are good."""


class TryLater(OtelbeeError):
    """A sender's request cannot be taken now; it should come back after ``retry_after_s`` seconds."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        """Keep the delay, in seconds."""
        super().__init__(f"{message}; retry after {retry_after_s:g} s")
        self.retry_after_s = retry_after_s


class QueueFull(TryLater):
    """The queue has no room now."""

    def __init__(self, retry_after_s: float) -> None:
        """Keep the delay, in seconds."""
        super().__init__("the queue is full", retry_after_s)


class TooLarge(OtelbeeError):
    """More bytes than can ever be taken at once; retrying cannot help."""


class RequestError(OtelbeeError):
    """A sender's request is wrong, and would be at every attempt."""


class Unauthenticated(RequestError):
    """Nobody vouches for the sender."""


class Malformed(RequestError):
    """The request is not what it should be; the text says what is wrong and where."""


class Unsupported(RequestError):
    """The request is written in a way that is not understood here: another content type or encoding."""


class Overdue(RequestError):
    """The sender was put off for as long as is allowed; it should drop what it holds, and know that it did."""


class Relayed(RequestError):
    """The server that a request was handed on to refused it."""

    def __init__(self, status: str, message: str) -> None:
        """Keep the name of its gRPC status, and what it says."""
        super().__init__(message)
        self.status = status


class ExportError(OtelbeeError):
    """The next stage did not take a batch."""


class Retryable(ExportError):
    """The next stage may take the batch later, after ``retry_after_s`` seconds where it said so (RetryInfo)."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        """Keep the delay that the peer asked for, in seconds; None where it asked for none."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Held(ExportError):
    """The next stage takes nothing of this signal until somebody has done what ``remedy`` says: keep the data."""

    def __init__(self, message: str, remedy: str) -> None:
        """Keep what happened and what to do about it, a sentence each."""
        super().__init__(f"{message}; {remedy}")
        self.message = message
        self.remedy = remedy
        self.cured: Callable[[], bool] | None = None
        """Whether it is worth a try already, because a file that it depends on has changed; None: nothing here knows."""


class Permanent(ExportError):
    """The next stage will never take this batch."""


class MessageTooLarge(Permanent):
    """The next stage refuses a message of this size; halves of it may pass."""
