"""Every source and exporter, one line each. The only module that pairs a source with a translator."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from receiver.exporters import debug, file, otlp_grpc
from receiver.recording import Recorded, read_numbered, read_whole
from receiver.sources import bpf, otlp, parca, pprof, tetragon, tetragon_file
from translators.batch import Signal
from translators.bpf import Translator as BpfTranslator
from translators.by_kind import ByKind
from translators.otlp_passthrough import Translator as OtlpTranslator
from translators.pprof import Translator as PprofTranslator
from translators.redact import DEFAULT_RULES, Redactor
from translators.resource import ResourceOptions
from translators.tetragon import Translator as TetragonTranslator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from receiver.fields import Section
    from receiver.types import Checkpoint, Source
    from translators.batch import Translator


class Shared(NamedTuple):
    """What every translator is given beside its source's own options."""

    resource: ResourceOptions
    redactor: Redactor | None
    """None where redaction is off. It counts its matches, so each source has its own."""


class Entry(NamedTuple):
    """One source: a protocol and a format."""

    config: type[Section]
    source: Callable[[Any, Checkpoint | None], Source]
    """From an instance of ``config``, and where it left off; None without ``storage``. Most keep no checkpoint."""
    translator: Callable[[Any, Shared], Translator]
    records: Callable[[BinaryIO], Iterator[Recorded]] | None
    """How a file holds this tool's records; None where there is no such file, or another source reads it."""
    stability: str
    stream: bool = False
    """Whether its peer keeps nothing for who is away: each start is reported as a gap."""
    signals: frozenset[Signal] = frozenset({Signal.LOGS})
    """What it receives; what its translator derives beside that may be dropped."""
    format: str = ""
    """What ``otelbee translate`` calls its records, where that is not the source's name."""


def share(
    attributes: Mapping[str, str | int | float | bool], host_name: str, rules: Mapping[str, str] | None
) -> Shared:
    """Build what one source's translator shares with all others; ``rules`` add to the default ones, None is off."""
    redactor = None if rules is None else Redactor({**DEFAULT_RULES, **rules})
    return Shared(ResourceOptions(attributes, host_name), redactor)


def source_type(source_id: str) -> str:
    """The registry key of an instance name, ``type`` or ``type/name``."""
    return source_id.partition("/")[0]


def _tetragon(config: tetragon.Config | tetragon_file.Config, shared: Shared) -> Translator:
    return TetragonTranslator(config.options(shared.resource, shared.redactor))


def _bpf(config: bpf.Config, shared: Shared) -> Translator:
    return BpfTranslator(config.options(shared.resource, shared.redactor))


def _otlp(config: otlp.Config, _: Shared) -> Translator:
    return OtlpTranslator(config.options())


def _pprof(config: pprof.Config, shared: Shared) -> Translator:
    return PprofTranslator(config.options(shared.resource, shared.redactor))


def _parca(config: parca.Config, shared: Shared) -> Translator:
    from translators.parca_arrow.translator import Translator as ParcaArrowTranslator  # noqa: PLC0415 - loads pyarrow

    arrow = ParcaArrowTranslator(config.arrow(shared.resource, shared.redactor))
    raw = PprofTranslator(config.pprof(shared.resource, shared.redactor))
    return ByKind({"arrow_v1": arrow, "arrow_v2": arrow, "write_raw": raw})


_OTLP = frozenset({Signal.LOGS, Signal.METRICS, Signal.TRACES})

SOURCES: Mapping[str, Entry] = MappingProxyType(
    {
        "tetragon": Entry(
            tetragon.Config, lambda config, _: tetragon.Source(config), _tetragon, read_numbered, "alpha", stream=True
        ),
        "tetragon_file": Entry(tetragon_file.Config, tetragon_file.Source, _tetragon, None, "alpha"),
        "bpf": Entry(bpf.Config, lambda config, _: bpf.Source(config), _bpf, bpf.read_recorded, "alpha", stream=True),
        "pprof": Entry(
            pprof.Config, pprof.Source, _pprof, read_whole("pprof"), "alpha", signals=frozenset({Signal.PROFILES})
        ),
        "otlp": Entry(otlp.Config, otlp.Source, _otlp, None, "alpha", signals=_OTLP),
        "parca": Entry(
            parca.Config,
            parca.Source,
            _parca,
            read_whole("arrow_v2"),
            "alpha",
            signals=frozenset({Signal.PROFILES}),
            format="parca_arrow",
        ),
    }
)

TRANSLATABLE: Mapping[str, str] = MappingProxyType(
    {entry.format or name: name for name, entry in SOURCES.items() if entry.records is not None}
)
"""The sources whose recorded data ``otelbee translate`` reads, by what it calls them."""

EXPORTERS: Mapping[str, type[Section]] = MappingProxyType(
    {
        "otlp_grpc": otlp_grpc.Config,
        "debug": debug.Config,
        "file": file.Config,
    }
)
