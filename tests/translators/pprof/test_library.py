"""pprof's own library reads what is rebuilt from OTLP as it reads the original, down to its own rendering."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
from typing import TYPE_CHECKING, Any

from peers import build, processes
from profiles.reverse import pprofs

from translators.batch import Origin
from translators.pprof import Options, Translator

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_TABLES = ("locations", "functions", "mappings")
"""How many entries these have is no content: what no sample refers to is left out, and equal ones are one."""


def show(*paths: Path) -> list[dict[str, Any]]:
    """What the library finds in files."""
    program = processes.require_program(build.pprof())
    done = subprocess.run([program, "show", *paths], capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def samples_in(text: str) -> list[str]:
    """The lines of the library's rendering on each sample, without ids of locations."""
    _, _, rest = text.partition("Samples:\n")
    rendered, _, locations = rest.partition("Locations\n")
    frames = dict(re.findall(r"^ *(\d+): (0x.*(?:\n {10,}.*)*)", locations, re.MULTILINE))
    frames = {key: re.sub(r" M=\d+", "", frame) for key, frame in frames.items()}
    return sorted(
        re.sub(r"\d+", lambda found: frames[found[0]], line.partition(": ")[2]) + line.partition(": ")[0]
        for line in rendered.splitlines()
        if re.match(r" +-?\d+( +-?\d+)*: [\d ]*$", line)
    )


def test_the_library_reads_what_is_rebuilt(shared_data: Callable[..., Path], tmp_path: Path) -> None:
    """Types, counts, totals and header are equal, and of small files every sample with its frames."""
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
        assert samples_in(ours.pop("text")) == samples_in(theirs.pop("text")), path.name
        # The library numbers the mappings of a profile that has none itself.
        assert {k: v for k, v in ours.items() if k not in _TABLES} == {
            k: v for k, v in theirs.items() if k not in _TABLES
        }, path.name
