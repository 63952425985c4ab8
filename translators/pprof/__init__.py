"""pprof to OTLP profiles: bodies of their own, and in the raw pushes of Parca and Pyroscope."""

from translators.pprof.options import Options
from translators.pprof.translator import Translator

__all__ = ["Options", "Translator"]
