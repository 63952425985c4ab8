"""Profiles that are larger than one request may be are cut by samples, and nothing of them is truncated."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from profiles import resolved
from profiles.conformance import problems

from translators.batch import Batch, Origin, Part, Signal
from translators.otlp import REQUESTS, count_items, parse
from translators.otlp_halves import halve
from translators.otlp_profiles import split
from translators.pprof import Options, Translator

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def large(shared_data: Callable[..., Path]) -> Batch:
    """Four Profiles of 4,661 samples each, 430 KB."""
    record = shared_data("profiles", "pprof", "parca__alloc_objects.pb.gz").read_bytes()
    (batch,) = Translator(Options(original_payload=True)).translate("pprof", [record], Origin(), 1).batches
    return batch


def check(pieces: list[Batch], batch: Batch) -> None:
    """Pieces conform, count what they have, and together say what the batch says."""
    found: Counter[Any] = Counter()
    for piece in pieces:
        assert problems(piece.data) == []
        assert piece.items == count_items(Signal.PROFILES, piece.data) == sum(part.items for part in piece.parts)
        found += resolved.samples(piece.data)
    assert found == resolved.samples(batch.data)


def test_pieces_fit_and_say_together_what_the_whole_says(shared_data: Callable[..., Path]) -> None:
    """Each has only the dictionary that its samples refer to, so that many small pieces are possible at all."""
    batch = large(shared_data)
    for max_bytes in (150_000, 60_000):
        pieces = split(batch, max_bytes)
        assert len(pieces) > 3
        # The first has the original payload, 94 KB, too.
        assert all(len(piece.data) <= max_bytes or piece.items == 1 for piece in pieces)
        check(pieces, batch)


def test_identity_stays_with_the_first_piece(shared_data: Callable[..., Path]) -> None:
    """A profile's id is in one piece, and so is the payload: equal ids would look like duplicates."""
    batch = large(shared_data)
    ids = [identity for piece in split(batch, 150_000) for identity in resolved.profile_ids(piece.data) if identity]
    assert sorted(ids) == sorted(resolved.profile_ids(batch.data))
    assert len(set(ids)) == 4


def test_halves_have_their_own_dictionary(shared_data: Callable[..., Path]) -> None:
    """Bisecting finds what the Collector refuses in the dictionary, too: a half has no entry of the other's alone."""
    batch = large(shared_data)
    halves = halve(batch)
    check(halves, batch)
    assert all(len(half.data) < len(batch.data) * 0.9 for half in halves)


def test_references_of_resources_move_with_their_strings() -> None:
    """A resource whose attributes are references says the same in every piece."""
    request: Any = REQUESTS[Signal.PROFILES]()
    dictionary = request.dictionary
    dictionary.string_table.extend(["", *(f"unused{index:030}" for index in range(20)), "service.name", "shop"])
    for table in ("mapping", "location", "function", "link", "attribute", "stack"):
        getattr(dictionary, f"{table}_table").add()
    resource = request.resource_profiles.add()
    attribute = resource.resource.attributes.add(key_strindex=21)
    attribute.value.string_value_strindex = 22
    profile = resource.scope_profiles.add().profiles.add()
    for value in range(100):
        profile.samples.add().values.append(value)
    batch = Batch(Signal.PROFILES, 100, request.SerializeToString(), (Part("a", 100, 7),))
    pieces = split(batch, 400)
    assert len(pieces) > 1
    check(pieces, batch)
    assert all(
        list(parse(piece.signal, piece.data).dictionary.string_table) == ["", "service.name", "shop"]
        for piece in pieces
    )


def test_a_dictionary_that_leads_nowhere_is_repeated() -> None:
    """What is already wrong is cut as it is; the next stage says what it thinks of it."""
    request: Any = REQUESTS[Signal.PROFILES]()
    profile = request.resource_profiles.add().scope_profiles.add().profiles.add()
    for _ in range(100):
        profile.samples.add(stack_index=7).values.append(1)
    batch = Batch(Signal.PROFILES, 100, request.SerializeToString(), (Part("a", 100, 7),))
    pieces = split(batch, 300)
    assert sum(piece.items for piece in pieces) == 100
    assert all(len(piece.data) <= 300 for piece in pieces)


def test_what_all_samples_share_is_not_multiplied() -> None:
    """A batch stays whole where every piece would be nearly as large."""
    request: Any = REQUESTS[Signal.PROFILES]()
    request.dictionary.string_table.extend(["", "x" * 20_000])
    profile = request.resource_profiles.add().scope_profiles.add().profiles.add()
    profile.sample_type.type_strindex = 1
    for value in range(200):
        profile.samples.add().values.append(value)
    batch = Batch(Signal.PROFILES, 200, request.SerializeToString(), (Part("a", 200, 7),))
    assert split(batch, 10_000) == [batch]
