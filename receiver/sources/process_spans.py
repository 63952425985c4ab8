"""Which processes become spans: the ``process_spans`` section of the sources that observe processes."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from receiver.fields import Regex, Section
from translators.spans import Selection


class Binaries(Section):
    """Processes by their program."""

    binaries: Annotated[tuple[Regex, ...], Field(min_length=1)]
    """Regular expressions (RE2) on the path of the program, found anywhere in it."""

    def selection(self) -> Selection:
        """Return it as translators take it."""
        return Selection(binaries=self.binaries)


class Processes(Section):
    """Processes by where they run and by their program: one of each list that is given."""

    namespaces: tuple[str, ...] = ()
    """Namespaces of pods, exactly; ``""`` is a process outside any pod."""
    binaries: tuple[Regex, ...] = ()
    """Regular expressions (RE2) on the path of the program, found anywhere in it, as the agent's ``binary_regex``."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.namespaces and not self.binaries:
            raise ValueError("selects nothing; give namespaces or binaries, or write process_spans: true for all")
        return self

    def selection(self) -> Selection:
        """Return it as translators take it."""
        return Selection(self.namespaces, self.binaries)


def chosen(spans: bool | Binaries | Processes) -> bool | Selection:  # noqa: FBT001 - the section itself
    """Return a ``process_spans`` section as translators take it."""
    return spans if isinstance(spans, bool) else spans.selection()
