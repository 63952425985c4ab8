"""The translator of Parca's Arrow records: one IPC record to one request of OTLP profiles."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, ClassVar

from translators import attributes as key
from translators.batch import Batch, Part, Rejection, Signal, Translation
from translators.parca_arrow.exchange import parts
from translators.parca_arrow.malformed import MalformedError
from translators.parca_arrow.profiles import Described, Profiles
from translators.profiles import labels
from translators.profiles.dictionary import Dictionary
from translators.wire import field

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from translators.batch import Origin
    from translators.parca_arrow.options import Options

V2, V1 = "arrow_v2", "arrow_v1"
FRAMES, UNNAMED_FRAMES, REDACTED = "frames", "unnamed_frames", "redacted"
"""Counts: the distinct frames of the records, those of them that came without a name, and redacted values."""
_DESCRIBED = 4096
"""Sets of labels whose resources are remembered: the same processes are in every batch."""


class Translator:
    """Translates records of kind ``arrow_v2``, an IPC stream, and ``arrow_v1``, two of them in a frame.

    It remembers resources of sets of labels. See :class:`translators.batch.Translator`.
    """

    blocking: ClassVar[bool] = True

    def __init__(self, options: Options) -> None:
        """Serve one source."""
        self._options = options
        self._described: dict[tuple[tuple[str, str], ...], Described] = {}

    def translate(self, kind: str, records: Sequence[bytes], origin: Origin, now_ns: int) -> Translation:  # noqa: ARG002 - samples carry their times
        """Translate records, each to a batch of its own: profiles are never joined."""
        batches: list[Batch] = []
        rejected: list[Rejection] = []
        counts: Counter[str] = Counter()
        for index, record in enumerate(records):
            try:
                batch = self._translated(kind, record, origin, counts)
            except MalformedError as error:
                rejected.append(Rejection(index, error.reason, f"{kind}: {error}"))
            else:
                if batch is not None:
                    batches.append(batch)
        if self._options.redactor is not None:
            counts[REDACTED] += sum(self._options.redactor.take_counts().values())
        return Translation(tuple(batches), tuple(rejected), +counts)

    def _translated(self, kind: str, record: bytes, origin: Origin, counts: Counter[str]) -> Batch | None:
        from translators.parca_arrow import columns, rows, stacks  # noqa: PLC0415 - pyarrow is only loaded where a record comes

        samples, locations = (record, b"") if kind == V2 else parts(record)
        dictionary = Dictionary()
        profiles = Profiles(dictionary, self._describe(origin), record)
        with columns.refusing("a column cannot be read"):
            known = columns.read(locations) if locations else []
            for batch in columns.read(samples):
                of_rows = stacks.of_batch(batch) if "stacktrace" in batch else stacks.of_ids(batch, known)
                interned = stacks.intern(of_rows, dictionary, name_natives=self._options.native_names != "none")
                profiles.add(rows.read(batch), of_rows.spans, interned.indices)
                counts.update({FRAMES: interned.frames, UNNAMED_FRAMES: interned.unnamed})
        if not profiles.count:
            return None
        encoded = [field(1, each) for each in profiles.encode()]
        data = b"".join((*encoded, field(2, dictionary.encode())))
        return Batch(Signal.PROFILES, profiles.count, data, (Part("", profiles.count, profiles.newest_ns),))

    def _describe(self, origin: Origin) -> Callable[[dict[str, str]], Described]:
        """How the labels of a process become its resource, with what came beside the bytes."""
        own = dict(origin.labels)
        if origin.principal is not None:
            own[key.OTELBEE_TENANT] = origin.principal

        def describe(given: dict[str, str]) -> Described:
            known_by = (*given.items(), *own.items())
            if (known := self._described.get(known_by)) is None:
                if len(self._described) >= _DESCRIBED:
                    self._described.clear()
                known = self._described[known_by] = self._describe_anew(given, own)
            return known

        return describe

    def _describe_anew(self, given: dict[str, str], own: dict[str, str]) -> Described:
        if (redactor := self._options.redactor) is not None:
            given = {name: redactor.environment(name, value) for name, value in given.items()}
        about_process, about_profile = labels.split(given)
        options = self._options
        resource = labels.build(about_process.items(), options.resource_labels, options.resource, own)
        return Described(resource, tuple(about_profile.items()))
