"""otelbee's own log: both encodings, the level, and nothing left behind."""

from __future__ import annotations

import io
import json
import logging
import re
from typing import TYPE_CHECKING, Literal

import pytest

from receiver.logs import configure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Encoding = Literal["console", "json"]


@pytest.fixture(name="written")
def _written() -> Iterator[Callable[[str, Encoding], io.StringIO]]:
    undo: list[Callable[[], None]] = []

    def start(level: str, encoding: Encoding) -> io.StringIO:
        stream = io.StringIO()
        undo.append(configure(level, encoding, stream))
        return stream

    yield start
    for each in undo:
        each()


def test_console_is_a_line_between_tabs(written: Callable[[str, Encoding], io.StringIO]) -> None:
    """Time, level, logger, message; a peer's line break does not make a second line."""
    stream = written("info", "console")
    logging.getLogger("receiver.app").warning("peer said %s", "a\nb\r2026 info forged")
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\twarn\treceiver\.app\tpeer said a\\nb\\r2026 info forged\n",
        stream.getvalue(),
    )


def test_json_is_an_object_a_line(written: Callable[[str, Encoding], io.StringIO]) -> None:
    """The Collector's keys, and the stack of an exception."""
    stream = written("info", "json")
    try:
        int("x")
    except ValueError:
        logging.getLogger("receiver.app").exception("it failed:\n%s", "twice")
    (line,) = stream.getvalue().splitlines()
    record = json.loads(line)
    assert record.keys() == {"level", "ts", "logger", "msg", "stacktrace"}
    assert (record["level"], record["msg"]) == ("error", "it failed:\ntwice")
    assert "ValueError: invalid literal" in record["stacktrace"]


@pytest.mark.parametrize(("level", "heard"), [("debug", 4), ("info", 3), ("warn", 2), ("error", 1)])
def test_the_level_is_the_least_that_is_heard(
    written: Callable[[str, Encoding], io.StringIO], level: str, heard: int
) -> None:
    """Each level hears itself and what is graver; other packages are heard from warnings on."""
    stream = written(level, "console")
    for name in ("debug", "info", "warning", "error"):
        getattr(logging.getLogger("receiver.test"), name)("x")
    assert len(stream.getvalue().splitlines()) == heard
    logging.getLogger("aiohttp").info("chatter")
    assert "chatter" not in stream.getvalue()


def test_it_can_be_undone() -> None:
    """Who configured logging can leave it as it was."""
    before = (list(logging.getLogger().handlers), logging.getLogger("receiver").level)
    configure("debug", "json", io.StringIO())()
    assert (list(logging.getLogger().handlers), logging.getLogger("receiver").level) == before
