"""Nothing of a pprof is lost, and what becomes of it conforms: every captured file, and profiles that nobody writes."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st
from profiles.conformance import problems, warnings
from profiles.content import content
from profiles.generated import profiles, unpacked
from profiles.reverse import pprofs

from translators.batch import Origin
from translators.pb.profile_pb2 import Profile
from translators.pprof import Options, Translator

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOW_NS = 1_763_856_000_000_000_000


def translated(record: bytes, options: Options | None = None) -> bytes:
    """The request that one record becomes."""
    translation = Translator(options or Options()).translate("pprof", [record], Origin(), NOW_NS)
    assert not translation.rejected, translation.rejected
    (batch,) = translation.batches
    assert sum(part.items for part in batch.parts) == batch.items
    return batch.data


def check(record: bytes, raw: bytes) -> None:
    """A record conforms, and its content, decompressed, comes back."""
    data = translated(record)
    assert problems(data) == []
    (rebuilt,) = pprofs(data)
    ours, theirs = content(rebuilt), content(Profile.FromString(raw))
    assert ours.header == theirs.header
    assert ours.samples == theirs.samples


def files(shared_data: Callable[..., Path]) -> list[Path]:
    """Every captured profile."""
    found = sorted(shared_data("profiles", "pprof").iterdir())
    assert len(found) >= 11
    return found


def test_every_captured_file_comes_back_whole(shared_data: Callable[..., Path]) -> None:
    """Header, stacks, labels and values of every file are the same after the way back, and the request conforms."""
    for path in files(shared_data):
        record = path.read_bytes()
        check(record, gzip.decompress(record))


def test_a_build_id_is_never_invented(shared_data: Callable[..., Path]) -> None:
    """A mapping has a build id where the pprof has one; where it has none, that is a warning and no more."""
    for path in files(shared_data):
        record = path.read_bytes()
        profile = Profile.FromString(gzip.decompress(record))
        data = translated(record)
        with_ids = {profile.string_table[each.build_id] for each in profile.mapping if each.build_id}
        if not with_ids and any(each.mapping_id for each in profile.location):
            assert warnings(data)
        (rebuilt,) = pprofs(data)
        assert {rebuilt.string_table[each.build_id] for each in rebuilt.mapping} - {""} <= with_ids


@settings(deadline=None, max_examples=100)
@given(profile=profiles(), loosely=st.booleans())
def test_every_generated_profile_comes_back_whole(profile: Profile, *, loosely: bool) -> None:
    """So do arbitrary ids, unpacked lists, missing mappings, negative values and huge strings."""
    raw = profile.SerializeToString()
    check(unpacked(profile) if loosely else raw, raw)


def test_placeholders_conform_too(shared_data: Callable[..., Path]) -> None:
    """A request conforms whatever its frames without names are called."""
    for path in files(shared_data):
        if "cppbench" in path.name or "nomappings" in path.name or "with-labels" in path.name:
            assert problems(translated(path.read_bytes(), Options(native_names="placeholder"))) == []
