"""``process_spans``: none, all, or some, and what is wrong with it in the words of the configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from receiver.config import load
from receiver.errors import ConfigError
from receiver.registry import SOURCES, share
from translators.spans import Selection

if TYPE_CHECKING:
    from pathlib import Path

REQUIRED: dict[str, dict[str, Any]] = {"tetragon": {}, "tetragon_file": {"path": "/x"}, "bpf": {}}


@pytest.mark.parametrize("source", REQUIRED)
@pytest.mark.parametrize(
    ("section", "chosen"),
    [(True, True), (False, False), ({"binaries": ["/sh$"]}, Selection(binaries=("/sh$",)))],
)
def test_the_section_reaches_the_translator(source: str, section: object, chosen: object) -> None:
    """Off is the default, for every source that observes processes."""
    shared = share({}, "", None)
    entry = SOURCES[source]
    config: Any = entry.config.model_validate({**REQUIRED[source], "process_spans": section})
    assert config.options(shared.resource, shared.redactor).process_spans == chosen
    unset: Any = entry.config.model_validate(REQUIRED[source])
    assert unset.options(shared.resource, shared.redactor).process_spans is False


@pytest.mark.parametrize(
    ("source", "section", "problem"),
    [
        (
            "tetragon",
            "{}",
            "process_spans: should be a valid boolean, not a map or selects nothing; give namespaces or binaries",
        ),
        ("tetragon", "{binaries: ['(']}", 'process_spans::binaries::0: "(" is not a regular expression of RE2'),
        ("tetragon", "{binary: [a]}", "process_spans::binary: unknown key; did you mean"),
        ("bpf", "{namespaces: [a]}", "process_spans::namespaces: unknown key"),
        ("bpf", "{}", "process_spans::binaries: required, but missing"),
        ("bpf", "some", "process_spans: should be a"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, source: str, section: str, problem: str) -> None:
    """By the path that was typed."""
    path = tmp_path / "otelbee.yaml"
    path.write_text(f"sources: {{{source}: {{process_spans: {section}}}}}\nexporter: {{debug: {{}}}}\n")
    with pytest.raises(ConfigError) as failed:
        load([path], [], {})
    assert any(problem in line for line in failed.value.problems), failed.value.problems
