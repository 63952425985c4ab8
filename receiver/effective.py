"""The configuration as it is in force: every value, where it came from, and no secret (``otelbee print-config``)."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ByteSize, SecretStr

from receiver.fields import format_duration
from receiver.problems import without_password
from receiver.registry import EXPORTERS
from receiver.yaml_text import parse

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping

    from receiver.config import Config
    from receiver.layers import Place

REDACTED = "[REDACTED]"
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./@*-]*(?::[A-Za-z0-9_./@*-]+)*")
"""Words that need no quotes, wherever they stand."""
_COMMENT_COLUMN = 48


def show(config: Config, origins: Mapping[Place, str]) -> str:
    """Write ``config`` as YAML that means the same, each value with its origin in a comment."""
    exporter = next(name for name, section in EXPORTERS.items() if type(config.exporter) is section)
    sections = {**dict(config), "exporter": {exporter: config.exporter}}
    written = config.model_fields_set
    return "\n".join(_lines(sections, written, (), origins)) + "\n"


def _lines(
    section: Mapping[str, Any], written: Container[str], place: Place, origins: Mapping[Place, str]
) -> Iterator[str]:
    """The keys of a section; those that are not ``written`` by the user are defaults."""
    indent = "  " * len(place)
    for key, value in section.items():
        at, name = (*place, key), _text(str(key))
        if value is None:
            yield f"{indent}# {name} is not set"
        elif isinstance(value, BaseModel | dict) and (below := dict(value)):
            yield f"{indent}{name}:"
            yield from _lines(below, _written(value), at, origins)
        elif _is_list_of_maps(value):
            yield f"{indent}{name}:"
            for position, each in enumerate(value):
                first, *rest = _lines(dict(each), _written(each), (*at, position), origins)
                yield f"{indent}  - {first.lstrip()}"
                yield from rest
        else:
            line = f"{indent}{name}: {_scalar(value)}"
            yield f"{line:<{_COMMENT_COLUMN}}  # {_origin(at, origins) if key in written else 'default'}"


def _written(value: BaseModel | dict[str, Any]) -> Container[str]:
    return value.model_fields_set if isinstance(value, BaseModel) else value


def _is_list_of_maps(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and isinstance(value[0], BaseModel)


def _origin(place: Place, origins: Mapping[Place, str]) -> str:
    """Where a value, or the short form of its section, stands; ``default`` where nobody wrote it."""
    for length in range(len(place), 0, -1):
        if place[:length] in origins:
            return origins[place[:length]]
    return "default"


def _scalar(value: Any) -> str:
    if isinstance(value, SecretStr):
        return json.dumps(REDACTED)
    if isinstance(value, ByteSize):
        return _size(int(value))
    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, list | tuple | set | frozenset):
        return f"[{', '.join(map(_scalar, value))}]"
    if isinstance(value, dict):
        return "{}"
    if isinstance(value, str | Path):
        return _text(without_password(str(value)))
    return json.dumps(value, default=str)


def _size(size_bytes: int) -> str:
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size_bytes and size_bytes % factor == 0:
            return f"{size_bytes // factor}{unit}"
    return str(size_bytes)


def _text(text: str) -> str:
    """A string as YAML; dollar signs are doubled, because a file's are expanded."""
    text = text.replace("$", "$$")
    return text if _PLAIN.fullmatch(text) and parse(text) == text else json.dumps(text, ensure_ascii=False)
