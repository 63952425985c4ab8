"""The page that says what becomes of every field says it of every field."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from translators.pb import tetragon_pb2 as full

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).resolve().parents[3] / "docs" / "sources" / "tetragon-mapping.md"


def reachable(descriptor: object, seen: set[str]) -> Iterator[tuple[str, list[str]]]:
    """Every message below a message, with the names of its fields."""
    name = descriptor.name  # type: ignore[attr-defined] # the descriptor classes share no typed base
    if name in seen:
        return
    seen.add(name)
    fields = list(descriptor.fields)  # type: ignore[attr-defined] # likewise
    yield name, [field.name for field in fields]
    for field in fields:
        below = field.message_type
        if below is not None and below.file.package == "tetragon" and not below.GetOptions().map_entry:
            yield from reachable(below, seen)


def sections() -> dict[str, str]:
    """The page's sections by heading."""
    parts = re.split(r"^#{2,3} (.+)$", PAGE.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_page_has_every_field_of_every_message() -> None:
    """A field that is added to the schema has to be decided on."""
    page = sections()
    whole = PAGE.read_text()
    missing = []
    messages = dict(reachable(full.GetEventsResponse.DESCRIPTOR, set()))
    assert len(messages) == 49
    for message, fields in messages.items():
        if message not in page:
            # Messages that are listed as they are.
            if message not in page["KprobeArgument"]:
                missing.append(message)
            continue
        named = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (.+?) \|", page[message], flags=re.MULTILINE))))
        missing += [f"{message}.{field}" for field in fields if field not in named]
    assert missing == []
    assert "What is left out" in whole
