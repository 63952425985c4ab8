"""pprof's own library reads what is rebuilt from OTLP as it reads the original."""

from __future__ import annotations

import gzip
import json
import subprocess
from typing import TYPE_CHECKING, Any

from peers import build
from profiles.reverse import pprofs

from tests.conftest import require_program
from translators.batch import Origin
from translators.pprof import Options, Translator

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_TABLES = ("locations", "functions", "mappings")
"""How many entries these have is no content: what no sample refers to is left out, and equal ones are one."""


def show(*paths: Path) -> list[dict[str, Any]]:
    """What the library finds in files."""
    program = require_program(build.pprof())
    done = subprocess.run([program, "show", *paths], capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_library_reads_what_is_rebuilt(shared_data: Callable[..., Path], tmp_path: Path) -> None:
    """Header, types, totals and a hash of all samples with their frames and labels are equal."""
    originals = sorted(shared_data("profiles", "pprof").iterdir())
    rebuilt = []
    for original in originals:
        (batch,) = Translator(Options()).translate("pprof", [original.read_bytes()], Origin(), 1).batches
        (profile,) = pprofs(batch.data)
        rebuilt.append(tmp_path / original.name)
        rebuilt[-1].write_bytes(gzip.compress(profile.SerializeToString()))
    for path, theirs, ours in zip(originals, show(*originals), show(*rebuilt), strict=True):
        assert not ours["error"]
        assert not theirs["error"]
        assert {k: v for k, v in ours.items() if k not in _TABLES} == {
            k: v for k, v in theirs.items() if k not in _TABLES
        }, path.name
