"""Bodies in the agent's own JSON, for people who come from the Collector's filelog receiver."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf import json_format

from translators.pb import tetragon_pb2 as full
from translators.redact import Redactor

if TYPE_CHECKING:
    from collections.abc import Callable

SOME = 1500
"""Events of a recording that are compared; highvol repeats itself."""


def test_the_body_is_the_agents_own_line(
    translate: Callable[..., Any], recording: Callable[[str], Any], scenario: str
) -> None:
    """The same object from the stream and from the file, as the agent exported it, member by member."""
    recorded = recording(scenario)
    lines = recorded.lines[:SOME]
    options: dict[str, Any] = {"body": "json", "environment": ("*",), "max_record_bytes": 0}
    from_file = translate(*lines, kind="json", **options)
    expected = sorted(json.dumps(json.loads(line), sort_keys=True) for line in lines)
    assert sorted(json.dumps(json.loads(record.body), sort_keys=True) for record in from_file.records) == expected
    assert not any("\n" in record.body for record in from_file.records)
    if recorded.same:
        from_stream = translate(*recorded.messages[:SOME], **options)
        assert from_stream.data == from_file.data


def secretive() -> full.GetEventsResponse:
    """An event with a secret wherever a process can put one."""
    event = full.GetEventsResponse(node_name="node")
    hook = event.process_kprobe
    hook.function_name = "sys_write"
    for process in (hook.process, hook.parent, hook.ancestors.add()):
        process.exec_id = base64.b64encode(b"node:77:7").decode()
        process.binary = "/usr/bin/mysql"
        process.arguments = "-phunter2 --password=hunter2 visible"
        process.cwd = "/srv/password=hunter2"
        process.environment_variables.add(Key="API_TOKEN", Value="hunter2")
        process.environment_variables.add(Key="LANG", Value="C.UTF-8")
        for number in range(20):
            process.pod.pod_labels[f"label-{number * 7 % 20:02}"] = "password=hunter2"
    hook.args.add().string_arg = "Authorization: Bearer hunter2hunter2"
    hook.args.add().bytes_arg = b"password=hunter2\n"
    hook.args.add().truncated_bytes_arg.bytes_arg = b"password=hunter2\n"
    hook.args.add().file_arg.path = "/tmp/token=hunter2"
    getattr(hook, "return").string_arg = "password=hunter2"
    hook.user_stack_trace.add().symbol = "password=hunter2"
    return event


def in_both_forms(event: full.GetEventsResponse) -> list[tuple[str, bytes]]:
    """The event as the stream and as the file have it."""
    line = json_format.MessageToJson(event, preserving_proto_field_name=True, indent=None)
    return [("protobuf", event.SerializeToString()), ("json", line.encode())]


def test_redaction_reaches_every_leaf(translate: Callable[..., Any]) -> None:
    """Whichever way the event came; what is no secret stays."""
    for kind, data in in_both_forms(secretive()):
        (record,) = translate(data, kind=kind, body="json", environment=("*",), redactor=Redactor()).records
        event = json.loads(record.body)["process_kprobe"]
        decoded = record.body + str([base64.b64decode(arg["bytes_arg"]) for arg in event["args"] if "bytes_arg" in arg])
        decoded += str(base64.b64decode(event["args"][2]["truncated_bytes_arg"]["bytes_arg"]))
        assert "hunter2" not in decoded
        assert decoded.count("<redacted:") >= 15
        assert event["process"]["exec_id"] == base64.b64encode(b"node:77:7").decode()
        assert event["process"]["arguments"].endswith(" visible")
        assert event["process"]["environment_variables"][1] == {"Key": "LANG", "Value": "C.UTF-8"}
        assert list(event["process"]["pod"]["pod_labels"]) == [f"label-{number:02}" for number in range(20)]


@pytest.mark.parametrize(("allowed", "kept"), [((), None), (("LANG",), [{"Key": "LANG", "Value": "C.UTF-8"}])])
def test_environment_variables_stay_opt_in(
    translate: Callable[..., Any], allowed: tuple[str, ...], kept: list[dict[str, str]] | None
) -> None:
    """The allow-list holds in the body, too."""
    for kind, data in in_both_forms(secretive()):
        (record,) = translate(data, kind=kind, body="json", environment=allowed, redactor=Redactor()).records
        assert json.loads(record.body)["process_kprobe"]["process"].get("environment_variables") == kept


def test_nothing_else_of_the_record_changes(translate: Callable[..., Any], recording: Callable[[str], Any]) -> None:
    """Attributes, ids, times and the Resource are those of a line for people."""
    messages = recording("enforce").messages
    ways = [translate(*messages, body=body, max_record_bytes=0, process_spans=True) for body in ("line", "json")]
    for line, full_event in zip(*(way.records for way in ways), strict=True):
        assert full_event.body != line.body
        full_event.message.body.CopyFrom(line.message.body)
        assert full_event.message == line.message
        assert full_event.resource == line.resource


def test_an_unknown_kind_keeps_its_line(translate: Callable[..., Any]) -> None:
    """What nobody can read nobody can redact."""
    line = b'{"process_connect": {"destination_names": ["password=hunter2"]}, "node_name": "n"}'
    (record,) = translate(line, kind="json", body="json", redactor=Redactor()).records
    assert record.body == "unknown process_connect"
