"""Where configuration comes from: files, ``--set``, the environment; merged, then expanded into one document.

Maps merge, everything else replaces; what comes later wins. ``${env:NAME}`` is expanded after merging, so that a value
that a later layer replaces need not have its variable.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from receiver.yaml_text import YamlProblem, lines, parse

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

ENVIRONMENT_PREFIX = "OTELBEE__"

type_of = {dict: "a map", list: "a list", type(None): "nothing"}

_REFERENCE = re.compile(r"\$\$|\$\{(?P<inside>[^}]*)(?P<end>\}?)")
_INSIDE = re.compile(r"(?:env:)?(?P<name>[a-zA-Z_][a-zA-Z0-9_]*)(?P<default>:-(?P<text>.*))?", re.DOTALL)

Place = tuple[str | int, ...]
"""A path of map keys and list positions."""


class Document(NamedTuple):
    """One configuration, not validated yet."""

    data: dict[str, Any]
    texts: Mapping[Place, str]
    """The text behind a value that was parsed from an environment variable or ``--set``: a field that wants a string
    gets this, so that a password of digits stays one (the Collector does the same)."""
    origins: Mapping[Place, str]
    """Where a value came from, when it was not a file."""
    problems: tuple[str, ...]
    failed: frozenset[Place]
    """Places whose value could not be had; ``problems`` says why."""
    complete: bool
    """Whether every file could be read; what is missing may stand in one that could not."""


class _Given(NamedTuple):
    """A scalar from outside a file."""

    value: Any
    text: str
    origin: str


def show(place: Place) -> str:
    """A place as the Collector writes it, ``exporter::otlp_grpc::endpoint``."""
    return "::".join(str(step) for step in place)


def read(paths: Sequence[Path], sets: Sequence[str], environ: Mapping[str, str]) -> Document:
    """Read the files in order, then ``sets`` (``a.b=value``), then ``OTELBEE__A__B`` of ``environ``.

    What is wrong ends up in the document's ``problems``; this raises nothing.
    """
    problems: list[str] = []
    tree: dict[str, Any] = {}
    files = list(_files(paths, problems))
    complete = not problems
    for layer in (*files, *_sets(sets, problems), *_variables(environ, problems)):
        tree = _merge(tree, layer)
    expansion = _Expansion(environ)
    data = expansion.expand(tree, ())
    return Document(
        data=data,
        texts=expansion.texts,
        origins=expansion.origins,
        problems=(*problems, *expansion.problems),
        failed=frozenset(expansion.failed),
        complete=complete,
    )


def origins(paths: Sequence[Path], sets: Sequence[str], environ: Mapping[str, str]) -> dict[Place, str]:
    """Find where each value of the document that :func:`read` makes was written: ``FILE:LINE``, ``--set``, a variable.

    A section without a value has no origin: what is in it are defaults. The document must be without problems.
    """
    found: dict[Place, str] = {}
    for path in paths:
        text = path.read_text(encoding="utf-8")
        tree = parse(text)
        for place, line in lines(text).items():
            if (value := _at(tree, place)) not in ({}, None):
                used = "".join(f", ${name}" for name in _variables_in(value))
                found[place] = f"{path}:{line}{used}"
    ignored: list[str] = []
    given = [("--set", layer) for layer in _sets(sets, ignored)]
    given += [(name, layer) for name in sorted(environ) for layer in _variables({name: environ[name]}, ignored)]
    for origin, layer in given:
        found.update(dict.fromkeys(_leaves(layer, ()), origin))
    return found


def _leaves(tree: Any, place: Place) -> Iterator[Place]:
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from _leaves(value, (*place, key))
    else:
        yield place


def _at(tree: Any, place: Place) -> Any:
    for step in place:
        tree = tree[step]
    return tree


def _variables_in(value: Any) -> Iterator[str]:
    for match in _REFERENCE.finditer(value if isinstance(value, str) else ""):
        if match["inside"] is not None and (inside := _INSIDE.fullmatch(match["inside"])):
            yield inside["name"]


def _files(paths: Sequence[Path], problems: list[str]) -> Iterator[dict[str, Any]]:
    for path in paths:
        try:
            tree = parse(path.read_text(encoding="utf-8"))
        except OSError as error:
            problems.append(f"{path}: cannot be read: {error.strerror}")
        except UnicodeDecodeError as error:
            problems.append(f"{path}: is not UTF-8 at byte {error.start}")
        except YamlProblem as error:
            problems.append(f"{path}:{error}")
        else:
            if isinstance(tree, dict):
                yield tree
            elif tree is not None:
                problems.append(f"{path}: should hold a map of sections, not {type_of.get(type(tree), 'a value')}")


def _sets(sets: Sequence[str], problems: list[str]) -> Iterator[dict[str, Any]]:
    for given in sets:
        path, equals, text = given.partition("=")
        steps = path.split("::") if "::" in path else path.split(".")
        if not equals or not all(steps):
            problems.append(f"--set {path}: write --set path.to.key=value")
            continue
        try:
            value = parse(text)
        except YamlProblem as error:
            problems.append(f"--set {path}: the value is not YAML: {error}")
            continue
        yield _nested(steps, value if isinstance(value, dict | list) else _Given(value, text, "--set"))


def _variables(environ: Mapping[str, str], problems: list[str]) -> Iterator[dict[str, Any]]:
    for name in sorted(environ):
        if not name.startswith(ENVIRONMENT_PREFIX):
            continue
        steps = name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
        if not all(steps):
            problems.append(f"{name}: write {ENVIRONMENT_PREFIX}SECTION__KEY")
            continue
        text = environ[name]
        value = _parse_value(text.replace("$", "$$"))  # expanded once, by whoever set the variable
        yield _nested(steps, value if isinstance(value, dict | list) else _Given(value, text, name))


def _nested(steps: Sequence[str], value: Any) -> dict[str, Any]:
    for step in reversed(steps):
        value = {step: value}
    return dict(value)


def _merge(below: Any, above: Any) -> Any:
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return below | {key: _merge(below[key], value) if key in below else value for key, value in above.items()}


def _parse_value(text: str) -> Any:
    """The value of an environment variable that stands alone: YAML, or the text where it is none."""
    try:
        value = parse(text)
    except YamlProblem:
        return text
    return text if isinstance(value, str) else value


class _Expansion:
    """Expands references in a tree, and remembers by place what the tree does not show."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.texts: dict[Place, str] = {}
        self.origins: dict[Place, str] = {}
        self.problems: list[str] = []
        self.failed: set[Place] = set()

    def expand(self, tree: Any, place: Place) -> Any:
        if isinstance(tree, dict):
            return {key: self.expand(value, (*place, key)) for key, value in tree.items()}
        if isinstance(tree, list):
            return [self.expand(value, (*place, index)) for index, value in enumerate(tree)]
        if isinstance(tree, _Given):
            self.origins[place] = tree.origin
            self.texts[place] = tree.text
            tree = tree.value
        return self._references(tree, place) if isinstance(tree, str) and "$" in tree else tree

    def _references(self, text: str, place: Place) -> Any:
        alone = _REFERENCE.fullmatch(text)
        if alone and alone["inside"] is not None:
            self.texts[place] = self._look_up(alone, place)
            return _parse_value(self.texts[place])
        return _REFERENCE.sub(lambda match: self._look_up(match, place), text)

    def _look_up(self, match: re.Match[str], place: Place) -> str:
        if match["inside"] is None:
            return "$"
        inside = _INSIDE.fullmatch(match["inside"])
        if inside is None or not match["end"]:
            self._fail(place, "only ${env:NAME} and ${env:NAME:-default} are expanded; write $$ for a dollar sign")
            return ""
        if inside["name"] in self._environ:
            return self._environ[inside["name"]]
        if inside["default"] is None:
            self._fail(
                place,
                f"the environment variable {inside['name']} is not set; "
                f"set it, or give a default: ${{env:{inside['name']}:-default}}",
            )
        return inside["text"] or ""

    def _fail(self, place: Place, message: str) -> None:
        self.problems.append(f"{show(place)}: {message}")
        self.failed.add(place)
