"""Tetragon's events to OTLP log records.

Read :mod:`translators.tetragon.translator` first. What becomes of every field is in docs/sources/tetragon-mapping.md.
"""

from translators.tetragon.kinds import EVENT_SETS, SEVERITIES
from translators.tetragon.options import FieldFilter, Options
from translators.tetragon.translator import Translator

__all__ = ["EVENT_SETS", "SEVERITIES", "FieldFilter", "Options", "Translator"]
