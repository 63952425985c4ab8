"""Tetragon's event stream over gRPC (``tetragon.FineGuidanceSensors/GetEvents``)."""

from receiver.sources.tetragon.config import Config
from receiver.sources.tetragon.source import Source

__all__ = ["Config", "Source"]
