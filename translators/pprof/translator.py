"""The translator of pprof: each record, a body or a push with several, to one request of OTLP profiles."""

from __future__ import annotations

from collections import Counter
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple

from google.protobuf.message import DecodeError

from translators import attributes as key
from translators.batch import Batch, Part, Rejection, Signal, Translation
from translators.pb.profilestore_pb2 import WriteRawRequest
from translators.pb.push_pb2 import PushRequest
from translators.pprof import parts, profile
from translators.pprof.profile import Given
from translators.pprof.read import read
from translators.pprof.refused import RefusedError
from translators.profiles import labels as resource_labels
from translators.profiles.dictionary import Dictionary
from translators.profiles.labels import START_NS
from translators.wire import field

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from translators.batch import Origin
    from translators.pb import profilestore_pb2
    from translators.pprof.options import Options

PPROF, WRITE_RAW, PYROSCOPE_PUSH = "pprof", "write_raw", "pyroscope_push"
REDACTED: Final = "redacted"
NORMALIZED: Final = "parca.profile.normalized"
PYROSCOPE_ID: Final = "pyroscope.profile.id"
ELF_TYPE, LOAD_OFFSET, LOAD_ADDRESS = (
    "parca.elf.type",
    "parca.elf.load_segment.offset",
    "parca.elf.load_segment.address",
)
"""Attributes of mappings: what a pusher says about the executable of each, with which addresses become those of its file."""

_SCHEMA: Final = field(3, key.SCHEMA_URL.encode())


class Body(NamedTuple):
    """One pprof of a push."""

    place: str
    """Where it stands in its record, for an error's text; "" where it is the record."""
    data: bytes
    labels: Sequence[tuple[str, str]] = ()
    """Of its series; a name must not stand there twice."""
    attributes: tuple[tuple[str, str], ...] = ()
    """Further attributes of its Profiles."""
    mappings: Sequence[Mapping[str, int]] = ()
    """Further attributes of its mappings, in their order."""


class _Request:
    """One request under construction."""

    def __init__(self, options: Options, origin: Origin, now_ns: int, counts: Counter[str]) -> None:
        self._options = options
        self._origin = origin
        self._now_ns = now_ns
        self._counts = counts
        self._dictionary = Dictionary()
        self._scopes: dict[bytes, list[bytes]] = {}
        self._samples = 0
        self._newest_ns = 0

    def add_profile(self, body: Body) -> None:
        """Add a pprof; one that is refused leaves nothing behind.

        Raises:
            RefusedError: Something in it is wrong.
        """
        names = Counter(name for name, _ in body.labels)
        if repeated := [name for name, times in names.items() if times > 1]:
            raise RefusedError(f"the label {repeated[0]!r} stands there twice")
        given = self._given(body)
        sizes = self._dictionary.sizes()
        counts: Counter[str] = Counter()
        try:
            pprof = read(body.data, self._options.max_bytes)
            translated = profile.translate(pprof, given, self._dictionary, self._options, counts)
        except RefusedError:
            self._dictionary.cut(sizes)
            raise
        self._scopes.setdefault(given.resource, []).append(field(2, translated.scope_profiles))
        self._samples += translated.samples
        self._newest_ns = max(self._newest_ns, translated.end_ns)
        self._counts.update(counts)

    def batch(self) -> Batch | None:
        """Return the request; None where nothing was added."""
        if not self._scopes:
            return None
        resources = [
            field(1, b"".join((field(1, resource), *scopes, _SCHEMA))) for resource, scopes in self._scopes.items()
        ]
        data = b"".join((*resources, field(2, self._dictionary.encode())))
        return Batch(Signal.PROFILES, self._samples, data, (Part("", self._samples, self._newest_ns),))

    def _given(self, body: Body) -> Given:
        # What a source says beside a push (allow-listed headers) is not for its sender to forge.
        given = {**dict(body.labels), **self._origin.labels}
        start = given.pop(START_NS, "")
        options = self._options
        if options.redactor is not None:
            given = {name: options.redactor.environment(name, value) for name, value in given.items()}
        about_process, about_profile = resource_labels.split(given)
        own = {} if self._origin.principal is None else {key.OTELBEE_TENANT: self._origin.principal}
        resource = resource_labels.build(about_process.items(), options.resource_labels, options.resource, own)
        start_ns = int(start) if start.isdecimal() and len(start) < 20 else self._now_ns  # noqa: PLR2004 - digits of 2**64
        return Given(resource, {**about_profile, **dict(body.attributes)}, body.data, start_ns, body.mappings)


class Translator:
    """Translates records of kind ``pprof``, a body, ``write_raw`` and ``pyroscope_push``, serialised requests.

    It keeps nothing between calls. See :class:`translators.batch.Translator`.
    """

    blocking: ClassVar[bool] = True

    def __init__(self, options: Options) -> None:
        """Serve one source."""
        self._options = options

    def translate(self, kind: str, records: Sequence[bytes], origin: Origin, now_ns: int) -> Translation:
        """Translate records, each to a batch of its own. Of a push with a bad profile the good ones are kept."""
        batches: list[Batch] = []
        rejected: list[Rejection] = []
        counts: Counter[str] = Counter()
        for index, record in enumerate(records):
            request = _Request(self._options, origin, now_ns, counts)
            try:
                for body in _BODIES[kind](record):
                    try:
                        request.add_profile(body)
                    except RefusedError as error:
                        where = f"{body.place}: " if body.place else ""
                        rejected.append(Rejection(index, error.reason, f"{where}{error}"))
            except RefusedError as error:
                rejected.append(Rejection(index, error.reason, str(error)))
            except DecodeError as error:
                rejected.append(Rejection(index, "malformed", f"no {kind} request: {error}"))
            if (batch := request.batch()) is not None:
                batches.append(batch)
        if self._options.redactor is not None:
            counts[REDACTED] += sum(self._options.redactor.take_counts().values())
        return Translation(tuple(batches), tuple(rejected), +counts)


def _alone(record: bytes) -> Iterator[Body]:
    yield Body("", record)


def _write_raw(record: bytes) -> Iterator[Body]:
    parts.check(record)
    request = WriteRawRequest.FromString(record)
    about = ((NORMALIZED, "true"),) if request.normalized else ()
    for number, series in enumerate(request.series):
        labels = [(label.name, label.value) for label in series.labels.labels]
        for index, sample in enumerate(series.samples):
            mappings = list(map(_executable, sample.executable_info))
            yield Body(f"series {number}, sample {index}", sample.raw_profile, labels, about, mappings)


def _executable(info: profilestore_pb2.ExecutableInfo) -> Mapping[str, int]:
    segment = info.load_segment
    return {ELF_TYPE: info.elf_type, LOAD_OFFSET: segment.offset, LOAD_ADDRESS: segment.vaddr}


def _pyroscope(record: bytes) -> Iterator[Body]:
    parts.check(record)
    for number, series in enumerate(PushRequest.FromString(record).series):
        labels = [(label.name, label.value) for label in series.labels]
        for index, sample in enumerate(series.samples):
            about = ((PYROSCOPE_ID, sample.ID),) if sample.ID else ()
            yield Body(f"series {number}, sample {index}", sample.raw_profile, labels, about)


_BODIES: Final[Mapping[str, Callable[[bytes], Iterator[Body]]]] = MappingProxyType(
    {PPROF: _alone, WRITE_RAW: _write_raw, PYROSCOPE_PUSH: _pyroscope}
)
