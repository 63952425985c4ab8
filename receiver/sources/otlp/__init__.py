"""OTLP pushed over gRPC and HTTP: by Beyla, OBI, Odigos, SDKs or another Collector."""

from receiver.sources.otlp.config import Config
from receiver.sources.otlp.source import Source

__all__ = ["Config", "Source"]
