"""What the ``pprof`` source scrapes, and how often; names and defaults are those of Parca's scrape configuration."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field
from yarl import URL

from receiver.fields import Duration, Section, Size, format_duration
from receiver.net.bearer import Auth
from receiver.net.tls import ClientTLS

if TYPE_CHECKING:
    from collections.abc import Mapping

_BEYOND_INTERVAL: Final = timedelta(seconds=3)


def _base(endpoint: str) -> str:
    try:
        url = URL(endpoint)
    except ValueError:
        url = URL()
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError(f"{endpoint!r} is not http://HOST:PORT or https://HOST:PORT")
    if url.user or url.password or url.query_string or url.fragment:
        raise ValueError("a target has no user, query or fragment; a path may stand before /debug/pprof")
    return endpoint.rstrip("/")


def _path(path: str) -> str:
    if not path.startswith("/") or "?" in path:
        raise ValueError(f"{path!r} is not a path; begin it with /, and write its query as params")
    return path


def _not_too_often(interval: timedelta) -> timedelta:
    if interval < timedelta(seconds=1):
        raise ValueError(f"every {format_duration(interval)} is too often; write 1s or more")
    return interval


class Profile(Section):
    """One profile that a target has."""

    path: Annotated[str, AfterValidator(_path)]
    """Below the target's endpoint."""
    delta: bool = False
    """Ask for what happens during one interval (``seconds=``) instead of what happened since the start."""
    params: dict[str, str] = Field(default_factory=dict)
    """More of the query, for example ``gc: "1"``."""


_PROFILES: Final = {
    "memory": Profile(path="/debug/pprof/allocs"),
    "block": Profile(path="/debug/pprof/block"),
    "goroutine": Profile(path="/debug/pprof/goroutine"),
    "mutex": Profile(path="/debug/pprof/mutex"),
    "process_cpu": Profile(path="/debug/pprof/profile", delta=True),
}


class Target(Section):
    """A process with Go's ``net/http/pprof``, or what answers like it. A text is its ``endpoint``."""

    endpoint: Annotated[str, AfterValidator(_base)]
    """``http://HOST:PORT`` or ``https://HOST:PORT``, and what may stand before ``/debug/pprof``."""
    labels: dict[str, str] = Field(default_factory=dict)
    """About this process, over those of the section."""


def _named(value: Any) -> Any:
    return {"endpoint": value} if isinstance(value, str) else value


class Scrape(Section):
    """Where to get profiles from."""

    targets: Annotated[tuple[Annotated[Target, BeforeValidator(_named)], ...], Field(min_length=1)]
    """Processes."""
    profiles: dict[str, Profile] = Field(default_factory=dict)
    """By name, which becomes the label ``__name__``. Empty: memory, block, goroutine, mutex and process_cpu."""
    interval: Annotated[Duration, AfterValidator(_not_too_often)] = timedelta(seconds=10)
    """From the start of one scrape of a profile to that of the next."""
    timeout: Annotated[Duration, Field(gt=timedelta(0))] | None = None
    """Of one scrape; unset: the interval and 3 s, because a delta takes the interval."""
    labels: dict[str, str] = Field(default_factory=dict)
    """About all targets; ``instance`` is their host and port where no label says another."""
    max_concurrency: Annotated[int, Field(ge=1, le=1024)] = 64
    """Scrapes at the same time. A delta is one for the whole interval."""
    max_body_size: Annotated[Size, Field(ge=1024, le=64 << 20)] = Size(20 << 20)
    """Of an answer, as it arrives and decompressed."""
    tls: ClientTLS = ClientTLS()
    """For targets with ``https``."""
    auth: Auth | None = None
    """A bearer token for all targets."""

    @property
    def wanted(self) -> Mapping[str, Profile]:
        """What is scraped of each target, by name."""
        return self.profiles or _PROFILES

    @property
    def interval_s(self) -> float:
        """Seconds."""
        return self.interval.total_seconds()

    @property
    def timeout_s(self) -> float:
        """Seconds."""
        return (self.timeout or self.interval + _BEYOND_INTERVAL).total_seconds()
