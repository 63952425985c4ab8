"""The wire helpers write what protobuf reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue, KeyValueList

from translators import wire


@given(st.integers(0, wire.UINT64_MAX))
def test_varints(value: int) -> None:
    """Seven bits a byte, lowest first."""
    data = wire.varint(value)
    assert sum((byte & 0x7F) << 7 * index for index, byte in enumerate(data)) == value
    assert all(byte & 0x80 for byte in data[:-1])
    assert not data[-1] & 0x80


@given(st.integers(-(1 << 63), wire.UINT64_MAX))
def test_integers(value: int) -> None:
    """What is too large for OTLP's int64 becomes text; it is never wrapped."""
    found = KeyValueList.FromString(wire.Key("k", wire.LIST_TAG).integer(value)).values[0]
    assert found == KeyValueList.FromString(wire.Key("k", wire.LIST_TAG).any(wire.any_int(value))).values[0]
    if value > wire.INT64_MAX:
        assert found.value.string_value == str(value)
    else:
        assert found.value.int_value == value


@given(st.lists(st.text(max_size=700), max_size=8))
def test_strings_of_any_length_in_any_order(values: list[str]) -> None:
    """Headers that are kept by length do not mix up."""
    key = wire.Key("key", wire.LIST_TAG)
    data = b"".join(map(key.text, values)) + key.texts(values)
    *singles, whole = KeyValueList.FromString(data).values
    assert [single.value.string_value for single in singles] == values
    assert [item.string_value for item in whole.value.array_value.values] == values


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("x", "string_value"),
        (True, "bool_value"),
        (False, "bool_value"),
        (0, "int_value"),
        (-1, "int_value"),
        (0.5, "double_value"),
        (b"\x00", "bytes_value"),
    ],
)
def test_values_by_type(value: wire.AttributeValue, kind: str) -> None:
    """A boolean is not an integer, and zero is a value."""
    found = AnyValue.FromString(wire.any_value(value))
    assert found.WhichOneof("value") == kind
    assert getattr(found, kind) == value


def test_nesting() -> None:
    """Lists of lists of attributes."""
    key = wire.Key("inner", wire.LIST_TAG)
    value = wire.any_array([wire.any_kvlist([key.boolean(value=True), key.blob(b"b")]), wire.any_kvlist([])])
    found = AnyValue.FromString(value).array_value.values
    assert [entry.key for entry in found[0].kvlist_value.values] == ["inner", "inner"]
    assert found[1].WhichOneof("value") == "kvlist_value"


def test_a_mapping_keeps_its_order() -> None:
    """Attributes are read by people too."""
    data = wire.attributes({"b": 1, "a": ("x", "y")}, wire.LIST_TAG)
    first, second = KeyValueList.FromString(data).values
    assert first == KeyValue(key="b", value=AnyValue(int_value=1))
    assert (second.key, [item.string_value for item in second.value.array_value.values]) == ("a", ["x", "y"])


@pytest.mark.parametrize(
    "request_type", [ExportLogsServiceRequest, ExportMetricsServiceRequest, ExportTraceServiceRequest]
)
def test_export_requests_have_exactly_one_repeated_field(request_type: type) -> None:
    """The invariant under which joining the bytes of two requests is merging them."""
    (field,) = request_type.DESCRIPTOR.fields  # type: ignore[attr-defined] # every generated message has one
    assert field.is_repeated
    assert field.number == 1
    assert field.message_type is not None
