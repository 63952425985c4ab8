"""The bytes of spans, and which processes have one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from translators import spans, wire
from translators.batch import Signal
from translators.event import scope
from translators.lineage import Placement

TRACE, SPAN, PARENT = b"t" * 16, b"s" * 8, b"p" * 8
ROOT = Placement(TRACE, SPAN, b"", None, partial=False)


@given(st.lists(st.tuples(st.text(max_size=20), st.one_of(st.text(max_size=300), st.integers(0, 1 << 63)))))
def test_attributes_of_a_record_become_those_of_a_span(values: list[tuple[str, str | int]]) -> None:
    """Whatever their length."""
    encoded = b"".join(wire.attributes({name: value}, wire.RECORD_TAG) for name, value in values)
    expected = LogRecord.FromString(encoded).attributes
    assert list(Span.FromString(spans.as_span_attributes(encoded)).attributes) == list(expected)


def test_a_span_says_everything() -> None:
    """Each field, read back by the official schema."""
    ended = spans.Ended("sh", 5, 9, wire.Key("a").text("b"), failed=True, reason="SIGKILL")
    place = ROOT._replace(parent_span_id=PARENT, link=(b"l" * 16, b"k" * 8), partial=True)
    span = Span.FromString(spans.span(place, ended))
    assert (span.trace_id, span.span_id, span.parent_span_id) == (TRACE, SPAN, PARENT)
    assert (span.name, span.kind, span.flags) == ("sh", Span.SPAN_KIND_INTERNAL, 1)
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (5, 9)
    assert {each.key: each.value for each in span.attributes}.keys() == {"a", "otelbee.trace.partial"}
    (link,) = span.links
    assert (link.trace_id, link.span_id, link.flags) == (b"l" * 16, b"k" * 8, 1)
    assert (span.status.code, span.status.message) == (span.status.STATUS_CODE_ERROR, "SIGKILL")


def test_what_there_is_not_is_left_out() -> None:
    """No parent, no link, no status; a start behind the end, by the jitter of clocks, is the end."""
    span = Span.FromString(spans.span(ROOT, spans.Ended("sh", 10, 9, b"")))
    assert (span.parent_span_id, list(span.links), span.HasField("status")) == (b"", [], False)
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (9, 9)


def test_the_context_of_a_record_is_that_of_the_span() -> None:
    """By the official schema, beside other fields."""
    record = LogRecord.FromString(wire.fixed64_field(1, 7) + spans.context(ROOT))
    assert (record.trace_id, record.span_id, record.flags, record.time_unix_nano) == (TRACE, SPAN, 1, 7)


def test_a_batch_groups_by_resource() -> None:
    """One ResourceSpans for each."""
    encoded = spans.span(ROOT, spans.Ended("sh", 1, 2, b""))
    made = spans.batch([(b"", [encoded, encoded]), (b"", [encoded])], scope({}), 2)
    request = ExportTraceServiceRequest.FromString(made.data)
    assert [len(each.scope_spans[0].spans) for each in request.resource_spans] == [2, 1]
    assert {each.schema_url for each in request.resource_spans} == {request.resource_spans[0].scope_spans[0].schema_url}
    assert (made.signal, made.items, made.parts) == (Signal.TRACES, 3, (("", 3, 2),))


def test_a_selection_is_an_and_of_ors() -> None:
    """Every list that is given must match, by any of its items."""
    everything = spans.Selector(True)  # noqa: FBT003 - it is the option itself
    assert everything.everything
    assert everything.selects("", "x")
    both = spans.Selector(spans.Selection(("shop", ""), ("^/usr/bin/", "/sh$")))
    assert not both.everything
    assert both.selects("/usr/bin/make", "shop")
    assert both.selects("/bin/sh", "")
    assert not both.selects("/bin/sh", "kube-system")
    assert not both.selects("/bin/bash", "shop")
    assert spans.Selector(spans.Selection(binaries=("curl",))).selects("/usr/bin/curl7", "any")
