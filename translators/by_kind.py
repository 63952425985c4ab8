"""One translator of several, for a source whose peers write more than one format."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from translators.batch import Origin, Translation, Translator


class ByKind:
    """Gives records to the translator of their kind; in a worker thread, because one of them needs it."""

    blocking: ClassVar[bool] = True

    def __init__(self, translators: Mapping[str, Translator]) -> None:
        """Serve one source; ``translators`` by kind."""
        self._translators = translators

    def translate(self, kind: str, records: Sequence[bytes], origin: Origin, now_ns: int) -> Translation:
        """Translate as the translator of ``kind`` does; see :class:`translators.batch.Translator`."""
        return self._translators[kind].translate(kind, records, origin, now_ns)
