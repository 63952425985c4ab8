"""The configuration: the models of the sections that belong to no part, and how all of it is loaded.

Sources and exporters bring the models of their own sections. Everything is closed and frozen.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, InstanceOf, StringConstraints

from receiver.errors import ConfigError
from receiver.exporters import Config as ExporterConfig
from receiver.exporters import otlp_grpc
from receiver.exporters.debug import Config as DebugConfig
from receiver.fields import Address, Duration, Regex, Section
from receiver.layers import ENVIRONMENT_PREFIX, Document, read, show
from receiver.memory import Config as MemoryConfig
from receiver.problems import unknown, validated
from receiver.registry import EXPORTERS, SOURCES, TRANSLATABLE, Shared, share, source_type
from receiver.storage import Config as StorageConfig
from receiver.yaml_text import parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

_SOURCE_ID = re.compile(r"(?P<type>[a-z][a-z0-9_]*)(/[A-Za-z0-9_.-]{1,63})?")
_REQUIRED_EXPORTER = (
    "exporter: required, but missing; write for example exporter: {otlp_grpc: {endpoint: localhost:4317, "
    "tls: {insecure: true}}} (OTEL_EXPORTER_OTLP_* is not read)"
)


def _directory(storage: Any) -> Any:
    return {"directory": storage} if isinstance(storage, str) else storage


RuleName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z][a-zA-Z0-9_-]{0,39}$")]
AttributeKey = Annotated[str, StringConstraints(min_length=1)]


class Resource(Section):
    """What is added to every resource."""

    attributes: dict[AttributeKey, str | int | float | bool] = Field(default_factory=dict)
    """Fill in what was not observed; they never replace it."""
    host_name: str = ""
    """``host.name`` of what is observed here, for example ``${env:NODE_NAME}``; empty: what the tool itself says."""


class Redaction(Section):
    """Secrets in what processes were given; replaced before anything is queued."""

    enabled: bool = True
    rules: dict[RuleName, Regex] = Field(default_factory=dict)
    """More rules beside the default ones, by name; a match becomes ``<redacted:NAME>``."""


class Logs(Section):
    """otelbee's own log, on stderr."""

    level: Literal["debug", "info", "warn", "error"] = "info"
    encoding: Literal["console", "json"] = "console"


class OwnTelemetry(Section):
    """What otelbee says about itself."""

    logs: Logs = Logs()
    endpoint: Address = "localhost:8877"
    """Where ``/metrics``, ``/live`` and ``/ready`` are served."""


class RunAs(Section):
    """Who the receiver is when root starts it for a ``bpf`` source; the bpf process stays root, with two capabilities."""

    user: str = ""
    """A user's name or number; empty: the owner of the installation."""
    groups: tuple[str, ...] = ()
    """Supplementary groups, by name or number: for sockets and files that a source has to open."""


class Config(Section):
    """One valid configuration."""

    sources: dict[str, InstanceOf[Section]]
    """By instance name, ``type`` or ``type/name``; each of its registry entry's model."""
    exporter: ExporterConfig
    storage: Annotated[StorageConfig, BeforeValidator(_directory)] | None = None
    """What survives a restart; a path alone means its ``directory``. None: queues are in memory."""
    debug: DebugConfig | None = None
    """Shows what passes, beside the exporter; None is off."""
    resource: Resource = Resource()
    redaction: Redaction = Redaction()
    memory_limiter: MemoryConfig = MemoryConfig()
    telemetry: OwnTelemetry = OwnTelemetry()
    run_as: RunAs = RunAs()
    """Who the receiver is when root starts it for a ``bpf`` source."""
    shutdown_timeout: Annotated[Duration, Field(gt=timedelta(0))] = timedelta(seconds=10)
    """How long all of a stop may take; what is queued in memory then is lost, and counted."""

    def shared(self) -> Shared:
        """What the translator of one source is given."""
        rules = self.redaction.rules if self.redaction.enabled else None
        return share(self.resource.attributes, self.resource.host_name, rules)


def load(paths: Sequence[Path], sets: Sequence[str], environ: Mapping[str, str]) -> Config:
    """Load the configuration from files, then ``--set`` values, then ``OTELBEE__*`` variables; later ones win.

    Raises:
        ConfigError: with every problem at once.
    """
    document = read(paths, sets, environ)
    return _validate(document, document.data)


def load_text(text: str) -> Config:
    """Load a configuration from its text alone.

    Raises:
        ConfigError: with every problem at once.
    """
    document = Document(parse(text), texts={}, origins={}, problems=(), failed=frozenset(), complete=True)
    return _validate(document, document.data)


def load_for_translation(source: str, sets: Sequence[str], environ: Mapping[str, str]) -> Config:
    """Load what ``otelbee translate`` needs: one source with its ``--set`` options, and nothing to export to.

    A path in ``sets`` begins with an option of the source, or with ``resource`` or ``redaction``.

    Raises:
        ConfigError: with every problem at once.
    """
    if source not in TRANSLATABLE:
        what = "source of recorded data" if source in SOURCES else "source"
        raise ConfigError([f"{source}: {unknown(source, what, sorted(TRANSLATABLE))}"])
    source = TRANSLATABLE[source]
    names = {name: value for name, value in environ.items() if not name.startswith(ENVIRONMENT_PREFIX)}
    whole = [
        given if re.match(r"(resource|redaction)(\.|::|=)", given) else _below_source(source, given) for given in sets
    ]
    document = read((), whole, names)
    return _validate(document, {"sources": {source: {}}, "exporter": {"debug": {}}} | document.data)


def _below_source(source: str, given: str) -> str:
    separator = "::" if "::" in given.partition("=")[0] else "."
    return f"sources{separator}{source}{separator}{given}"


def _validate(document: Document, data: Mapping[str, Any]) -> Config:
    if not document.complete:
        raise ConfigError(document.problems)
    # A key without a value means its defaults, as it does for the Collector.
    rest = {key: {} if value is None else value for key, value in data.items()}
    sources, source_problems = _sources(rest.pop("sources", {}), document)
    exporter, exporter_problems = _exporter(rest.pop("exporter", {}), document)
    parts = {"sources": sources, "exporter": exporter}
    reported = document._replace(failed=document.failed | {("exporter",)})
    config, problems = validated(Config, {**rest, **parts}, (), reported)
    problems = [*document.problems, *source_problems, *exporter_problems, *problems]
    if problems or config is None:
        raise ConfigError(problems)
    return _retrying_for_ever(config) if config.storage else config


def _retrying_for_ever(config: Config) -> Config:
    """With ``storage`` nothing is dropped for its age, unless the configuration says when."""
    exporter = config.exporter
    if not isinstance(exporter, otlp_grpc.Config) or "max_elapsed_time" in exporter.retry_on_failure.model_fields_set:
        return config
    retry = exporter.retry_on_failure.model_copy(update={"max_elapsed_time": timedelta(0)})
    return config.model_copy(update={"exporter": exporter.model_copy(update={"retry_on_failure": retry})})


def _sources(data: Any, document: Document) -> tuple[dict[str, Section], list[str]]:
    if ("sources",) in document.failed:
        return {}, []
    if not isinstance(data, dict) or not data:
        return {}, [f"sources: at least one is required (valid: {', '.join(sorted(SOURCES))})"]
    sources, problems = {}, []
    for name, section in data.items():
        place = ("sources", name)
        kind = _SOURCE_ID.fullmatch(name)
        if not name or source_type(name) not in SOURCES:
            problems.append(f"{show(place)}: {unknown(source_type(name), 'source', sorted(SOURCES))}")
        elif kind is None:
            problems.append(f"{show(place)}: not a name; write TYPE or TYPE/NAME, NAME of letters, digits and _ . -")
        elif place not in document.failed:
            config, found = validated(SOURCES[kind["type"]].config, _or_defaults(section), place, document)
            problems += found
            if config is not None:
                sources[name] = config
    readers = [name for name in sources if source_type(name) == "bpf"]
    problems += [
        f"{show(('sources', name))}: a host's kernel programs have one reader, and {readers[0]} is one already"
        for name in readers[1:]
    ]
    return sources, problems


def _exporter(data: Any, document: Document) -> tuple[Section | None, list[str]]:
    if ("exporter",) in document.failed:
        return None, []
    if not isinstance(data, dict) or not data:
        return None, [f"{_REQUIRED_EXPORTER} (valid: {', '.join(EXPORTERS)})"]
    wrong = [
        f"exporter::{name}: {unknown(name, 'exporter', list(EXPORTERS))}" for name in data if name not in EXPORTERS
    ]
    known = [name for name in data if name in EXPORTERS]
    if len(known) > 1:
        wrong.append(f"exporter: exactly one is possible, found {_and(known)}; keep one of them")
    built = None
    for name in known:
        place = ("exporter", name)
        if place not in document.failed:
            section = _or_defaults(data[name])
            built, found = validated(EXPORTERS[name], section, place, document)
            if name == "otlp_grpc" and isinstance(section, dict) and "endpoint" not in section:
                found = [
                    f"{line}; write for example localhost:4317 (OTEL_EXPORTER_OTLP_* is not read)"
                    if line.startswith("exporter::otlp_grpc::endpoint:")
                    else line
                    for line in found
                ]
            wrong += found
    return built, wrong


def _or_defaults(section: Any) -> Any:
    return {} if section is None else section


def _and(words: Iterable[str]) -> str:
    return " and ".join(words)
