"""The types of configuration fields, with the Collector's own notation: ``5s``, ``256MiB``, ``[REDACTED]``."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import re2  # type: ignore[import-untyped]  # google-re2 ships no types
from pydantic import AfterValidator, BaseModel, BeforeValidator, ByteSize, ConfigDict, PlainSerializer, SecretStr

_UNIT_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")


def parse_duration(text: object) -> object:
    """Parse Go's duration notation (``time.ParseDuration``), for example ``1m30s``; other types pass through."""
    if not isinstance(text, str):
        if isinstance(text, int | float) and text != 0:
            raise ValueError(f"a duration needs a unit, for example {text}s")
        return timedelta(0) if text == 0 else text
    if text == "0":
        return timedelta(0)
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError("not a duration; write for example 200ms, 5s or 1m30s")
    return timedelta(seconds=sum(float(number) * _UNIT_S[unit] for number, unit in parts))


def format_duration(value: timedelta) -> str:
    """Write a duration the way :func:`parse_duration` reads it."""
    seconds = value.total_seconds()
    return f"{seconds:g}s" if seconds >= 1 or seconds == 0 else f"{seconds * 1000:g}ms"


def _address(endpoint: str) -> str:
    host, _, port = endpoint.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535 or (":" in host and not host.startswith("[")):  # noqa: PLR2004 - the largest port
        raise ValueError("not an address to listen on; write HOST:PORT, for example localhost:8877")
    return endpoint


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError(f"'{path}' is not an absolute path; begin it with /")
    return path


def _regex(pattern: str) -> str:
    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0] if error.args else "not valid"
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise ValueError(
            f"not a regular expression of RE2: {text}; its syntax: github.com/google/re2/wiki/Syntax"
        ) from None
    return pattern


Address = Annotated[str, AfterValidator(_address)]
"""Where to listen: ``host:port``, port 0 for any."""
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
"""A file or folder, wherever otelbee was started."""
Regex = Annotated[str, AfterValidator(_regex)]
"""A regular expression of RE2, the dialect of Tetragon's and the Collector's patterns."""
Duration = Annotated[timedelta, BeforeValidator(parse_duration), PlainSerializer(format_duration)]
Size = ByteSize
Secret = SecretStr


class Section(BaseModel):
    """A section of the configuration: closed (an unknown key is an error) and frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True)
