"""Events of otelbee's own."""

from __future__ import annotations

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from translators.batch import Part, Signal
from translators.event import own_event
from translators.resource import ResourceOptions


def test_an_event_is_one_warning_of_our_own() -> None:
    """Named, timed, and not somebody else's."""
    options = ResourceOptions(attributes={"env": "prod"}, host_name="h")
    batch = own_event("otelbee.source.gap", {"source": "tetragon", "from": 1, "known": False}, 5, options)
    assert (batch.signal, batch.items, batch.parts) == (Signal.LOGS, 1, (Part("", 1, 5),))
    (resource,) = ExportLogsServiceRequest.FromString(batch.data).resource_logs
    (scope,) = resource.scope_logs
    (record,) = scope.log_records
    about = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert about == {"host.name": "h", "service.name": "otelbee", "service.version": scope.scope.version, "env": "prod"}
    assert (record.time_unix_nano, record.observed_time_unix_nano, record.severity_number) == (5, 5, 13)
    assert record.event_name == "otelbee.source.gap"
    found = {each.key: each.value for each in record.attributes}
    assert found["otelbee.event.type"].string_value == "otelbee.source.gap"
    assert found["from"].int_value == 1
    assert found["known"].WhichOneof("value") == "bool_value"
    assert record.body.string_value == "otelbee.source.gap source=tetragon from=1 known=False"
    assert resource.schema_url == scope.schema_url == "https://opentelemetry.io/schemas/1.44.0"
