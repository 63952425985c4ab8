"""Parca's Arrow records to OTLP profiles: what ``WriteArrow`` (v2) and ``Write`` (v1) carry."""

from translators.parca_arrow.exchange import framed, wanted
from translators.parca_arrow.malformed import MalformedError
from translators.parca_arrow.options import Options
from translators.parca_arrow.translator import Translator

__all__ = ["MalformedError", "Options", "Translator", "framed", "wanted"]
