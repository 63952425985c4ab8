"""One event, one record: from the stream, from the export file, and again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from peers.records import UID, uids

from translators.batch import Origin
from translators.tetragon import Options, Translator

if TYPE_CHECKING:
    from collections.abc import Callable


def serialised(made: Any) -> list[bytes]:
    """Every record, as bytes, in an order that does not depend on how records were grouped."""
    return sorted(record.message.SerializeToString(deterministic=True) for record in made.records)


def test_every_recorded_event_is_one_record(scenario: str, recording: Callable[[str], Any]) -> None:
    """No event is lost, none doubled, none rejected, and ids do not collide."""
    messages = recording(scenario).messages
    translator = Translator()
    records = []
    for start in range(0, len(messages), 256):
        made = translator.translate("protobuf", messages[start : start + 256], Origin(), 1_800_000_000_000_000_000)
        assert made.rejected == ()
        assert set(made.counts) <= {"truncated"}
        for resource in ExportLogsServiceRequest.FromString(made.batches[0].data).resource_logs:
            records += resource.scope_logs[0].log_records
    assert len(records) == len(messages)
    assert len(set(uids(records))) == len(messages)


def test_every_vector_and_example_is_one_record(
    vectors: list[Any], examples: dict[str, list[bytes]], run_with: Callable[..., Any]
) -> None:
    """Empty events and unknown kinds too."""
    made = run_with(Translator(), [vector.wire for vector in vectors])
    assert (len(made.records), made.rejected) == (len(vectors), ())
    for lines in examples.values():
        made = run_with(Translator(), lines, "json")
        assert (len(made.records), made.rejected) == (len(lines), ())


def test_the_export_file_gives_the_same_records_as_the_stream(
    scenario: str, recording: Callable[[str], Any], run_with: Callable[..., Any]
) -> None:
    """Byte for byte, ids included, wherever the agent wrote both."""
    recorded = recording(scenario)
    if not recorded.same:
        return
    options = Options(environment=("*",))
    stream = run_with(Translator(options), recorded.messages[:3000])
    export = run_with(Translator(options), recorded.lines[:3000], "json")
    assert serialised(stream) == serialised(export)


def test_both_forms_of_a_vector_give_the_same_record(vectors: list[Any], run_with: Callable[..., Any]) -> None:
    """Every field of the schema through both decoders, with every opt-in."""
    options = Options(environment=("*",), node_labels=("*",), pod_labels=("*",), pod_annotations=("*",))
    compared = 0
    for vector in vectors:
        if vector.event is None:
            continue
        wire = run_with(Translator(options), [vector.wire])
        line = run_with(Translator(options), [json.dumps(vector.event).encode()], "json")
        if wire.records[0].name == "tetragon.unknown":
            assert line.records[0].name == "tetragon.unknown"
            continue
        assert wire.data == line.data, vector.name
        compared += 1
    assert compared > 95


def test_a_retry_gives_the_same_ids(recording: Callable[[str], Any], run_with: Callable[..., Any]) -> None:
    """Ids are derived from the event, whatever was translated before."""
    messages = recording("base_full").messages
    first = [record.attributes[UID] for record in run_with(Translator(), messages).records]
    alone = [run_with(Translator(), [message]).records[0].attributes[UID] for message in messages[-20:]]
    assert set(alone) <= set(first)


def test_what_is_remembered_does_not_show(recording: Callable[[str], Any], run_with: Callable[..., Any]) -> None:
    """A translator that has seen everything makes the same of an event as one that has seen nothing."""
    messages = recording("file_full").messages[-150:]
    warm = Translator()
    run_with(warm, recording("file_full").messages)
    fresh = [run_with(Translator(), [message]).data for message in messages]
    assert [run_with(warm, [message]).data for message in messages] == fresh


def test_a_process_may_have_another_parent_later(run_with: Callable[..., Any]) -> None:
    """It is adopted when its parent dies."""
    translator = Translator()
    events = [
        json.dumps({"process_exit": {"process": {"exec_id": "x"}, "parent": {"exec_id": parent}}}).encode()
        for parent in ("a", "b", "a")
    ]
    records = run_with(translator, events, "json").records
    assert [record.attributes["tetragon.parent.exec_id"] for record in records] == ["a", "b", "a"]


def test_ids_are_uuids_and_can_be_left_out(vectors: list[Any], run_with: Callable[..., Any]) -> None:
    """RFC 9562, version 8."""
    for vector in vectors:
        record = run_with(Translator(), [vector.wire]).records[0]
        uid = record.attributes[UID]
        assert [len(part) for part in uid.split("-")] == [8, 4, 4, 4, 12]
        assert (uid[14], uid[19]) == ("8", "8")
    bare = run_with(Translator(Options(log_record_uid=False)), [vectors[2].wire]).records[0]
    assert UID not in bare.attributes


def test_the_order_of_fields_on_the_wire_does_not_matter(run_with: Callable[..., Any]) -> None:
    """Another serialiser may write the parent before the process, or both after the rest."""
    process, parent = b"\x0a\x07\x2a\x05/a/ls", b"\x12\x06\x2a\x04/a/b"
    rest = b"\x20\x03"
    orders = [process + parent + rest, parent + process + rest, rest + parent + process, rest + process + parent]
    made = [run_with(Translator(), [b"\x2a" + bytes([len(body)]) + body]) for body in orders]
    assert len({record.message.SerializeToString() for one in made for record in one.records}) == 1
    assert made[0].records[0].attributes["process.executable.path"] == "/a/ls"
    assert made[0].records[0].attributes["tetragon.parent.executable.path"] == "/a/b"
