"""The text of a first configuration: what is off stands there too, in comments."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from translators.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from receiver.fields import Section

_WIDTH = 116
_HEAD = f"""\
# Written by 'otelbee init' {VERSION} for what it found on this machine. What is in comments is off, with the reason above it.
# Every key is in docs/config.md. Whether this works here: otelbee doctor --config THIS_FILE
"""


class Block(NamedTuple):
    """A key with its value, and why it is on or off."""

    key: str
    value: Any
    on: bool
    why: str


def block(key: str, section: Section, *, on: bool, why: str) -> Block:
    """A section, without what is default."""
    return Block(key, section.model_dump(mode="json", exclude_defaults=True), on, why)


def text(sources: Sequence[Block], exporter: Block, rest: Sequence[Block]) -> str:
    """Write a configuration."""
    parts = [_HEAD, "sources:", *_below(sources), "exporter:", *_below([exporter])]
    parts += [line for each in rest for line in (*_lines(each), "")]
    return "\n".join(parts).rstrip() + "\n"


def _below(blocks: Sequence[Block]) -> Iterator[str]:
    for each in blocks:
        yield from (f"  {line}" for line in _lines(each))
        yield ""


def _lines(each: Block) -> Iterator[str]:
    yield from textwrap.wrap(each.why, _WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
    value = yaml.safe_dump({each.key: each.value}, sort_keys=False, width=_WIDTH).splitlines()
    yield from value if each.on else (f"# {line}" for line in value)
