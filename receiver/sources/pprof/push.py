"""What one request or one scrape brought, whatever its protocol: profiles, and labels about them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from receiver.errors import Malformed, TooLarge, Unsupported

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from receiver.net.gate import Sender
    from receiver.types import Outcome

    Read = Callable[[Sender, bytes], Awaitable["Push"]]
    """Understands the request of one protocol; raises Malformed or Unsupported."""

_JFR_MAGIC: Final = b"FLR\0"
_MAX_LABELS_BYTES: Final = 64 * 1024
"""Of names and values: they are written once for each profile."""


class Push(NamedTuple):
    """Profiles that came together, and are taken together or not at all."""

    records: Sequence[bytes]
    labels: Mapping[str, str]
    names: Sequence[str] = ()
    """What the sender calls each record, where there are several."""
    kind: str = "pprof"
    """How the translator calls the form of a record."""
    left_out: int = 0
    """Attachments that are no profiles."""

    def check(self) -> None:
        """Refuse what can be told before a translator looks.

        Raises:
            Malformed: A label is wrong, or there is nothing in a record.
            Unsupported: A record is JFR.
        """
        if any(not name for name in self.labels):
            raise Malformed("a label has no name")
        if sum(len(name) + len(value) for name, value in self.labels.items()) > _MAX_LABELS_BYTES:
            raise Malformed(f"the labels have more than {_MAX_LABELS_BYTES} characters")
        try:
            "".join((*self.labels, *self.labels.values())).encode()
        except UnicodeEncodeError:
            raise Malformed("a label is no Unicode text: it has half of a surrogate pair") from None
        for record in self.records:
            if record.startswith(_JFR_MAGIC):
                raise Unsupported(only_pprof("JFR"))
            if not record:
                raise Malformed("the profile is empty; send a pprof profile (gzip, zstd or raw) as the body")

    def refusal(self, outcome: Outcome) -> Malformed | TooLarge:
        """What the sender is told of profiles that did not become OTLP."""
        first = outcome.rejected[0]
        text = f"{self.names[first.index]}: {first.message}" if self.names else first.message
        if more := len(outcome.rejected) - 1:
            text += f"; {more} more profiles are wrong"
        if outcome.accepted:
            text += "; the others were taken, do not send them again"
        return TooLarge(text) if first.reason == "too_large" else Malformed(text)


def only_pprof(form: str) -> str:
    """Say that something is written in a form that is not taken, and which one is."""
    return f"{form} is not accepted here, only pprof (profile.proto; gzip, zstd or raw)"
