"""The tables of a profiles request."""

from __future__ import annotations

from opentelemetry.proto.profiles.v1development.profiles_pb2 import ProfilesDictionary

from translators.profiles.dictionary import Dictionary
from translators.wire import any_string


def test_entry_0_of_every_table_is_its_zero_value() -> None:
    """Also where nothing else is in it."""
    message = ProfilesDictionary.FromString(Dictionary().encode())
    for field in message.DESCRIPTOR.fields:
        (entry,) = getattr(message, field.name)
        assert entry == "" or not entry.ByteSize()


def test_equal_entries_are_one_whatever_the_order_of_their_attributes() -> None:
    """Attributes are a set."""
    dictionary = Dictionary()
    one, two = dictionary.text_attribute("a", "x"), dictionary.attribute("b", any_string("y"), "By")
    assert dictionary.mapping(1, 2, 0, 0, [one, two]) == dictionary.mapping(1, 2, 0, 0, [two, one]) == 1
    assert dictionary.mapping(0, 0, 0, 0, []) == 0
    assert dictionary.function(0, 0, 0, 7) == 0, "a function must have a name of some kind"


def test_what_is_refused_leaves_nothing_behind() -> None:
    """Tables are cut to what they were."""
    dictionary = Dictionary()
    dictionary.string("kept")
    before, sizes = dictionary.encode(), dictionary.sizes()
    dictionary.link(bytes(range(16)), bytes(range(8)))
    dictionary.text_attribute("gone", "too")
    dictionary.cut(sizes)
    assert dictionary.encode() == before
