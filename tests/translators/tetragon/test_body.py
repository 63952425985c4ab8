"""Bodies are for people: the content of Tetragon's own compact output."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from translators.tetragon import Translator
from translators.tetragon.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable


def content(compact: str) -> str:
    """A line of ``tetra getevents -o compact`` without emoji, padding, capabilities, and quotes around plain text."""
    line = re.sub(r"^[^\x00-\x7f]+ ", "", compact)
    line = re.sub(r"\s+(🛑.*)?$", "", line)
    line = re.sub(r'(?:\\x00)+"$', '"', line)
    line = re.sub(r'"([^"\\]*)"', r"\1", line)
    return re.sub(r" +", " ", line).strip()


def test_bodies_say_what_the_official_compact_output_says(vectors: list[Any], run_with: Callable[..., Any]) -> None:
    """Ours may go on where the official line ends: with the file or the socket that a hook was about."""
    compared = 0
    for vector in vectors:
        if not vector.compact:
            continue
        body = run_with(Translator(), [vector.wire]).records[0].body
        assert re.sub(r" +", " ", body).startswith(content(vector.compact)), vector.name
        compared += 1
    assert compared > 80


def test_no_body_can_move_a_terminals_cursor(vectors: list[Any], run_with: Callable[..., Any]) -> None:
    """Control characters are escaped, as Go would."""
    for vector in vectors:
        body = run_with(Translator(), [vector.wire]).records[0].body
        assert not re.search("[\x00-\x1f\x7f-\x9f]", body), vector.name
    assert printable("a\nb\x1b[31m\u202e") == '"a\\nb\\x1b[31m\\u202e"'
    assert printable('plain "quoted" text') == 'plain "quoted" text'


def test_an_unknown_function_is_followed_by_what_it_was_about(run_with: Callable[..., Any]) -> None:
    """The first file, socket or address."""
    event = {
        "process_kprobe": {
            "process": {"binary": "/bin/cat"},
            "function_name": "security_file_permission",
            "args": [{"int_arg": 1}, {"file_arg": {"path": "/etc/passwd"}}],
        },
        "node_name": "n",
    }
    record = run_with(Translator(), [json.dumps(event).encode()], "json").records[0]
    assert record.body == "syscall n /bin/cat security_file_permission /etc/passwd"
