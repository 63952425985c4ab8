"""docs/config.md says what the models say."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ByteSize

from receiver.config import Config
from receiver.exporters.sending_queue import SendingQueue
from receiver.fields import format_duration
from receiver.net import bearer
from receiver.net.auth import Auth, Secrets
from receiver.net.tls import ClientTLS
from receiver.problems import annotations_at
from receiver.registry import EXPORTERS, SOURCES
from receiver.sources.excluding import Exclude
from receiver.sources.process_spans import Processes
from receiver.sources.tetragon import Config as Tetragon
from receiver.sources.tetragon.filters import Capabilities, CapabilitySet, Filter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

DOCUMENT = Path(__file__).parents[2] / "docs" / "config.md"
ONCE: dict[type[BaseModel], str] = {
    ClientTLS: "tls",
    bearer.Auth: "exporter::otlp_grpc::auth",
    bearer.TokenFile: "exporter::otlp_grpc::auth::bearertokenauth",
    SendingQueue: "sending_queue",
    Auth: "auth",
    Secrets: "auth::bearertokenauth",
    Exclude: "sources::tetragon::exclude",
    Processes: "sources::tetragon::process_spans",
    Filter: "sources::tetragon::filters::allow",
    Capabilities: "sources::tetragon::filters::allow::capabilities",
    CapabilitySet: "sources::tetragon::filters::allow::capabilities::permitted",
}
"""Sections that stand in several places and are described in one."""


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections that a field holds, in lists and unions too."""
    for member in annotations_at(annotation, ()):
        if isinstance(member, type) and issubclass(member, BaseModel):
            yield member
        else:
            for argument in get_args(member):
                yield from models_in(argument)


def sections(model: type[BaseModel], place: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """Every section below ``model``, by the heading that describes it."""
    place = ONCE.get(model, place)
    yield place or "(top level)", model
    for name, field in model.model_fields.items():
        if not place and name in {"sources", "exporter", "debug"}:
            continue
        for below in models_in(field.annotation):
            yield from sections(below, f"{place}::{name}" if place else name)


def default(field: FieldInfo) -> str:
    """A default as the document writes it."""
    value = field.get_default(call_default_factory=True)
    if field.is_required():
        return "required"
    if value is None:
        return "unset"
    if isinstance(value, BaseModel):
        return "section"
    if isinstance(value, timedelta):
        return f"`{format_duration(value)}`"
    if isinstance(value, ByteSize):
        units = (("MiB", 1 << 20), ("KiB", 1 << 10))
        return next((f"`{value // size}{unit}`" for unit, size in units if value % size == 0), f"`{int(value)}`")
    if isinstance(value, tuple):
        return f"`{list(value)}`"
    return f"`{str(value).lower()}`" if isinstance(value, bool) else f"`{value}`" if value != "" else '`""`'


def documented() -> dict[str, dict[str, str]]:
    """Heading -> key -> default, from the document."""
    text = DOCUMENT.read_text(encoding="utf-8").partition("\n## Sections")[2].partition("\n## Where it differs")[0]
    found: dict[str, dict[str, str]] = {}
    for section in text.split("\n### ")[1:]:
        heading = section.splitlines()[0].strip("`")
        found[heading] = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section, re.MULTILINE))
    return found


def test_every_key_has_its_row() -> None:
    """One row per key with its default, below its section's heading, and no row for what does not exist."""
    roots = [(Config, "")]
    roots += [(model, f"exporter::{name}") for name, model in EXPORTERS.items()]
    roots += [(entry.config, f"sources::{name}") for name, entry in SOURCES.items()]
    expected = {
        heading: {name: default(field) for name, field in section.model_fields.items()}
        for model, place in roots
        for heading, section in sections(model, place)
    }
    assert documented() == expected


def test_the_sources_have_their_section() -> None:
    """One of the sources is among them, so that the check above is about something."""
    assert len(documented()["sources::tetragon"]) == len(Tetragon.model_fields)
