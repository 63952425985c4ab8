"""Tetragon's export file (``--export-filename``): the agent's own JSON, one event a line."""

from receiver.sources.tetragon_file.config import Config
from receiver.sources.tetragon_file.source import Source

__all__ = ["Config", "Source"]
