"""The ``storage`` section."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from receiver.fields import Section


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError(f"'{path}' is no absolute path; write for example /var/lib/otelbee")
    return path


class Config(Section):
    """Where queues and checkpoints survive a restart (the Collector's ``file_storage``)."""

    directory: Annotated[Path, AfterValidator(_absolute)]
    """Made when it is missing, for its owner only."""
    fsync: bool = False
    """Also survive a loss of power: each commit waits until the disk has it."""
