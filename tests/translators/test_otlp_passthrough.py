"""OTLP that passes: counted, checked, untouched; and resources written anew where otelbee knows the sender."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from translators import wire
from translators.batch import Origin, Part, Signal, StatelessTranslator
from translators.otlp import REQUESTS, Malformed, _count_quickly, walk
from translators.otlp_passthrough import Options, Translator, replace_attributes


def request(signal: Signal, items: int = 1, **attributes: str) -> Any:
    """A request of one resource with ``attributes`` and so many items."""
    message: Any = REQUESTS[signal]()
    if signal is Signal.LOGS:
        outer = message.resource_logs.add()
        records = outer.scope_logs.add().log_records
    elif signal is Signal.TRACES:
        outer = message.resource_spans.add()
        records = outer.scope_spans.add().spans
    else:
        outer = message.resource_metrics.add()
        records = outer.scope_metrics.add().metrics.add(name="m").sum.data_points
    for _ in range(items):
        records.add()
    for key, value in attributes.items():
        outer.resource.attributes.add(key=key).value.string_value = value
    return message


SIGNALS = (Signal.LOGS, Signal.TRACES, Signal.METRICS)


@pytest.mark.parametrize("signal", SIGNALS)
def test_a_request_passes_as_the_bytes_it_is(signal: Signal) -> None:
    """Items are counted, the bytes are the very same object."""
    data = request(signal, 3, a="b").SerializeToString()
    translation = Translator(Options()).translate(signal.value, [data], Origin(), 0)
    assert [tuple(batch) for batch in translation.batches] == [(signal, 3, data, (Part("", 3, 0),))]
    assert translation.batches[0].data is data


@pytest.mark.parametrize("signal", SIGNALS)
def test_a_request_without_items_becomes_nothing(signal: Signal) -> None:
    """Envelopes without data may be dropped (OTLP, "Empty requests")."""
    data = request(signal, 0, a="b").SerializeToString()
    translation = Translator(Options()).translate(signal.value, [data, b""], Origin(), 0)
    assert (translation.batches, translation.rejected) == ((), ())


def test_a_broken_request_is_rejected_and_its_neighbours_are_kept() -> None:
    """The message says what is wrong at which byte."""
    good = request(Signal.LOGS).SerializeToString()
    translation = Translator(Options()).translate("logs", [good, good[:-1], b"\x0a\x03\x0a\x01\xff"[:4]], Origin(), 0)
    assert len(translation.batches) == 1
    assert [(each.index, each.reason) for each in translation.rejected] == [(1, "malformed"), (2, "malformed")]
    assert "no OTLP logs request: field 1 at byte 0 needs" in translation.rejected[0].message


def test_it_is_translated_where_it_is_called_when_it_is_small() -> None:
    """The intake takes large requests to a thread."""
    translator = Translator(Options())
    assert isinstance(translator, StatelessTranslator)
    assert 0 < translator.inline_bytes <= 1 << 20


@pytest.mark.parametrize("signal", SIGNALS)
def test_the_senders_name_replaces_what_it_wrote_itself(signal: Signal) -> None:
    """``otelbee.tenant`` is the authenticated name, whatever the resource said; the rest stays in its order."""
    message = request(signal, 2, **{"service.name": "s", "otelbee.tenant": "forged", "z": "1"})
    translator = Translator(Options(frozenset({"otelbee.tenant", "org"})))
    translation = translator.translate(signal.value, [message.SerializeToString()], Origin("alice", {"org": "blue"}), 0)
    (batch,) = translation.batches
    (outer,) = REQUESTS[signal].FromString(batch.data).ListFields()[0][1]  # type: ignore[attr-defined] - any message
    assert [(each.key, each.value.string_value) for each in outer.resource.attributes] == [
        ("service.name", "s"),
        ("z", "1"),
        ("org", "blue"),
        ("otelbee.tenant", "alice"),
    ]
    assert batch.items == 2


def test_an_owned_key_that_nobody_vouches_for_is_only_removed() -> None:
    """A listener without auth beside one with it lets nobody forge a name."""
    data = request(Signal.LOGS, 1, **{"otelbee.tenant": "forged"}).SerializeToString()
    (batch,) = Translator(Options(frozenset({"otelbee.tenant"}))).translate("logs", [data], Origin(), 0).batches
    assert not ExportLogsServiceRequest.FromString(batch.data).resource_logs[0].resource.attributes


def test_a_resource_in_pieces_and_a_key_twice_hide_nothing() -> None:
    """A parser merges repeated messages and takes the last key; so does the removal."""
    forged = wire.field(1, wire.field(1, b"a") + wire.field(1, b"otelbee.tenant") + wire.field(2, b"\x0a\x01x"))
    kept = wire.field(1, wire.field(1, b"kept") + wire.field(2, b"\x0a\x01y"))
    outer = (
        wire.field(1, forged) + wire.field(3, b"url") + wire.field(1, kept + forged) + wire.field(2, wire.field(2, b""))
    )
    data = wire.field(1, outer)
    seen = ExportLogsServiceRequest.FromString(data).resource_logs[0].resource.attributes
    assert [each.key for each in seen] == ["otelbee.tenant", "kept", "otelbee.tenant"]
    message = ExportLogsServiceRequest.FromString(replace_attributes(data, frozenset({b"otelbee.tenant"}), b""))
    assert [each.key for each in message.resource_logs[0].resource.attributes] == ["kept"]
    assert message.resource_logs[0].schema_url == "url"
    assert len(message.resource_logs[0].scope_logs[0].log_records) == 1


def test_fields_that_nobody_knows_yet_stay() -> None:
    """A newer OTLP passes, in the request, the envelope and the resource."""
    outer = wire.field(1, wire.field(900, b"new")) + wire.field(901, b"newer") + wire.field(2, wire.field(2, b""))
    data = wire.field(1, outer) + wire.field(902, b"newest")
    changed = replace_attributes(data, frozenset({b"x"}), b"")
    assert changed == data


def test_a_broken_resource_is_rejected_where_it_is_looked_at() -> None:
    """Only with something to write does anybody look into resources."""
    data = wire.field(1, wire.field(1, b"\x0a\x7f") + wire.field(2, wire.field(2, b"")))
    assert Translator(Options()).translate("logs", [data], Origin(), 0).batches
    assert (
        Translator(Options(frozenset({"k"}))).translate("logs", [data], Origin(), 0).rejected[0].reason == "malformed"
    )


def _counted(data: bytes) -> int:
    """The slow way: -1 where a message is broken."""
    try:
        fields = list(walk(data, 0, len(data)))
    except Malformed:
        return -1
    if any(number == 2 and wire_type != 2 for number, wire_type, *_ in fields):
        return -1
    return sum(number == 2 for number, *_ in fields)


@given(st.binary(max_size=40))
def test_the_quick_count_is_the_slow_one_or_none(data: bytes) -> None:
    """Whatever the bytes are."""
    assert _count_quickly(data, 0, len(data), frozenset({2})) in {-1, _counted(data)}


@given(st.lists(st.tuples(st.integers(1, 15), st.binary(max_size=300)), max_size=5))
def test_the_quick_count_does_all_the_work_on_ordinary_messages(fields: list[tuple[int, bytes]]) -> None:
    """Short tags and lengths up to 16 KiB need no slow walk, and each cut is noticed."""
    data = b"".join(wire.field(number, payload) for number, payload in fields)
    assert _count_quickly(data, 0, len(data), frozenset({2})) == sum(number == 2 for number, _ in fields)
    for end in range(len(data)):
        assert _count_quickly(data, 0, end, frozenset({2})) == _counted(data[:end])
