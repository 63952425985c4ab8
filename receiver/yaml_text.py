"""YAML as configuration files use it: the core schema of YAML 1.2, keys are strings, a key stands once.

Unlike PyYAML's default (YAML 1.1), ``on``, ``yes``, ``12:30`` and ``2026-01-01`` are strings here, and so is a number
with leading zeros: what names a pod or a host stays as it was written.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Hashable

_MERGE_TAG = "tag:yaml.org,2002:merge"


class YamlProblem(Exception):  # never leaves receiver.layers, which puts the file in front
    """The text is not YAML, or not what a configuration may hold; says where, never what stands there."""


def parse(text: str) -> Any:
    """Parse one document into dicts with string keys, lists and scalars.

    Raises:
        YamlProblem: with ``LINE:COLUMN:`` in front.
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - _Loader is a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{mark.line + 1}:{mark.column + 1}: " if mark else ""
        raise YamlProblem(f"{where}{error.problem or error.context}") from error
    except yaml.YAMLError as error:  # the reader's own, for characters that YAML forbids
        raise YamlProblem(str(error).splitlines()[0]) from error


def lines(text: str) -> dict[tuple[str | int, ...], int]:
    """Find the line of every value of a document that :func:`parse` can read, except of maps that hold something.

    The line is that of the value's key. What a merge key (``<<``) brings has the lines where it is written.
    """
    found: dict[tuple[str | int, ...], int] = {}
    root = yaml.compose(text, _Loader)
    if root is not None:
        _note_lines(root, (), 1, found)
    return found


def _note_lines(
    node: yaml.Node, place: tuple[str | int, ...], line: int, found: dict[tuple[str | int, ...], int]
) -> None:
    if isinstance(node, yaml.MappingNode) and node.value:
        merged = [value for key, value in node.value if key.tag == _MERGE_TAG]
        for each in merged:
            for source in each.value if isinstance(each, yaml.SequenceNode) else (each,):
                _note_lines(source, place, source.start_mark.line + 1, found)
        for key, value in node.value:
            if key.tag != _MERGE_TAG:
                _note_lines(value, (*place, key.value), key.start_mark.line + 1, found)
        return
    found[place] = line
    if isinstance(node, yaml.SequenceNode):
        for position, value in enumerate(node.value):
            _note_lines(value, (*place, position), value.start_mark.line + 1, found)


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - as PyYAML declares it

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: ARG002, FBT001, FBT002 - PyYAML's signature
        first_line: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a plain word", key.start_mark)
            if key.value in first_line and key.tag != _MERGE_TAG:
                raise yaml.constructor.ConstructorError(
                    None, None, f'duplicate key "{key.value}" (first on line {first_line[key.value]})', key.start_mark
                )
            first_line[key.value] = key.start_mark.line + 1
        self.flatten_mapping(node)
        return {key.value: self.construct_object(value, deep=True) for key, value in node.value}


def _construct_list(loader: _Loader, node: yaml.SequenceNode) -> list[Any]:
    return loader.construct_sequence(node, deep=True)


def _construct_int(_: _Loader, node: yaml.ScalarNode) -> int:
    return int(node.value, 0)


# Not generators, as PyYAML's own are: so an anchor that holds itself is an error.
_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.construct_mapping)
_Loader.add_constructor("tag:yaml.org,2002:seq", _construct_list)
_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)

for _name, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9]*)|0x[0-9a-fA-F]+|0o[0-7]+", list("-+0123456789")),
    ("float", r"[-+]?[0-9]*\.[0-9]+([eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(rf"^(?:{_pattern})$"), _first)
