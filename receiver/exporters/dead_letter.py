"""Where what can never be delivered is kept for people."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator

from receiver.exporters import file
from receiver.fields import AbsolutePath, Section


class Config(Section):
    """A file of the ``file`` exporter's formats that rotates, so that it is bounded."""

    path: AbsolutePath
    """Created with mode 0600; its folder must exist."""
    format: file.Format = "json"
    """``json`` is a line per request, ``proto`` a 4-byte big-endian length and the request."""
    rotation: file.Rotation = file.Rotation(max_megabytes=100, max_backups=4)
    """Without this section 100 MiB a file and 4 files set aside."""


def _path(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


Setting = Annotated[Config, BeforeValidator(_path)]
"""The section, or the path alone."""


def exporter(config: Config) -> file.Exporter:
    """Open the file.

    Raises:
        StartError: It cannot be opened.
    """
    return file.Exporter(file.Config(path=config.path, format=config.format, rotation=config.rotation))
