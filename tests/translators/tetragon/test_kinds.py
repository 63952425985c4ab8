"""What each kind of event becomes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from translators.pb import tetragon_pb2 as full

if TYPE_CHECKING:
    from collections.abc import Callable

EXEC_ID = "bm9kZS1hOjE6NDI="


def event(kind: str, body: Any, **rest: Any) -> bytes:
    """A serialised event with a process."""
    body.process.exec_id = EXEC_ID
    body.process.pid.value = 42
    body.process.binary = "/usr/bin/curl"
    body.process.arguments = "-s example.com"
    response = full.GetEventsResponse(node_name="node-a", **{kind: body}, **rest)
    response.time.FromJsonString("2026-08-01T10:00:00.5Z")
    return response.SerializeToString()


@pytest.fixture(name="one")
def _one(translate: Callable[..., Any]) -> Callable[..., Any]:
    """A function: one event and options to its record."""

    def one(data: bytes, **options: Any) -> Any:
        made = translate(data, **options)
        assert made.rejected == ()
        return made.records[0]

    return one


def named(vectors: list[Any], name: str) -> bytes:
    """The vector of that name."""
    return next(vector.wire for vector in vectors if vector.name == name)


def test_every_record_has_its_frame(one: Callable[..., Any]) -> None:
    """Times, name, scope and node, whatever the kind."""
    record = one(event("process_exec", full.ProcessExec()))
    assert record.message.time_unix_nano == 1785578400_500000000
    assert record.message.observed_time_unix_nano == 1_800_000_000_000_000_000
    assert record.name == record.attributes["tetragon.event.type"] == "tetragon.process.exec"
    assert record.severity == 9
    assert (record.scope.name, record.scope.version) == ("otelbee", "0.1.0")
    assert record.resource == {"host.name": "node-a", "os.type": "linux"}
    assert record.body == "process node-a /usr/bin/curl -s example.com"


def test_the_agents_version_is_on_the_scope(translate: Callable[..., Any]) -> None:
    """Where the source knows it."""
    made = translate(b"", origin={"peer_version": "v1.7.0"})
    assert {each.key: each.value.string_value for each in made.records[0].scope.attributes} == {
        "tetragon.version": "v1.7.0"
    }


def test_an_exec_follows_the_process_conventions(one: Callable[..., Any]) -> None:
    """The process under process.*, its parent under tetragon.parent.*."""
    body = full.ProcessExec()
    body.process.uid.value = 0
    body.process.cwd = "/srv"
    body.process.flags = "execve clone"
    body.process.tid.value = 42
    body.process.auid.value = 4294967295
    body.process.in_init_tree.value = False
    body.process.start_time.FromJsonString("2026-08-01T10:00:00.123456Z")
    body.parent.pid.value = 7
    body.parent.binary = "/bin/sh"
    record = one(event("process_exec", body), command_args=True)
    assert {name: value for name, value in record.attributes.items() if name != "log.record.uid"} == {
        "tetragon.process.exec_id": EXEC_ID,
        "process.pid": 42,
        "process.user.id": 0,
        "process.working_directory": "/srv",
        "process.executable.path": "/usr/bin/curl",
        "process.executable.name": "curl",
        "process.command_line": "/usr/bin/curl -s example.com",
        "process.command_args": ["/usr/bin/curl", "-s", "example.com"],
        "tetragon.process.flags": ["execve", "clone"],
        "process.creation.time": "2026-08-01T10:00:00.123456Z",
        "thread.id": 42,
        "tetragon.process.in_init_tree": False,
        "process.parent_pid": 7,
        "tetragon.parent.executable.path": "/bin/sh",
        "tetragon.parent.executable.name": "sh",
        "tetragon.parent.command_line": "/bin/sh",
        "tetragon.parent.command_args": ["/bin/sh"],
        "tetragon.process.source": "execve",
        "tetragon.event.type": "tetragon.process.exec",
    }


def test_an_exec_without_a_fork_names_the_image_that_it_replaced(one: Callable[..., Any]) -> None:
    """Its parent has the same pid and never exits."""
    body = full.ProcessExec()
    body.process.flags = "execve"
    body.parent.pid.value = 42
    body.parent.exec_id = "replaced"
    assert one(event("process_exec", body)).attributes["tetragon.process.replaced_exec_id"] == "replaced"
    body.process.flags = "execve clone"
    assert "tetragon.process.replaced_exec_id" not in one(event("process_exec", body)).attributes
    body.process.flags = "procFS"
    assert one(event("process_exec", body)).attributes["tetragon.process.source"] == "procfs"


def test_raised_privileges_raise_the_severity(vectors: list[Any], one: Callable[..., Any]) -> None:
    """A set-uid program."""
    record = one(named(vectors, "exec-privileged-setuid"))
    assert record.severity == 11
    assert record.attributes["tetragon.process.privileges_changed"] == ["PRIVILEGES_RAISED_EXEC_FILE_SETUID"]


@pytest.mark.parametrize(
    ("signal", "status", "severity", "error", "code"),
    [
        ("", 0, 9, None, 0),
        ("", 1, 9, "1", 1),
        ("SIGTERM", 0, 9, "SIGTERM", None),
        ("SIGKILL", 0, 10, "SIGKILL", None),
        ("SIGSEGV", 0, 13, "SIGSEGV", None),
    ],
)
def test_an_exit_tells_how(
    signal: str, status: int, *, severity: int, error: str | None, code: int | None, one: Callable[..., Any]
) -> None:
    """A killed process has no exit code, whatever the status says."""
    body = full.ProcessExit(signal=signal, status=status)
    body.process.start_time.FromJsonString("2026-08-01T09:59:59Z")
    body.time.FromJsonString("2026-08-01T10:00:00.25Z")
    record = one(event("process_exit", body))
    assert record.severity == severity
    assert record.attributes.get("error.type") == error
    assert record.attributes.get("process.exit.code") == code
    assert record.attributes.get("tetragon.process.exit.signal", "") == signal
    assert record.attributes["process.exit.time"] == "2026-08-01T10:00:00.250Z"
    assert record.attributes["tetragon.process.duration_ns"] == 1_250_000_000
    assert record.body == f"exit node-a /usr/bin/curl -s example.com {signal or status}"


def test_a_kprobe_tells_the_policy_the_arguments_and_the_stacks(vectors: list[Any], one: Callable[..., Any]) -> None:
    """Arguments in order and whole, beside what they promote."""
    record = one(named(vectors, "kprobe-return-stack-data"))
    found = record.attributes
    assert found["code.function.name"] == "__x64_sys_openat"
    assert found["security_rule.name"] == found["tetragon.policy.name"] == "openat"
    assert found["tetragon.action"] == found["tetragon.kprobe.return_action"] == "post"
    assert found["tetragon.args"] == [
        {"type": "int", "label": "dfd", "value": -100},
        {"type": "string", "label": "path", "value": "/etc/passwd"},
        {"type": "int", "value": 0},
    ]
    assert found["tetragon.kprobe.return"] == {"type": "int", "value": 3}
    assert found["tetragon.data"] == [{"type": "uint", "label": "cpu", "value": 7}]
    assert found["tetragon.kernel_stack"][0] == {
        "address": "18446744072119856613",
        "offset": 5,
        "symbol": "do_sys_openat2",
    }
    assert found["code.stacktrace"].splitlines() == [
        "0xffffffffa13f2de5: do_sys_openat2+0x5",
        "do_syscall_64+0x70",
        "0x7f55abbb2000: __open64+0x10b000 (/usr/lib/x86_64-linux-gnu/libc.so.6)",
        "+0x1234 (/usr/bin/cat)",
    ]


def test_a_connection_follows_the_network_conventions(vectors: list[Any], one: Callable[..., Any]) -> None:
    """Local and peer, and a direction because tcp_connect has one."""
    found = one(named(vectors, "kprobe-tcp-connect-v4")).attributes
    assert {name: found[name] for name in found if name.startswith(("network.", "source.", "destination."))} == {
        "network.transport": "tcp",
        "network.type": "ipv4",
        "network.local.address": "10.0.1.7",
        "network.local.port": 51234,
        "network.peer.address": "93.184.216.34",
        "network.peer.port": 443,
        "network.connection.state": "syn_sent",
        "source.address": "10.0.1.7",
        "source.port": 51234,
        "destination.address": "93.184.216.34",
        "destination.port": 443,
    }
    # Beyond int64, which is all that OTLP has.
    assert found["tetragon.sock.cookie"] == "18446612682148915072"


def test_a_policy_that_interferes_raises_the_severity(vectors: list[Any], one: Callable[..., Any]) -> None:
    """Unless the user's map says otherwise, by the policy's name before its tags."""
    data = named(vectors, "kprobe-tcp-connect-v6-sigkill")
    assert one(data).severity == 17
    assert one(data, severity={"enforce": "FATAL"}).severity == 21
    assert one(data, severity={"kill-egress": "DEBUG2", "enforce": "FATAL"}).severity == 6


def test_a_severity_that_does_not_exist_is_an_error(translate: Callable[..., Any]) -> None:
    """It names the policy and the possible values."""
    with pytest.raises(ValueError, match=r"'p' is 'LOUD'.*FATAL4"):
        translate(b"", severity={"p": "LOUD"})


def test_every_argument_kind_is_listed(vectors: list[Any], one: Callable[..., Any]) -> None:
    """In the policy's order, with the type's own name."""
    found = one(named(vectors, "kprobe-every-argument-kind")).attributes
    args = found["tetragon.args"]
    kinds = {field.name.removesuffix("_arg") for field in full.KprobeArgument.DESCRIPTOR.fields} - {"label"}
    assert {arg["type"] for arg in args} == kinds
    assert args[3] == {"type": "size", "value": "18446744073709551615"}
    assert args[4] == {"type": "bytes", "value": b"\x00\xff\xfehello"}
    assert args[7] == {"type": "truncated_bytes", "value": b"\x00\x01\x02", "original_size": 4096}
    assert found["file.path"] == "/etc"
    assert found["file.mode"] == "0755"
    assert found["tetragon.syscall.abi"]
    assert found["tetragon.arg_errors"]


def test_an_argument_of_a_newer_agent_is_kept(one: Callable[..., Any]) -> None:
    """With its bytes, for nothing is dropped silently."""
    body = full.ProcessKprobe(function_name="f")
    body.args.add().MergeFromString(b"\xc2\x02\x03abc")
    assert one(event("process_kprobe", body)).attributes["tetragon.args"] == [
        {"type": "unknown", "value": b"\xc2\x02\x03abc"}
    ]


def test_an_action_of_a_newer_agent_is_its_number(vectors: list[Any], one: Callable[..., Any]) -> None:
    """An enum is open."""
    assert one(named(vectors, "kprobe-unknown-action-enum-99")).attributes["tetragon.action"] == "99"


def test_tracepoint_uprobe_usdt_and_lsm(vectors: list[Any], one: Callable[..., Any]) -> None:
    """Each under its own prefix."""
    assert one(named(vectors, "tracepoint-plain")).attributes["tetragon.tracepoint.event"] == "sys_enter_execve"
    uprobe = one(named(vectors, "uprobe-offset")).attributes
    assert uprobe["tetragon.uprobe.path"] == "/usr/bin/app"
    assert uprobe["tetragon.uprobe.offset"]
    usdt = one(named(vectors, "usdt-flags")).attributes
    assert (usdt["tetragon.usdt.provider"], usdt["tetragon.usdt.name"]) == ("mysql", "query__start")
    lsm = one(named(vectors, "lsm-file-open-ima")).attributes
    assert lsm["tetragon.lsm.hook"] == "file_open"
    assert lsm["tetragon.lsm.ima_hash"].startswith("sha256:")


def test_a_loader_event_without_time_is_marked(vectors: list[Any], one: Callable[..., Any]) -> None:
    """The agent sends none; the time of reading stands in."""
    record = one(named(vectors, "loader-no-time"))
    assert record.message.time_unix_nano == record.message.observed_time_unix_nano
    assert record.attributes["tetragon.time_missing"] is True
    assert record.attributes["tetragon.loader.build_id"] == "e91daa56aa8a9b6bd71fda89cfc56f634161d09e"
    assert record.severity == 5


def test_the_build_id_of_the_executable_itself_has_a_convention(one: Callable[..., Any]) -> None:
    """That of a library has none."""
    body = full.ProcessLoader(path="/usr/bin/curl", buildid=b"\xab\xcd")
    found = one(event("process_loader", body)).attributes
    assert found["process.executable.build_id.gnu"] == "abcd"
    assert "tetragon.loader.build_id" not in found


def test_throttle_rate_limit_and_test_have_no_process(vectors: list[Any], one: Callable[..., Any]) -> None:
    """Nor do they invent one."""
    throttle = one(named(vectors, "throttle-start"))
    assert (throttle.attributes["tetragon.cgroup"], throttle.severity) == ("session-429.scope", 13)
    assert throttle.attributes["tetragon.throttle.type"] == "start"
    assert one(named(vectors, "rate-limit-info")).attributes["tetragon.dropped_events"]
    assert one(named(vectors, "test")).name == "tetragon.test"
    assert not any(name.startswith("process.") for name in throttle.attributes)


def test_unknown_kinds_and_empty_events_are_kept(vectors: list[Any], translate: Callable[..., Any]) -> None:
    """With the number of the kind and the whole input."""
    data = named(vectors, "unknown-oneof-field-3 (enterprise kind)")
    made = translate(data)
    record = made.records[0]
    assert record.name == "tetragon.unknown"
    assert record.attributes["tetragon.event.field_number"] == 3
    assert record.attributes["tetragon.event.raw"] == data
    assert record.resource["host.name"] == "node-a"
    assert made.counts == {"unknown_kind": 1}
    assert translate(b"").records[0].attributes["tetragon.event.raw"] == b""


def test_unknown_kinds_in_json_have_a_name(examples: dict[str, list[bytes]], translate: Callable[..., Any]) -> None:
    """Enterprise kinds, as published."""
    lines = examples["book-enterprise-chapter-four-golden-signals"]
    made = translate(*lines, kind="json")
    assert [record.attributes["tetragon.event.kind"] for record in made.records] == [
        "process_close",
        "process_connect",
        "process_listen",
    ]
    assert made.records[0].attributes["tetragon.event.raw"] == lines[0]
    assert made.records[0].resource["host.name"] == "minikube"


def test_ancestors_are_listed_nearest_first(one: Callable[..., Any]) -> None:
    """Each with what is known of it."""
    body = full.ProcessExec()
    for pid in (3, 2, 1):
        body.ancestors.add(binary=f"/a/{pid}").pid.value = pid
    assert one(event("process_exec", body)).attributes["tetragon.ancestors"] == [
        {"pid": pid, "executable.path": f"/a/{pid}", "executable.name": str(pid), "command_line": f"/a/{pid}"}
        for pid in (3, 2, 1)
    ]


def test_an_aggregated_event_says_how_many(vectors: list[Any], one: Callable[..., Any]) -> None:
    """Should an agent ever aggregate."""
    assert one(named(vectors, "aggregated")).attributes["tetragon.aggregation.count"]
