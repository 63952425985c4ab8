"""Pyroscope's two ways to push: ``/ingest``, and ``push.v1.PusherService/Push`` by Connect or gRPC.

Sources: grafana/pyroscope ``pkg/og/ingestion``, ``pkg/og/convert/pprof/profile.go`` (what labels it makes),
``api/push/v1/push.proto``; connectrpc.com/docs/protocol.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Final

from google.protobuf import json_format

from receiver.errors import Malformed, Unsupported
from receiver.net.http_forms import JSON
from receiver.sources.pprof import multipart
from receiver.sources.pprof.push import Push, only_pprof
from translators.pb.push_pb2 import PushRequest
from translators.profiles.labels import START_NS

if TYPE_CHECKING:
    from receiver.net.gate import Sender

INGEST_PATHS: Final = ("/ingest", "/pyroscope/ingest")
PUSH_PATH: Final = "/push.v1.PusherService/Push"

_INLINE_BYTES: Final = 64 * 1024
"""Of JSON, what is parsed in the event loop; more goes to a thread."""
_MAX_JSON_VALUES: Final = 100_000
"""Each is an object of Python, of many times the bytes that it was written in."""
_MAX_CONFIG_BYTES: Final = 64 * 1024
_OTHER_FORMATS: Final = ("jfr", "trie", "tree", "lines", "groups", "speedscope")
_DIGITS_OF_SECONDS: Final = 11
"""Up to so many digits a time is in seconds, and in ms, us, ns for every three digits more."""
_MAX_DIGITS: Final = 19


async def read_ingest(sender: Sender, body: bytes) -> Push:
    """Read a request to ``/ingest``: a pprof body, or a form with the part ``profile``."""
    query = dict(sender.query)
    content_type = sender.headers.get("content-type", "")
    is_form = content_type.lower().startswith(multipart.CONTENT_TYPE)
    _check_format(query.get("format", ""), content_type, is_form=is_form)
    labels = _named(query.get("name", ""))
    if spy := query.get("spyName"):
        labels["pyroscope_spy"] = spy
    if start := query.get("from"):
        labels[START_NS] = str(_unix_ns(start))
    if not is_form:
        return Push([body], labels)
    parts = {part.name: part.data for part in await multipart.read(content_type, body)}
    if "jfr" in parts:
        raise Unsupported(only_pprof("JFR"))
    if parts.get("prev_profile"):
        raise Unsupported("prev_profile is not accepted: this client sends cumulative profiles in pairs; update it")
    if "profile" not in parts:
        raise Malformed(f"the form has no part 'profile', only {', '.join(map(repr, parts)) or 'none at all'}"[:400])
    if config := parts.get("sample_type_config"):
        labels["__sample_type_config__"] = _compact(config)
    return Push([parts["profile"]], labels)


async def read_push(sender: Sender, body: bytes) -> Push:
    """Read a call of ``Push``: a ``push.v1.PushRequest`` as protobuf or JSON."""
    if sender.headers.get("content-type", "").partition(";")[0].strip().lower() == JSON:
        body = _from_json(body) if len(body) <= _INLINE_BYTES else await asyncio.to_thread(_from_json, body)
    return Push([body] if body else [], {}, kind="pyroscope_push")


def _check_format(form: str, content_type: str, *, is_form: bool) -> None:
    if form == "pprof" or (not form and is_form):
        return
    if "octet-stream+t" in content_type:
        form = content_type.rpartition("+")[2]
    if form and form not in _OTHER_FORMATS:
        raise Malformed(f"there is no format {form[:40]!r}; use format=pprof")
    raise Unsupported(only_pprof(f"The format {form or 'groups (the default)'}") + "; use format=pprof")


def _named(name: str) -> dict[str, str]:
    """Labels of ``app.name{key=value,key=value}``; the name is the service, where no label says another."""
    app, brace, rest = name.partition("{")
    app = app.strip()
    if not app:
        raise Malformed("the query has no name=; write name=APP{KEY=VALUE,KEY=VALUE}")
    if brace and not rest.rstrip().endswith("}"):
        raise Malformed("the labels in name= are not closed; write name=APP{KEY=VALUE,KEY=VALUE}")
    labels: dict[str, str] = {}
    for pair in rest.rstrip().removesuffix("}").split(","):
        key, equals, value = (part.strip() for part in pair.partition("="))
        if key and equals:
            labels[key] = value
        elif pair.strip():
            raise Malformed("a label in name= is no KEY=VALUE; write name=APP{KEY=VALUE,KEY=VALUE}")
    labels["app_name" if labels.get("service_name") else "service_name"] = app
    return labels


def _unix_ns(text: str) -> int:
    """A time in seconds, ms, us or ns, told apart by its size, in ns."""
    if not (text.isascii() and text.isdigit()) or len(text) > _MAX_DIGITS:
        raise Malformed("from= is no Unix time; write it in seconds or nanoseconds")
    value, limit = int(text), 10**_DIGITS_OF_SECONDS
    for scale in (10**9, 10**6, 10**3):
        if value < limit:
            return value * scale
        limit *= 1000
    return value


def _compact(config: bytes) -> str:
    if len(config) > _MAX_CONFIG_BYTES:
        raise Malformed(f"sample_type_config is larger than {_MAX_CONFIG_BYTES} bytes")
    try:
        return json.dumps(json.loads(config), separators=(",", ":"))
    except (ValueError, RecursionError):
        raise Malformed("sample_type_config is no JSON") from None


def _from_json(body: bytes) -> bytes:
    if not body.lstrip().startswith(b"{"):
        raise Malformed("no push.v1.PushRequest in JSON: it is no object")
    if sum(map(body.count, (b"{", b"[", b","))) > _MAX_JSON_VALUES:
        raise Malformed(f"no push.v1.PushRequest in JSON: it has more than {_MAX_JSON_VALUES} values")
    try:
        request = json_format.Parse(body, PushRequest(), ignore_unknown_fields=True)
    except (json_format.ParseError, ValueError, RecursionError) as error:
        raise Malformed(f"no push.v1.PushRequest in JSON: {str(error)[:200]}") from None
    data: bytes = request.SerializeToString()
    return data
