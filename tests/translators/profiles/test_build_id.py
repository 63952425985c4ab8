"""Which kind of build id a text is."""

from __future__ import annotations

import pytest

from translators.profiles.build_id import AS_GIVEN, GNU, GO, classify

_GO = "e3WAjfHuQFeDJAFEUxRt/8GK9tXDZ2eBZpGfSFuLs/xxxxxxxxxxxxxxxxxxxx/yyyyyyyyyyyyyyyyyyyy"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", {}),
        ("2d6912fd3dd64542f6f6294f4bf9cb6c265b3085", {GNU: "2d6912fd3dd64542f6f6294f4bf9cb6c265b3085"}),
        ("0123456789ABCDEF", {GNU: "0123456789abcdef", AS_GIVEN: "0123456789ABCDEF"}),
        (_GO, {GO: _GO}),
        (_GO.encode().hex(), {GO: _GO, AS_GIVEN: _GO.encode().hex()}),
        ("abc", {AS_GIVEN: "abc"}),
        ("v1.2.3 (dirty)", {AS_GIVEN: "v1.2.3 (dirty)"}),
    ],
)
def test_a_build_id_is_classified_and_kept(given: str, expected: dict[str, str]) -> None:
    """The text comes back from one of the attributes, whatever it is."""
    assert classify(given) == expected
    assert not given or given in classify(given).values()
