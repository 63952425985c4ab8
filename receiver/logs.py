"""otelbee's own log: changes of state, on stderr, for people (``console``) or machines (``json``)."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Literal, TextIO

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
_NAMES = {number: name for name, number in _LEVELS.items()}


def configure(level: str, encoding: Literal["console", "json"], stream: TextIO) -> Callable[[], None]:
    """Write the log to ``stream``; other packages' loggers are heard from ``warn`` on. Returns what undoes it."""
    target = logging.StreamHandler(stream)
    target.setLevel(_LEVELS[level])
    target.setFormatter(_Json() if encoding == "json" else _Console())
    root, own = logging.getLogger(), logging.getLogger("receiver")
    before = own.level
    root.addHandler(target)
    own.setLevel(_LEVELS[level])

    def undo() -> None:
        root.removeHandler(target)
        own.setLevel(before)

    return undo


class _Console(logging.Formatter):
    """Time, level, logger and message between tabs, as the Collector's console encoding has them."""

    def format(self, record: logging.LogRecord) -> str:
        # A peer's words may be in the message: one record stays one line.
        message = record.getMessage().replace("\r", "\\r").replace("\n", "\\n")
        line = "\t".join((_when(record), _level(record), record.name, message))
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _Json(logging.Formatter):
    """One JSON object a line, with the Collector's keys."""

    def format(self, record: logging.LogRecord) -> str:
        line = {"level": _level(record), "ts": _when(record), "logger": record.name, "msg": record.getMessage()}
        if record.exc_info:
            line["stacktrace"] = self.formatException(record.exc_info)
        return orjson.dumps(line).decode()


def _level(record: logging.LogRecord) -> str:
    return _NAMES.get(record.levelno, record.levelname.lower())


def _when(record: logging.LogRecord) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z"
