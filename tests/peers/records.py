"""Log records as tests look at them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

UID = "log.record.uid"
LENGTH_BYTES = 4


def frames(data: bytes) -> Iterator[bytes]:
    """The messages of data in which each stands behind its length, 4 bytes big-endian; what is cut off is left out.

    The file exporters (the Collector's and ours), ``otelbee translate`` and recordings have this form.
    """
    position = 0
    while position + LENGTH_BYTES <= len(data):
        begin = position + LENGTH_BYTES
        position = begin + int.from_bytes(data[position:begin], "big")
        if position <= len(data):
            yield data[begin:position]


def records_of(message: bytes) -> list[Any]:
    """Every log record of an export request."""
    return [
        record
        for resource in ExportLogsServiceRequest.FromString(message).resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    ]


def count(message: bytes) -> int:
    """How many log records an export request has."""
    return sum(
        len(scope.log_records)
        for resource in ExportLogsServiceRequest.FromString(message).resource_logs
        for scope in resource.scope_logs
    )


def uids(records: Iterable[Any]) -> list[str]:
    """The ids of Tetragon's records, in order; otelbee's own events have none."""
    return [each.value.string_value for record in records for each in record.attributes if each.key == UID]


def own_events(records: Iterable[Any], name: str) -> list[dict[str, str]]:
    """The attributes of otelbee's own events of one name."""
    return [
        {each.key: each.value.string_value for each in record.attributes}
        for record in records
        if record.event_name == name
    ]


def without_arrival(record: Any) -> bytes:
    """A record as bytes, without the time at which otelbee saw it, and the mark of one that is older than this machine.

    A few events have no other time.
    """
    same = type(record)()
    same.CopyFrom(record)
    del same.attributes[:]
    same.attributes.extend(each for each in record.attributes if each.key != "otelbee.time_anomaly")
    if any(each.key == "otelbee.truncated" for each in record.attributes):
        # The mark takes room, and so what is cut elsewhere differs.
        return "".join(uids([record])).encode()
    if same.time_unix_nano == same.observed_time_unix_nano:
        same.time_unix_nano = 0
    same.observed_time_unix_nano = 0
    data: bytes = same.SerializeToString(deterministic=True)
    return data
