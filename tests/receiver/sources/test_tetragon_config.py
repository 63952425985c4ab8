"""Configuration of the Tetragon source: closed, and checked before the agent is asked."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import ValidationError

from receiver.sources.tetragon import Config
from receiver.sources.tetragon.filters import FieldFilter, Filter, Filters
from translators.pb import tetragon_pb2
from translators.resource import ResourceOptions
from translators.tetragon import FieldFilter as LocalFieldFilter

INCLUDE = {"action": "INCLUDE"}


def problems(section: dict[str, Any]) -> list[str]:
    """What is wrong with a configuration, a line each with its path."""
    with pytest.raises(ValidationError) as caught:
        Config.model_validate(section)
    return [f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in caught.value.errors()]


@pytest.mark.parametrize(
    ("filters", "problem"),
    [
        (
            {"allow": [{"binary_regex": ["ok", "a(b"]}]},
            "allow.0.binary_regex.1: .*not a regular expression of RE2: missing",
        ),
        (
            {"deny": [{"arguments_regex": ["(?=x)"]}]},
            "deny.0.arguments_regex.0: .*not a regular expression of RE2: invalid",
        ),
        (
            {"allow": [{"event_set": ["PROCESS_EXCE"]}]},
            "allow.0.event_set.0: .*did you mean PROCESS_EXEC.*valid are PROC",
        ),
        ({"allow": [{"event_set": ["process_kprobe"]}]}, "allow.0.event_set.0: .*did you mean PROCESS_KPROBE"),
        ({"allow": [{"event_set": ["UNDEF"]}]}, "allow.0.event_set.0: .*not a kind of event"),
        ({"allow": [{}]}, "allow.0: .*an empty filter matches every event"),
        ({"deny": [{"binary": ["x"]}]}, "deny.0.binary: Extra inputs"),
        ({"deny": [{"binary_regex": "x"}]}, "deny.0.binary_regex: .*tuple"),
        ({"deny": [{"pid": [-1]}]}, "deny.0.pid.0: .*greater than or equal to 0"),
        ({"deny": [{"pid": [1 << 32]}]}, "deny.0.pid.0: .*less than"),
        ({"deny": [{"health_check": "perhaps"}]}, "deny.0.health_check: .*boolean"),
        ({"allow": [{"cel_expression": [""]}]}, "allow.0.cel_expression.0: .*at least 1 character"),
        (
            {"allow": [{"capabilities": {"effective": {"any": ["CAP_SYS_ADMN"]}}}]},
            "allow.0.capabilities.effective.any.0: .*did you mean CAP_SYS_ADMIN",
        ),
        ({"fields": [{"fields": ["process"]}]}, "fields.0.action: Field required"),
        ({"fields": [{"fields": [], **INCLUDE}]}, "fields.0.fields: .*at least 1 item"),
        (
            {"fields": [{"fields": ["process.argumnts"], **INCLUDE}]},
            "fields.0: .*no field 'argumnts'; did you mean arguments",
        ),
        ({"fields": [{"fields": ["process.binary.x"], **INCLUDE}]}, "fields.0: .*process.binary has no fields"),
        (
            {"fields": [{"event_set": ["PROCESS_EXEC"], "fields": ["args"], **INCLUDE}]},
            "fields.0: .*'args' is no field of these kinds of event: ProcessExec has no field 'args'",
        ),
        ({"aggregation_options": {"window_size": "5s"}}, "aggregation_options: Extra inputs"),
    ],
)
def test_a_wrong_filter_names_its_path(filters: dict[str, Any], problem: str) -> None:
    """The problem stands at the path of the value, with the near miss where there is one."""
    (line,) = problems({"filters": filters})
    assert re.search(f"^filters.{problem}", line), line


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ({"endpoint": "unix://run/t.sock"}, "endpoint: .*not an absolute path"),
        ({"endpoint": "localhost:"}, "endpoint: .*no port between 1 and 65535"),
        ({"endpoint": "http://h:1", "tls": {"ca_file": "c"}}, "tls names certificate files"),
        ({"severity": {"high": "ERORR"}}, "severity.high: .*did you mean ERROR"),
        ({"exclude": {"container_ids": ["abc"]}}, "exclude.container_ids.0: .*64 hexadecimal digits"),
        ({"exclude": {"pod_uids": ["my-pod"]}}, "exclude.pod_uids.0: .*metadata.uid"),
        ({"exclude": {"pids": [0]}}, "exclude.pids.0: .*greater than 0"),
        ({"exclude": {"binaries": ["otelbee"]}}, "exclude.binaries: Extra inputs"),
        ({"max_recv_msg_size": 0}, "max_recv_msg_size: .*between 1 byte and 2 GiB"),
        ({"read_ahead": "63KiB"}, "read_ahead: .*between 64 KiB and 2 GiB"),
        ({"read_ahead": "2GiB"}, "read_ahead: .*between 64 KiB and 2 GiB"),
        ({"max_recv_msg_size": "2GiB"}, "max_recv_msg_size: .*between 1 byte and 2 GiB"),
        ({"tls": {"insecure_skip_verify": True}}, "tls.insecure_skip_verify: .*cannot skip"),
    ],
)
def test_a_wrong_value_names_its_path(section: dict[str, Any], problem: str) -> None:
    """Every other key is checked as well before anything connects."""
    (line,) = problems(section)
    assert re.search(problem, line), line


def test_all_problems_are_told_at_once() -> None:
    """One run of ``validate`` shows everything."""
    assert len(problems({"endpoint": "x://", "filters": {"allow": [{}, {"binary_regex": ["("]}]}})) == 3


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("localhost", "localhost:54321"),
        ("agent:1", "agent:1"),
        ("unix:///run/t.sock", "unix:///run/t.sock"),
        (None, None),
    ],
)
def test_an_address_without_port_gets_the_agents(given: str | None, address: str | None) -> None:
    """As the agent itself completes it."""
    assert Config(endpoint=given).endpoint == address


def test_every_key_of_tetragons_filters_is_mirrored() -> None:
    """No key of the agent's messages is missing here, and none is invented."""
    assert set(Filter.model_fields) == set(tetragon_pb2.Filter.DESCRIPTOR.fields_by_name)
    assert set(FieldFilter.model_fields) == set(tetragon_pb2.FieldFilter.DESCRIPTOR.fields_by_name)


def test_a_filter_with_every_key_reaches_the_agent_whole() -> None:
    """Each key is translated to the message's field of the same name."""
    filters = Filters.model_validate(
        {
            "allow": [
                {
                    "binary_regex": ["^/usr"],
                    "namespace": ["", "prod"],
                    "health_check": False,
                    "pid": [0, 4294967295],
                    "pid_set": [1],
                    "event_set": ["PROCESS_EXEC", "RATE_LIMIT_INFO"],
                    "pod_regex": ["x"],
                    "arguments_regex": ["x"],
                    "labels": ["app in (a, b)"],
                    "policy_names": ["p"],
                    "capabilities": {"effective": {"any": ["CAP_SYS_ADMIN"], "none": ["DAC_OVERRIDE"]}},
                    "parent_binary_regex": ["x"],
                    "cel_expression": ["process_exec.process.pid > 1"],
                    "parent_arguments_regex": ["x"],
                    "container_id": ["^a"],
                    "in_init_tree": True,
                    "ancestor_binary_regex": ["x"],
                    "container_name_regex": ["x"],
                    "namespace_regex": ["x"],
                }
            ]
        }
    )
    (message,) = filters.request().allow_list
    assert {field.name for field, _ in message.ListFields()} == set(Filter.model_fields)
    assert message.health_check.value is False
    assert message.in_init_tree.value is True
    assert list(message.pid) == [0, 4294967295]
    assert list(message.event_set) == [tetragon_pb2.PROCESS_EXEC, tetragon_pb2.RATE_LIMIT_INFO]
    assert list(message.capabilities.effective.none) == [tetragon_pb2.DAC_OVERRIDE]


def test_helm_defaults_come_before_the_users_own_deny_list() -> None:
    """They are the chart's deny list for its file export, and off unless asked for."""
    deny = Filters.model_validate({"helm_defaults": True, "deny": [{"pid": [7]}]}).request().deny_list
    assert [[field.name for field, _ in item.ListFields()] for item in deny] == [
        ["health_check"],
        ["namespace"],
        ["pid"],
    ]
    assert Filters().request() == tetragon_pb2.GetEventsRequest()


def test_field_filters_go_to_the_agent_and_to_the_translator() -> None:
    """The agent sends the whole event when its own filter fails, so the same filter is applied again here."""
    config = Config.model_validate(
        {
            "filters": {
                "fields": [
                    {
                        "event_set": ["PROCESS_EXEC"],
                        "fields": ["process.arguments", "process.pod.pod_labels.app", "ancestors.binary"],
                        "action": "EXCLUDE",
                        "invert_event_set": True,
                    }
                ]
            }
        }
    )
    (message,) = config.filters.request().field_filters
    assert list(message.fields.paths) == ["process.arguments", "process.pod.pod_labels.app", "ancestors.binary"]
    assert message.action == tetragon_pb2.EXCLUDE
    assert message.invert_event_set.value is True
    assert config.options(ResourceOptions(), None).field_filters == (
        LocalFieldFilter(
            event_set=frozenset({"PROCESS_EXEC"}),
            fields=("process.arguments", "process.pod.pod_labels.app", "ancestors.binary"),
            action="EXCLUDE",
            invert_event_set=True,
        ),
    )


def test_options_carry_what_was_configured() -> None:
    """Every translation key reaches the translator."""
    config = Config.model_validate(
        {
            "node_labels": ["zone"],
            "pod_labels": ["*"],
            "pod_annotations": ["a"],
            "environment": ["PATH"],
            "service_name_from_labels": True,
            "command_args": True,
            "severity": {"high": "ERROR"},
            "log_record_uid": False,
            "max_record_bytes": "1KiB",
        }
    )
    options = config.options(ResourceOptions(host_name="h"), None)
    assert (options.node_labels, options.pod_labels, options.pod_annotations) == (("zone",), ("*",), ("a",))
    assert (options.environment, options.severity, options.max_record_bytes) == (("PATH",), {"high": "ERROR"}, 1024)
    assert (options.service_name_from_labels, options.command_args, options.log_record_uid) == (True, True, False)
    assert options.resource.host_name == "h"


def test_exclude_takes_ids_as_kubernetes_shows_them() -> None:
    """The runtime's prefix is dropped and letters are lowered."""
    exclude = Config.model_validate(
        {
            "exclude": {
                "container_ids": [f"containerd://{'A' * 64}"],
                "pod_uids": ["0A1B2C3D-0000-1111-2222-333344445555"],
                "pids": [1],
            }
        }
    ).exclude.processes()
    assert exclude.container_ids == {"a" * 64}
    assert exclude.pod_uids == {"0a1b2c3d-0000-1111-2222-333344445555"}
    assert exclude.pids == {1}
