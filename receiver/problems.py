"""What pydantic finds wrong, in the words of the person who wrote the configuration.

One line per problem: the path as it was typed, the value (never that of a secret), what would be valid, and the near
miss where there is one.
"""

from __future__ import annotations

import json
import re
import types
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, SecretBytes, SecretStr, ValidationError

from receiver.layers import Document, Place, show, type_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pydantic_core import ErrorDetails

_MAX_SHOWN = 80
_PASSWORD_IN_URL = re.compile(r"(?<=://)[^/@\s]*@")
_SHAPES = {
    "model_type": "should be a map",
    "dict_type": "should be a map",
    "list_type": "should be a list",
    "tuple_type": "should be a list",
}
_Model = TypeVar("_Model", bound=BaseModel)


def validated(model: type[_Model], data: Any, place: Place, document: Document) -> tuple[_Model | None, list[str]]:
    """Validate ``data``, which stands at ``place`` of ``document``, against ``model``.

    Returns the section, or None and a line per problem.
    """
    try:
        return model.model_validate(data), []
    except ValidationError as error:
        details = error.errors(include_url=False)
    texts: dict[Place, str] = {}
    for detail in details:
        where = (*place, *_typed(detail, data))
        if detail["type"] == "string_type" and where in document.texts:
            texts[where] = document.texts[where]
    if texts:  # a string is wanted where the text happens to look like something else
        for where, text in texts.items():
            data = _replaced(data, where[len(place) :], text)
        rest = {where: text for where, text in document.texts.items() if where not in texts}
        return validated(model, data, place, document._replace(texts=rest))
    return None, list(_lines(model, details, data, place, document))


def near_miss(word: str, valid: Iterable[str]) -> str:
    """`` did you mean "x"?`` with a leading ``;``, or nothing."""
    close = get_close_matches(word, list(valid), n=1, cutoff=0.6)
    return f'; did you mean "{close[0]}"?' if close else ""


def unknown(word: str, what: str, valid: Sequence[str]) -> str:
    """``unknown key; did you mean "endpoint"? (valid: ...)``."""
    return f"unknown {what}{near_miss(word, valid)} (valid: {', '.join(valid)})"


def _lines(
    model: type[BaseModel], details: Sequence[ErrorDetails], data: Any, place: Place, document: Document
) -> Iterator[str]:
    found: dict[Place, list[str]] = {}
    for detail in details:
        where = _typed(detail, data)
        if (*place, *where) not in document.failed:
            message = _message(detail, where, model)
            messages = found.setdefault(where, [])
            if message not in messages:
                messages.append(message)
    for where, messages in found.items():
        # Of a union's members, the one that got further down is the one that was meant.
        if any(len(other) > len(where) and other[: len(where)] == where for other in found):
            continue
        origin = document.origins.get((*place, *where))
        yield f"{show((*place, *where))}: {' or '.join(messages)}{f' (from {origin})' if origin else ''}"


def _typed(detail: ErrorDetails, data: Any) -> Place:
    """Drop from pydantic's location what the user did not type: names of union members and of validators."""
    typed: list[str | int] = []
    for position, step in enumerate(detail["loc"]):
        missing = detail["type"] == "missing" and position == len(detail["loc"]) - 1
        if isinstance(data, list) and isinstance(step, int):
            data = data[step]
        elif isinstance(data, dict) and step in data:
            data = data.get(step)
        elif not missing:
            continue
        typed.append(step)
    return tuple(typed)


def _replaced(data: Any, where: Place, value: Any) -> Any:
    if not where:
        return value
    copy: Any = list(data) if isinstance(data, list) else dict(data)
    copy[where[0]] = _replaced(data[where[0]], where[1:], value)
    return copy


def _message(detail: ErrorDetails, where: Place, model: type[BaseModel]) -> str:
    kind, message, value = detail["type"], detail["msg"], detail["input"]
    if kind == "extra_forbidden":
        return unknown(str(where[-1]), "key", sorted(set(_keys(annotations_at(model, where[:-1])))))
    if kind == "missing":
        return "required, but missing"
    shown = None if any(_holds_secret(each) for each in annotations_at(model, where)) else _show_value(value)
    if kind in {"literal_error", "enum"}:
        valid = re.findall(r"'([^']*)'", str(detail.get("ctx", {}).get("expected", "")))
        return f"{shown or 'the value'} is not one of {', '.join(valid)}{near_miss(str(value), valid)}"
    if kind == "value_error":
        message = message.removeprefix("Value error, ")
        if message.startswith("not "):
            return f"{shown or 'the value'} is {message}"
        said = shown is None or isinstance(value, dict) or (isinstance(value, str) and repr(value) in message)
        return message if said else f"{message} (found {shown})"
    message = _SHAPES.get(kind, message).replace("Input should be", "should be")
    return message[0].lower() + message[1:] + (f", not {shown}" if shown else f", not {_show_type(value)}")


def _show_value(value: Any) -> str:
    if isinstance(value, dict | list | None):
        return _show_type(value)
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    text = without_password(text)
    if len(text) > _MAX_SHOWN:
        text = text[:_MAX_SHOWN] + "…"
    return json.dumps(text, ensure_ascii=False) if isinstance(value, str) else text


def without_password(text: str) -> str:
    """Hide what stands before the ``@`` of a URL."""
    return _PASSWORD_IN_URL.sub("[REDACTED]@", text)


def _show_type(value: Any) -> str:
    return type_of.get(type(value), "a value")


def annotations_at(model: Any, where: Place) -> list[Any]:
    """What a configuration may hold at ``where`` below ``model``: more than one where there is a union."""
    found = list(_members(model))
    for step in where:
        found = [member for each in found for below in _below(each, step) for member in _members(below)]
    return found


def _members(annotation: Any) -> Iterator[Any]:
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _members(get_args(annotation)[0])
    elif origin in {Union, types.UnionType}:
        for member in get_args(annotation):
            yield from _members(member)
    else:
        yield annotation


def _below(annotation: Any, step: str | int) -> Iterator[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            if step in {name, field.alias}:
                yield field.annotation
    elif arguments := get_args(annotation):  # dict[str, X], list[X], tuple[X, ...]
        yield arguments[-1] if arguments[-1] is not ... else arguments[0]


def _keys(annotations: Iterable[Any]) -> Iterator[str]:
    for annotation in annotations:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from (field.alias or name for name, field in annotation.model_fields.items())


def _holds_secret(annotation: Any) -> bool:
    if isinstance(annotation, type) and issubclass(annotation, SecretStr | SecretBytes):
        return True
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return any(_holds_secret(field.annotation) for field in annotation.model_fields.values())
    return any(_holds_secret(argument) for argument in get_args(annotation))
