"""What Parca's agents and scrapers push: Arrow records and pprof, over gRPC and HTTP."""

from receiver.sources.parca.config import Config
from receiver.sources.parca.source import Source

__all__ = ["Config", "Source"]
