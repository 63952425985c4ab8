"""Every error that otelbee raises on purpose.

OtelbeeError
 ├─ ConfigError            the configuration is wrong; carries every problem, exit 2
 ├─ StartError             the configuration is right but cannot be started here; exit 2
 ├─ PermanentSourceError   a source's peer refused it for good; a retry would be refused again
 ├─ QueueFull              retryable: the queue has no room now
 ├─ TooLarge               permanent: more than the queue can ever hold
 └─ ExportError            the next stage did not take a batch
     ├─ Retryable          it may take it later
     └─ Permanent          it never will
          └─ MessageTooLarge   but it may take a smaller one
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


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


class QueueFull(OtelbeeError):
    """The queue has no room now; the sender should come back after ``retry_after_s`` seconds."""

    def __init__(self, retry_after_s: float) -> None:
        """Keep the delay, in seconds."""
        super().__init__(f"the queue is full; retry after {retry_after_s:g} s")
        self.retry_after_s = retry_after_s


class TooLarge(OtelbeeError):
    """More bytes than the queue can ever hold; retrying cannot help."""


class ExportError(OtelbeeError):
    """The next stage did not take a batch."""


class Retryable(ExportError):
    """The next stage may take the batch later, after ``retry_after_s`` seconds where it said so (RetryInfo)."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        """Keep the delay that the peer asked for, in seconds; None where it asked for none."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Permanent(ExportError):
    """The next stage will never take this batch."""


class MessageTooLarge(Permanent):
    """The next stage refuses a message of this size; halves of it may pass."""
