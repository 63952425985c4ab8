"""pprof profiles: pushed by Pyroscope's and Datadog's clients, by curl, or scraped from ``/debug/pprof``."""

from receiver.sources.pprof.config import Config
from receiver.sources.pprof.source import Source

__all__ = ["Config", "Source"]
