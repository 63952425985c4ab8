"""Datadog's profilers, as they push to an agent: a form of ``event.json`` and files.

Source: DataDog/dd-trace-go ``profiler/upload.go``; ``version`` "4" of the event.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from receiver.errors import Malformed, Unsupported
from receiver.sources.pprof import multipart
from receiver.sources.pprof.push import Push, only_pprof
from translators.profiles.labels import START_NS

if TYPE_CHECKING:
    from receiver.net.gate import Sender

PATH: Final = "/profiling/v1/input"

_MAX_EVENT_BYTES: Final = 256 * 1024
_EPOCH: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
_AS_JSON: Final = ("custom_attributes", "endpoint_counts", "info")
"""Of the event, what has a structure of its own."""


async def read(sender: Sender, body: bytes) -> Push:
    """Read the profiles of a form; its other files (runtime metrics, execution traces) are left out."""
    content_type = sender.headers.get("content-type", "")
    if not content_type.lower().startswith(multipart.CONTENT_TYPE):
        raise Unsupported(f"Content-Type must be {multipart.CONTENT_TYPE}, with the part 'event'")
    parts = await multipart.read(content_type, body)
    event = next((part for part in parts if part.name == "event"), None)
    if event is None:
        raise Malformed(
            "the form has no part 'event' (event.json); clients older than version 4 of it are not understood"
        )
    profiles = [part for part in parts if part.filename.endswith(".pprof")]
    others = [part for part in parts if part is not event and part not in profiles]
    if not profiles and any(".jfr" in part.filename for part in others):
        raise Unsupported(only_pprof("JFR"))
    labels = _labels(event.data)
    if container := sender.headers.get("datadog-container-id"):
        labels.setdefault("container_id", container)
    return Push([part.data for part in profiles], labels, [part.filename for part in profiles], left_out=len(others))


def _labels(data: bytes) -> dict[str, str]:
    if len(data) > _MAX_EVENT_BYTES:
        raise Malformed(f"event.json is larger than {_MAX_EVENT_BYTES} bytes")
    try:
        event: Any = json.loads(data)
    except (ValueError, RecursionError):
        raise Malformed("event.json is no JSON") from None
    if not isinstance(event, dict):
        raise Malformed("event.json is no JSON object")
    labels = {**_tags(event.get("process_tags")), **_tags(event.get("tags_profiler"))}
    if family := event.get("family"):
        labels["datadog.family"] = str(family)
    for name in _AS_JSON:
        if event.get(name):
            labels[f"__{name}__"] = json.dumps(event[name], separators=(",", ":"))
    if start := event.get("start"):
        labels[START_NS] = str(_unix_ns(start))
    return labels


def _tags(text: Any) -> dict[str, str]:
    """``key:value,key:value``; a tag without a value is true, as Datadog has it."""
    pairs = (tag.partition(":") for tag in str(text or "").split(",") if tag.partition(":")[0])
    return {key.strip(): value.strip() if colon else "true" for key, colon, value in pairs}


def _unix_ns(text: Any) -> int:
    """The time of RFC 3339, which may have digits below a microsecond, in ns."""
    try:
        moment = datetime.fromisoformat(str(text))
        since = moment - _EPOCH
    except (ValueError, TypeError, OverflowError):
        raise Malformed("'start' in event.json is no time of RFC 3339") from None
    return ((since.days * 86_400 + since.seconds) * 10**6 + since.microseconds) * 1000
