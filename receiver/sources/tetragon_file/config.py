"""Configuration of the ``tetragon_file`` source."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator

from receiver.sources.tetragon_mapping import Mapping


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError(f"'{path}' is no absolute path")
    return path


class Config(Mapping):
    """Tetragon's export file."""

    path: Annotated[Path, AfterValidator(_absolute)]
    """The agent's ``--export-filename``. Rotated files beside it are found by its name."""
    start_at: Literal["beginning", "end"] = "end"
    """Where to start a file that no checkpoint knows."""
