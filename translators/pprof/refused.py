"""Why a profile is not translated."""

from __future__ import annotations


class RefusedError(ValueError):
    """The text says what is wrong and where; ``reason`` is a label of a counter."""

    def __init__(self, text: str, reason: str = "malformed") -> None:
        """Refuse a profile for one of the reasons ``malformed``, ``too_large``, ``unsupported``."""
        super().__init__(text)
        self.reason = reason
