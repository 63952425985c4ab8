"""Parca's Arrow records to OTLP profiles: what ``WriteArrow`` (v2) and ``Write`` (v1) carry.

The translator itself is in :mod:`translators.parca_arrow.translator`, which loads pyarrow: 35 MiB and a quarter of a second
for who has no use of it.
"""

from translators.parca_arrow.exchange import framed, wanted
from translators.parca_arrow.malformed import MalformedError
from translators.parca_arrow.options import Options

__all__ = ["MalformedError", "Options", "framed", "wanted"]
