"""Events as each version of Tetragon's agent sends them; docs/compatibility.md names these tests.

The events are written here by field number and JSON name, from the differences between the agent's releases, and not
with our own schema: a number or a name that is wrong there fails here. Each is read from the stream and from the export
file, and both must give the same record.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from translators import wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.translators.tetragon.conftest import Record

    Read = Callable[..., Record]

POD_UID = "7b0dd4b6-7f0a-4d3c-9f5e-0a4f1c1d2e3f"
CONTAINER_ID = "0123456789abcdef" * 4


class Both(NamedTuple):
    """A value that the wire and JSON write in different ways."""

    wire: Any
    json: Any


def number(value: int) -> Both:
    """A wrapped integer: presence is told."""
    return Both({"1:value": value}, value)


def flag(*, value: bool) -> Both:
    """A wrapped boolean."""
    return Both({"1:value": int(value)}, value)


def long(value: int) -> Both:
    """A 64-bit integer, a string in JSON."""
    return Both(value, str(value))


def data(value: bytes) -> Both:
    """Bytes, base64 in JSON."""
    return Both(value, base64.b64encode(value).decode())


def labels(**pairs: str) -> Both:
    """A map of strings."""
    return Both([{"1:key": key, "2:value": value} for key, value in pairs.items()], pairs)


ACTION_NOTIFYENFORCER = Both(13, "KPROBE_ACTION_NOTIFYENFORCER")
TIME = Both({"1:seconds": 1_785_578_400, "2:nanos": 500_000_000}, "2026-08-01T10:00:00.500Z")
PROCESS = {
    "1:exec_id": "bm9kZS1hOjE6NDI=",
    "2:pid": number(42),
    "3:uid": number(0),
    "4:cwd": "/srv",
    "5:binary": "/usr/bin/curl",
    "6:arguments": "-s example.com",
    "7:flags": "execve clone",
    "8:start_time": TIME,
    "9:auid": number(4_294_967_295),
    "11:docker": CONTAINER_ID[:31],
    "12:parent_exec_id": "bm9kZS1hOjE6Nw==",
    "13:refcnt": 1,
}
PARENT = {"1:exec_id": "bm9kZS1hOjE6Nw==", "2:pid": number(7), "5:binary": "/bin/sh"}
CONTAINER = {
    "1:id": f"containerd://{CONTAINER_ID}",
    "2:name": "app",
    "3:image": {"1:id": "registry.example/shop@sha256:0f", "2:name": "registry.example/shop:1.2"},
    "5:pid": number(9),
}
POD = {"1:namespace": "shop", "2:name": "cart-0", "4:container": CONTAINER}


def encoded(message: dict[str, Any]) -> bytes:
    """The wire form of a message by ``number:name``."""
    parts = []
    for key, value in message.items():
        field = int(key.partition(":")[0])
        for item in value if isinstance(value := value.wire if isinstance(value, Both) else value, list) else [value]:
            if isinstance(item, int):
                parts.append(wire.number_field(field, item))
            else:
                payload = encoded(item) if isinstance(item, dict) else item.encode() if isinstance(item, str) else item
                parts.append(wire.field(field, payload))
    return b"".join(parts)


def named(value: Any) -> Any:
    """The JSON form of a message by ``number:name``."""
    if isinstance(value, Both):
        return value.json
    if isinstance(value, dict):
        return {key.partition(":")[2]: named(item) for key, item in value.items()}
    return [named(item) for item in value] if isinstance(value, list) else value


@pytest.fixture(name="read")
def _read(translate: Callable[..., Any]) -> Read:
    """A function: the version, a kind by ``number:name`` and its message to the one record of both ways."""

    def read(version: str, kind: str, message: dict[str, Any], *, unknown: int = 0, **more: Any) -> Record:
        options = {name: more.pop(name) for name in tuple(more) if ":" not in name}
        event = {kind: message, "1000:node_name": "node-a", "1001:time": TIME, **more}
        origin = {"peer_version": version}
        stream = translate(encoded(event), origin=origin, **options)
        file = translate(json.dumps(named(event)).encode(), kind="json", origin=origin, **options)
        assert stream.rejected == file.rejected == ()
        assert file.counts.pop("unknown_fields", 0) == unknown
        assert (stream.data, stream.counts) == (file.data, file.counts)
        (record,) = stream.records
        assert {each.key: each.value.string_value for each in record.scope.attributes} == {"tetragon.version": version}
        return record  # type: ignore[no-any-return] - fixtures are functions of any type

    return read


def values(record: Record, *keys: str) -> tuple[Any, ...]:
    """Attributes of a record by their key; None where there is none."""
    return tuple(record.attributes.get(key) for key in keys)


def test_1_0_process(read: Read) -> None:
    """What every version has: a process without tid, init tree, user or capabilities, and its parent."""
    record = read("v1.0.3", "1:process_exec", {"1:process": PROCESS, "2:parent": PARENT})
    assert record.name == "tetragon.process.exec"
    assert record.message.time_unix_nano == 1_785_578_400_500_000_000
    assert values(record, "process.pid", "process.user.id", "process.parent_pid") == (42, 0, 7)
    assert values(record, "process.executable.path", "process.command_line") == (
        "/usr/bin/curl",
        "/usr/bin/curl -s example.com",
    )
    assert record.resource["tetragon.container.id_prefix"] == CONTAINER_ID[:31]
    absent = ("thread.id", "tetragon.process.in_init_tree", "process.user.name", "tetragon.process.auid")
    assert values(record, *absent) == (None,) * 4


def test_1_0_pod_labels_are_no_uid(read: Read) -> None:
    """Up to 1.0 labels stood in the field that is the pod's uid today; none of them becomes one."""
    pod = {**POD, "3:labels": ["k8s:app=cart", "k8s:tier=web"], "5:pod_labels": labels(app="cart")}
    message = {"1:process": {**PROCESS, "10:pod": pod}}
    record = read("v1.0.3", "1:process_exec", message, unknown=1, pod_labels=("app",))
    assert "k8s.pod.uid" not in record.resource
    assert record.resource["k8s.pod.name"] == "cart-0"
    assert record.resource["k8s.pod.label.app"] == "cart"
    assert record.resource["container.id"] == CONTAINER_ID


def test_1_0_stack_trace(read: Read) -> None:
    """Today's kernel_stack_trace had another name in JSON."""
    frames = [{"2:offset": long(16), "3:symbol": "tcp_connect"}]
    message = {"1:process": PROCESS, "3:function_name": "tcp_connect", "6:action": 1, "7:stack_trace": frames}
    message["6:action"] = Both(1, "KPROBE_ACTION_POST")
    record = read("v1.0.3", "9:process_kprobe", message)
    assert values(record, "tetragon.kernel_stack") == ([{"offset": 16, "symbol": "tcp_connect"}],)


def test_1_0_notifykiller(read: Read) -> None:
    """Today's NOTIFYENFORCER had another name in JSON; it is as grave."""
    action = Both(13, "KPROBE_ACTION_NOTIFYKILLER")
    record = read("v1.0.3", "9:process_kprobe", {"1:process": PROCESS, "3:function_name": "f", "6:action": action})
    assert (values(record, "tetragon.action"), record.severity) == (("notifyenforcer",), 13)


def test_1_0_syscall64_is_a_size(read: Read) -> None:
    """Up to 1.2 the argument type syscall64 came as a size."""
    message = {
        "1:process": PROCESS,
        "4:subsys": "raw_syscalls",
        "5:event": "sys_exit",
        "6:args": [{"4:size_arg": long(59)}],
    }
    record = read("v1.2.0", "10:process_tracepoint", message)
    assert values(record, "tetragon.args", "tetragon.syscall.id") == ([{"type": "size", "value": 59}], None)


def test_1_1_policy_message_tags_and_stacks(read: Read) -> None:
    """Message and tags of the policy, the user's stack with modules, the enforcer's new name."""
    message = {
        "1:process": PROCESS,
        "3:function_name": "security_file_open",
        "4:args": [{"26:linux_binprm_arg": {"1:path": "/bin/su"}}, {"27:net_dev_arg": {"1:name": "eth0"}}],
        "6:action": ACTION_NOTIFYENFORCER,
        "7:kernel_stack_trace": [{"3:symbol": "do_open"}],
        "8:policy_name": "files",
        "10:message": "a file was opened",
        "11:tags": ["observability.filesystem"],
        "12:user_stack_trace": [{"2:offset": long(4096), "4:module": "/lib/libc.so.6"}],
    }
    record = read("v1.1.2", "9:process_kprobe", message)
    assert values(record, "tetragon.policy.name", "tetragon.policy.message", "tetragon.policy.tags") == (
        "files",
        "a file was opened",
        ["observability.filesystem"],
    )
    assert values(record, "tetragon.user_stack") == ([{"offset": 4096, "module": "/lib/libc.so.6"}],)
    assert values(record, "file.path", "network.interface.name") == ("/bin/su", "eth0")
    assert record.severity == 13


def test_1_1_binary_privileges(read: Read) -> None:
    """Why an exec raised its privileges."""
    properties = {"1:setuid": number(0), "3:privileges_changed": Both([2], ["PRIVILEGES_RAISED_EXEC_FILE_SETUID"])}
    message = {"1:process": {**PROCESS, "16:tid": number(43), "18:binary_properties": properties}}
    record = read("v1.1.2", "1:process_exec", message)
    assert values(record, "thread.id", "tetragon.process.setuid", "tetragon.process.privileges_changed") == (
        43,
        0,
        ["PRIVILEGES_RAISED_EXEC_FILE_SETUID"],
    )


def test_1_2_lsm_and_user(read: Read) -> None:
    """LSM hooks, and the name of the user."""
    process = {**PROCESS, "19:user": {"1:name": "root"}}
    message = {
        "1:process": process,
        "3:function_name": "bprm_check_security",
        "5:policy_name": "lsm",
        "8:action": Both(1, "KPROBE_ACTION_POST"),
    }
    record = read("v1.2.0", "28:process_lsm", message)
    assert record.name == "tetragon.process.lsm"
    assert values(record, "tetragon.lsm.hook", "process.user.name") == ("bprm_check_security", "root")


def test_1_2_throttle(read: Read) -> None:
    """A cgroup that is throttled, its name padded as the agent does."""
    message = {"1:type": Both(1, "THROTTLE_START"), "2:cgroup": "session-1.scope" + "\0" * 113}
    record = read("v1.2.0", "27:process_throttle", message)
    assert values(record, "tetragon.throttle.type", "tetragon.cgroup") == ("start", "session-1.scope")


def test_1_3_cluster_init_tree_and_syscall_id(read: Read) -> None:
    """The cluster's name, the init tree, syscall numbers with their ABI, bpf commands."""
    message = {
        "1:process": {**PROCESS, "20:in_init_tree": flag(value=False)},
        "3:function_name": "bpf",
        "4:args": [{"29:syscall_id": {"1:id": 321, "2:abi": "x64"}}, {"28:bpf_cmd_arg": Both(5, "BPF_PROG_LOAD")}],
        "6:action": Both(1, "KPROBE_ACTION_POST"),
    }
    record = read("v1.3.0", "9:process_kprobe", message, **{"1003:cluster_name": "prod"})
    assert record.resource["k8s.cluster.name"] == "prod"
    assert values(record, "tetragon.process.in_init_tree", "tetragon.syscall.id", "tetragon.syscall.abi") == (
        False,
        321,
        "x64",
    )
    assert values(record, "tetragon.bpf.command") == ("BPF_PROG_LOAD",)


def test_1_3_ima_hash(read: Read) -> None:
    """The hash of the file that an LSM hook saw."""
    message = {"1:process": PROCESS, "3:function_name": "file_open", "11:ima_hash": "sha256:00ff"}
    assert values(read("v1.3.0", "28:process_lsm", message), "tetragon.lsm.ima_hash") == ("sha256:00ff",)


def test_1_4_ancestors_and_sockaddr(read: Read) -> None:
    """Ancestors on every kind, nearest first; addresses of sockets."""
    ancestors = [{"1:exec_id": "b", "5:binary": "/sbin/init"}, {"1:exec_id": "a", "5:binary": "<kernel>"}]
    for kind in ("9:process_kprobe:13", "5:process_exit:6", "10:process_tracepoint:11", "28:process_lsm:10"):
        field, name, at = kind.split(":")
        record = read("v1.4.0", f"{field}:{name}", {"1:process": PROCESS, f"{at}:ancestors": ancestors})
        found = record.attributes["tetragon.ancestors"]
        assert [each["executable.name"] for each in found] == ["init", "<kernel>"]
    address = {"30:sockaddr_arg": {"1:family": "AF_INET", "2:addr": "192.0.2.7", "3:port": 443}}
    record = read("v1.4.0", "9:process_kprobe", {"1:process": PROCESS, "3:function_name": "f", "4:args": [address]})
    assert values(record, "network.type", "network.peer.address", "network.peer.port") == ("ipv4", "192.0.2.7", 443)


def test_1_5_node_labels_annotations_and_security_context(read: Read) -> None:
    """Labels of the node, annotations of the pod, whether the container is privileged."""
    container = {**CONTAINER, "14:security_context": {"1:privileged": Both(1, json=True)}}
    pod = {**POD, "4:container": container, "8:pod_annotations": labels(team="web")}
    record = read(
        "v1.5.0",
        "1:process_exec",
        {"1:process": {**PROCESS, "10:pod": pod}},
        node_labels=("zone",),
        pod_annotations=("team",),
        **{"1004:node_labels": labels(zone="eu-1")},
    )
    assert record.resource["k8s.node.label.zone"] == "eu-1"
    assert record.resource["k8s.pod.annotation.team"] == "web"
    assert record.resource["tetragon.container.privileged"] is True


def test_1_5_uprobe_offset(read: Read) -> None:
    """A probe by offset instead of symbol."""
    message = {"1:process": PROCESS, "3:path": "/usr/bin/bash", "10:offset": long(4660)}
    record = read("v1.5.0", "12:process_uprobe", message)
    assert values(record, "tetragon.uprobe.offset", "tetragon.uprobe.symbol") == (4660, None)


def test_1_6_usdt(read: Read) -> None:
    """User static probes."""
    message = {
        "1:process": PROCESS,
        "3:path": "/usr/bin/python3",
        "4:provider": "python",
        "5:name": "gc__start",
        "6:policy_name": "usdt",
    }
    record = read("v1.6.0", "29:process_usdt", message)
    assert record.name == "tetragon.process.usdt"
    assert values(record, "tetragon.usdt.provider", "tetragon.usdt.name") == ("python", "gc__start")


def test_1_6_pod_uid(read: Read) -> None:
    """The field that once held labels is the pod's uid."""
    message = {"1:process": {**PROCESS, "10:pod": {**POD, "3:uid": POD_UID}}}
    assert read("v1.6.0", "1:process_exec", message).resource["k8s.pod.uid"] == POD_UID


def test_1_6_data_and_uprobe_action(read: Read) -> None:
    """Values that are no arguments, and what was done at a uprobe."""
    message = {
        "1:process": PROCESS,
        "4:symbol": "main",
        "12:action": Both(3, "KPROBE_ACTION_SIGKILL"),
        "13:data": [{"1:string_arg": "x"}],
    }
    record = read("v1.6.0", "12:process_uprobe", message)
    assert values(record, "tetragon.action", "tetragon.data") == ("sigkill", [{"type": "string", "value": "x"}])
    assert record.severity == 17


def test_1_7_environment(read: Read) -> None:
    """Environment variables, those that an option allows; their names begin with capitals in the schema."""
    process = {
        **PROCESS,
        "21:environment_variables": [{"1:Key": "LANG", "2:Value": "C"}, {"1:Key": "X", "2:Value": "y"}],
    }
    record = read("v1.7.0", "1:process_exec", {"1:process": process}, environment=("LANG",))
    assert values(record, "process.environment_variable.LANG", "process.environment_variable.X") == ("C", None)


def test_1_7_loader_parent(read: Read) -> None:
    """A mapped library, with the parent that it lacked before; build ids are bytes."""
    message = {"1:process": PROCESS, "2:path": "/lib/libc.so.6", "3:buildid": data(b"\x01\xab")}
    before = read("v1.6.0", "11:process_loader", message)
    after = read("v1.7.0", "11:process_loader", {**message, "4:parent": PARENT})
    assert values(before, "tetragon.loader.build_id", "process.parent_pid") == ("01ab", None)
    assert values(after, "file.path", "process.parent_pid") == ("/lib/libc.so.6", 7)


def test_1_7_error_and_unix_socket_arguments(read: Read) -> None:
    """An argument that the agent could not read, and the path of a unix socket."""
    arguments = [
        {"32:error_arg": {"1:Message": "Bad address"}},
        {"33:sockaddrun_arg": {"1:family": "AF_UNIX", "2:path": "/run/x.sock"}},
    ]
    record = read("v1.7.0", "9:process_kprobe", {"1:process": PROCESS, "3:function_name": "f", "4:args": arguments})
    assert values(record, "tetragon.arg_errors", "network.peer.address", "network.transport") == (
        ["Bad address"],
        "/run/x.sock",
        "unix",
    )


def test_1_8_brings_no_event_that_is_new(read: Read) -> None:
    """Everything at once that 1.7 knows of a process; 1.8 changed policies only, of which no event tells."""
    process = {**PROCESS, "16:tid": number(42), "19:user": {"1:name": "root"}, "20:in_init_tree": flag(value=True)}
    record = read("v1.8.0-pre.0", "5:process_exit", {"1:process": process, "2:parent": PARENT, "3:signal": "SIGTERM"})
    assert values(record, "tetragon.process.exit.signal", "process.exit.code") == ("SIGTERM", None)


def test_newer_fields_are_counted_and_kinds_kept(translate: Callable[..., Any]) -> None:
    """What a later agent adds: a field costs itself alone, a kind is kept whole as unknown."""
    process = {**PROCESS, "99:novelty": "x"}
    event = {"1:process_exec": {"1:process": process}, "1000:node_name": "node-a", "1001:time": TIME}
    for made in (translate(encoded(event)), translate(json.dumps(named(event)).encode(), kind="json")):
        assert made.records[0].attributes["process.pid"] == 42
        assert made.counts == {"unknown_fields": 1}
    event = {"30:process_novelty": {"1:process": PROCESS}, "1000:node_name": "node-a", "1001:time": TIME}
    for made in (translate(encoded(event)), translate(json.dumps(named(event)).encode(), kind="json")):
        assert made.records[0].name == "tetragon.unknown"
        assert made.counts == {"unknown_kind": 1}
