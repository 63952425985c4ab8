"""Bad input for the Tetragon translator, as protobuf and as JSON, between two good neighbours."""

from __future__ import annotations

import json
from functools import cache
from typing import NamedTuple

from fuzz import mutations
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from translators.batch import Origin, Signal
from translators.otlp import count_items
from translators.redact import Redactor
from translators.tetragon import FieldFilter, Options, Translator

_NOW_NS = 1_763_856_000_000_000_000
_ALL = ("*",)
_OPTIONS = {
    "default": Options(redactor=Redactor()),
    "everything on": Options(
        node_labels=_ALL,
        pod_labels=_ALL,
        pod_annotations=_ALL,
        environment=_ALL,
        service_name_from_labels=True,
        command_args=True,
        max_record_bytes=0,
    ),
    "spans and JSON": Options(redactor=Redactor(), process_spans=True, body="json", max_record_bytes=2048),
    "small records": Options(redactor=Redactor(), max_record_bytes=512, log_record_uid=False, command_args=True),
    "filtered": Options(
        redactor=Redactor(),
        field_filters=(FieldFilter(fields=("process.arguments", "parent.pod"), action="EXCLUDE"),),
    ),
}


class Input(NamedTuple):
    """What one translator is given."""

    options: str
    bad: list[bytes]


def inputs(kind: str) -> st.SearchStrategy[Input]:
    """One to three bad records of ``kind``, for one of some sets of options."""
    if kind == "protobuf":
        records = mutations.any_bytes(mutations.protobuf_events())
    else:
        documents = mutations.json_events()
        lines = [json.dumps(document).encode() for document in documents[:: max(1, len(documents) // 60)]]
        records = mutations.damaged_json(documents) | mutations.any_bytes(lines)
    return st.builds(Input, st.sampled_from(list(_OPTIONS)), st.lists(records, min_size=1, max_size=3))


def check_protobuf(given: Input) -> None:
    """Every GetEventsResponse, however bad, has one outcome."""
    _check("protobuf", given)


def check_json(given: Input) -> None:
    """Every line, however bad, has one outcome."""
    _check("json", given)


def _check(kind: str, given: Input) -> None:
    first, last = _neighbours(kind)
    records = [first, *given.bad, last]
    translator = Translator(_OPTIONS[given.options])
    with mutations.bounded(sum(map(len, records))):
        translation = translator.translate(kind, records, Origin(), _NOW_NS)
    rejected = [rejection.index for rejection in translation.rejected]
    assert len(set(rejected)) == len(rejected)
    assert set(rejected) <= set(range(1, len(records) - 1)), "a good neighbour was rejected"
    assert all(rejection.reason and rejection.message for rejection in translation.rejected)
    items = sum(batch.items for batch in translation.batches)
    assert items + len(rejected) == len(records), "a record has no outcome, or two"
    found = set()
    for batch in translation.batches:
        assert count_items(Signal.LOGS, batch.data) == batch.items
        assert sum(part.items for part in batch.parts) == batch.items
        found |= _records(batch.data)
    for batch in translation.derived:
        assert count_items(Signal.TRACES, batch.data) == batch.items
        ExportTraceServiceRequest.FromString(batch.data)
    for neighbour in (first, last):
        assert _alone(kind, neighbour, given.options) <= found, "a good neighbour is not what it is alone"


@cache
def _neighbours(kind: str) -> tuple[bytes, bytes]:
    if kind == "protobuf":
        events = mutations.protobuf_events()
        return events[0], events[-1]
    documents = mutations.json_events()
    return json.dumps(documents[0]).encode(), json.dumps(documents[1]).encode()


@cache
def _alone(kind: str, record: bytes, options: str) -> frozenset[bytes]:
    (batch,) = Translator(_OPTIONS[options]).translate(kind, [record], Origin(), _NOW_NS).batches
    return frozenset(_records(batch.data))


def _records(data: bytes) -> set[bytes]:
    """The log records of a request, as the official schema reads and writes them."""
    request = ExportLogsServiceRequest.FromString(data)
    records = [record for each in request.resource_logs for scope in each.scope_logs for record in scope.log_records]
    for record in records:
        record.ClearField("trace_id")  # it depends on who else claims to be of the family
    return {record.SerializeToString(deterministic=True) for record in records}


if __name__ == "__main__":
    mutations.by_hand({"protobuf": (check_protobuf, inputs("protobuf")), "json": (check_json, inputs("json"))})
