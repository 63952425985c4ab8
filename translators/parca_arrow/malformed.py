"""Why a record is not translated."""

from __future__ import annotations

from typing import Final

MALFORMED: Final = "malformed"
TOO_LARGE: Final = "too_large"


class MalformedError(ValueError):
    """A record is not what it should be; the text says what is wrong and where."""

    reason = MALFORMED


class TooLargeError(MalformedError):
    """A record claims more than is ever decoded."""

    reason = TOO_LARGE
