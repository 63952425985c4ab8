"""Records of the kernel programs to OTLP."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from translators.batch import Exclude, Origin, Signal, Translation
from translators.bpf import Options, Translator
from translators.bpf import exec as exec_records
from translators.bpf import exit as exit_records
from translators.bpf.place import Place, place_of
from translators.bpf.records import Cgroup, MalformedError
from translators.redact import Redactor
from translators.resource import ResourceOptions

if TYPE_CHECKING:
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue
    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
    from opentelemetry.proto.resource.v1.resource_pb2 import Resource

# Captured on Linux 6.18 (x86-64): sh -c "exec /bin/true a 'b c' ''", its last exec and its exit.
RECORDED_EXEC = (
    bytes.fromhex(
        "7200000001001f008645238a7b0100006362f6897b010000060000000000000064686d677b0100000400000000000000155c0000145c0000"
        "0000000000000000155c00001100000009001100000000000000000000000000"
    )
    + b"/bin/true/bin/true\0a\0b c\0\0"
)
RECORDED_EXIT = bytes.fromhex(
    "5800000002006f0048082c8a7b0100006362f6897b010000060000000000000064686d677b0100000400000000000000155c0000145c0000"
    "0000000000000000000000000000000074727565000000000000000000000000"
)

BOOT = "ff935274-9b9c-46a0-9e9c-325871dd1313"
START_NS, PARENT_START_NS = 5_000_000_000, 2_000_000_000
OFFSET_NS = 1_700_000_000_000_000_000
NOW_NS = 1_700_000_010_000_000_000
ORIGIN = Origin(labels={"boot_id": BOOT, "host_name": "node-1"}, clock_offset_ns=OFFSET_NS)
CONTAINER = "0123456789abcdef" * 4
POD = "12345678-1234-1234-1234-123456789abc"


def exec_record(
    *,
    args: bytes = b"prog\0",
    args_size: int | None = None,
    path: bytes = b"/usr/bin/prog",
    pid: int = 42,
    has: int = 0x1F,
    start_ns: int = START_NS,
    execs: int = 3,
    thread: int = 42,
    euid: int = 1000,
    cgroups: tuple[bytes, bytes, bytes, bytes] = (b"", b"", b"", b""),
    time_ns: int = 6_000_000_000,
) -> bytes:
    """Pack an exec record."""
    size = len(args) if args_size is None else args_size
    lengths = [len(path), len(args), *map(len, cgroups)]
    tail = b"".join((path, *cgroups, args))
    return (
        struct.pack(
            "=IHHQQQQQ6I6H4x",
            *(88 + len(tail), 1, has, time_ns, start_ns, execs, PARENT_START_NS, 2),
            *(pid, 7, 1001, euid, thread, size),
            *lengths,
        )
        + tail
    )


def exit_record(
    *,
    status: int = 0,
    pid: int = 42,
    has: int = 0x6F,
    start_ns: int = START_NS,
    execs: int = 3,
    parent_pid: int = 7,
    comm: bytes = b"prog",
    cgroups: tuple[bytes, bytes] = (b"", b""),
    time_ns: int = 8_500_000_000,
) -> bytes:
    """Pack an exit record."""
    return struct.pack(
        "=IHHQQQQQ5I2H16s",
        *(88 + sum(map(len, cgroups)), 2, has, time_ns, start_ns, execs, PARENT_START_NS, 2),
        *(pid, parent_pid, 1001, 1000, status),
        *map(len, cgroups),
        comm,
    ) + b"".join(cgroups)


def value_of(value: AnyValue) -> Any:
    """The Python value of an AnyValue."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [value_of(item) for item in value.array_value.values]
    return getattr(value, kind or "string_value")


def attributes(of: LogRecord | Resource) -> dict[str, Any]:
    """Attributes as a dictionary; a key that occurs twice fails."""
    found = {pair.key: value_of(pair.value) for pair in of.attributes}
    assert len(found) == len(of.attributes)
    return found


def logs(translation: Translation) -> list[tuple[dict[str, Any], LogRecord]]:
    """(resource attributes, log record) of everything that was translated."""
    assert not translation.rejected
    (batch,) = translation.batches
    request = ExportLogsServiceRequest.FromString(batch.data)
    found = [
        (attributes(group.resource), record)
        for group in request.resource_logs
        for scope in group.scope_logs
        for record in scope.log_records
    ]
    assert batch.signal is Signal.LOGS
    assert batch.items == len(found)
    return found


def translate(
    kind: str, *records: bytes, origin: Origin = ORIGIN, by: Translator | None = None
) -> list[tuple[dict[str, Any], LogRecord]]:
    """Translate records and decode the result."""
    return logs((by or Translator(Options())).translate(kind, records, origin, NOW_NS))


def one(kind: str, record: bytes, by: Translator | None = None) -> dict[str, Any]:
    """The attributes of one record."""
    ((_, found),) = translate(kind, record, by=by)
    return attributes(found)


def test_exec() -> None:
    """Every member of an exec record has its place."""
    ((resource, found),) = translate("exec", exec_record(args=b"prog\0-v\0b c\0"))
    assert found.event_name == "otelbee.process.exec"
    assert found.time_unix_nano == OFFSET_NS + 6_000_000_000
    assert found.observed_time_unix_nano == NOW_NS
    assert found.severity_number == 9
    assert found.body.string_value == 'exec /usr/bin/prog -v "b c"'
    assert attributes(found) == {
        "otelbee.event.type": "otelbee.process.exec",
        "process.pid": 42,
        "process.parent_pid": 7,
        "process.user.id": 1000,
        "process.real_user.id": 1001,
        "process.executable.path": "/usr/bin/prog",
        "process.executable.name": "prog",
        "process.command": "prog",
        "process.command_args": ["prog", "-v", "b c"],
        "process.creation.time": "2023-11-14T22:13:25.000000000Z",
        "otelbee.process.exec_id": f"{BOOT}:{START_NS}:42:3",
        "otelbee.process.parent_exec_id": f"{BOOT}:{PARENT_START_NS}:7:2",
    }
    assert resource == {"host.name": "node-1", "os.type": "linux"}


def test_exit() -> None:
    """Every member of an exit record has its place."""
    ((resource, found),) = translate("exit", exit_record(status=3 << 8))
    assert found.event_name == "otelbee.process.exit"
    assert found.time_unix_nano == OFFSET_NS + 8_500_000_000
    assert found.severity_number == 9
    assert found.body.string_value == "exit prog 3"
    assert attributes(found) == {
        "otelbee.event.type": "otelbee.process.exit",
        "process.pid": 42,
        "process.parent_pid": 7,
        "process.user.id": 1000,
        "process.real_user.id": 1001,
        "process.creation.time": "2023-11-14T22:13:25.000000000Z",
        "process.exit.time": "2023-11-14T22:13:28.500000000Z",
        "process.exit.code": 3,
        "error.type": "3",
        "otelbee.process.comm": "prog",
        "otelbee.process.duration_ns": 3_500_000_000,
        "otelbee.process.exec_id": f"{BOOT}:{START_NS}:42:3",
        "otelbee.process.parent_exec_id": f"{BOOT}:{PARENT_START_NS}:7:2",
    }
    assert resource == {"host.name": "node-1", "os.type": "linux"}


def test_recorded_bytes() -> None:
    """Records as a kernel wrote them."""
    translator = Translator(Options())
    started, ended = one("exec", RECORDED_EXEC, translator), one("exit", RECORDED_EXIT, translator)
    assert started["process.command_args"] == ["/bin/true", "a", "b c", ""]
    assert (started["process.pid"], started["process.parent_pid"], started["process.user.id"]) == (23573, 23572, 0)
    assert started["otelbee.process.exec_id"] == ended["otelbee.process.exec_id"] == f"{BOOT}:1630107230819:23573:6"
    assert ended["process.exit.code"] == 0
    assert ended["otelbee.process.duration_ns"] == 3_515_877


def test_exit_repeats_what_its_exec_said() -> None:
    """Program and parent of an exit are those of the process's last exec, not those at the time of the exit."""
    translator = Translator(Options())
    one("exec", exec_record(execs=2, path=b"/bin/first"), translator)
    one("exec", exec_record(execs=3, args=b"second\0x\0", path=b"/bin/second"), translator)
    ((_, found),) = translate("exit", exit_record(parent_pid=1), by=translator)
    assert attributes(found)["process.executable.path"] == "/bin/second"
    assert attributes(found)["process.command_args"] == ["second", "x"]
    assert attributes(found)["process.parent_pid"] == 7
    assert attributes(found)["otelbee.process.parent_exec_id"] == f"{BOOT}:{PARENT_START_NS}:7:2"
    assert found.body.string_value == "exit /bin/second x 0"
    assert "process.executable.path" not in one("exit", exit_record(), translator)


@pytest.mark.parametrize("other", [{"execs": 4}, {"start_ns": START_NS + 1}, {"pid": 43}])
def test_exit_of_another_process(other: dict[str, Any]) -> None:
    """A reused pid, or an image whose exec was lost, is not taken for the one that is known."""
    translator = Translator(Options())
    one("exec", exec_record(), translator)
    assert "process.executable.path" not in one("exit", exit_record(**other), translator)


def test_memory_of_running_programs_is_bounded() -> None:
    """The longest running programs are forgotten first, by number and by size."""
    translator = Translator(Options())
    big = b"x" * 8000 + b"\0"
    for pid in range(100, 3100):
        translator.translate("exec", [exec_record(pid=pid, thread=pid, args=big)], ORIGIN, NOW_NS)
    assert "process.executable.path" not in one("exit", exit_record(pid=100), translator)
    assert "process.executable.path" in one("exit", exit_record(pid=3099), translator)
    assert translator._running._size <= 16 * 1024 * 1024


@pytest.mark.parametrize(
    ("status", "expected", "severity"),
    [
        (0, {"process.exit.code": 0}, 9),
        (255 << 8, {"process.exit.code": 255, "error.type": "255"}, 9),
        (9, {"otelbee.process.exit.signal": "SIGKILL", "error.type": "SIGKILL"}, 10),
        (15, {"otelbee.process.exit.signal": "SIGTERM", "error.type": "SIGTERM"}, 9),
        (
            11 | 0x80,
            {
                "otelbee.process.exit.signal": "SIGSEGV",
                "error.type": "SIGSEGV",
                "otelbee.process.exit.core_dumped": True,
            },
            13,
        ),
        (40, {"otelbee.process.exit.signal": "SIGRTMIN+6", "error.type": "SIGRTMIN+6"}, 9),
        (32, {"otelbee.process.exit.signal": "SIG32", "error.type": "SIG32"}, 9),
    ],
)
def test_endings(status: int, expected: dict[str, Any], severity: int) -> None:
    """A code or a signal, never both; crashes are warnings."""
    ((_, found),) = translate("exit", exit_record(status=status))
    names = {"process.exit.code", "otelbee.process.exit.signal", "error.type", "otelbee.process.exit.core_dumped"}
    assert {name: value for name, value in attributes(found).items() if name in names} == expected
    assert found.severity_number == severity


def test_what_the_kernel_did_not_tell_is_absent() -> None:
    """A presence bit that is not set leaves its attributes out, whatever the member holds."""
    started = one("exec", exec_record(has=0, args=b"", args_size=0))
    assert started.keys() == {
        *("otelbee.event.type", "process.pid", "process.real_user.id"),
        *("process.executable.path", "process.executable.name"),
    }
    assert one("exit", exit_record(has=0)).keys() == {
        *("otelbee.event.type", "process.pid", "process.real_user.id", "process.exit.time")
    }


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (b"", None),
        (b"\0", [""]),
        (b"a\0\0\0", ["a", "", ""]),
        (b"a\0b", ["a", "b"]),
        ("ü\0".encode(), ["ü"]),
        (b"\xff\xfe\0", ["\\xff\\xfe"]),
    ],
)
def test_arguments(args: bytes, expected: list[str] | None) -> None:
    """Arguments are a list with its empty ones; a byte that is no text is written out."""
    assert one("exec", exec_record(args=args)).get("process.command_args") == expected


def test_arguments_that_are_no_text_are_marked() -> None:
    """The escape is told from the same characters in an argument; a character cut in half by the limit is none."""
    assert one("exec", exec_record(args=b"\xff\0"))["otelbee.process.args_escaped"] is True
    assert "otelbee.process.args_escaped" not in one("exec", exec_record(args=b"\\xff\0"))
    assert "otelbee.process.args_escaped" not in one("exec", exec_record(args="ü".encode()[:1], args_size=3))


def test_truncated_arguments_are_marked() -> None:
    """Cut arguments say so, and how long they were."""
    found = one("exec", exec_record(args=b"prog\0xx", args_size=9000))
    assert found["otelbee.process.args_truncated"] is True
    assert found["otelbee.process.args_size"] == 9000
    assert found["process.command_args"] == ["prog", "xx"]
    assert "otelbee.process.args_size" not in one("exec", exec_record())


def test_exec_of_a_thread() -> None:
    """Only a thread that was not the leader is told."""
    assert one("exec", exec_record(thread=77))["otelbee.process.old_thread_id"] == 77


def test_secrets_are_redacted() -> None:
    """In the list as in a list, in the body and again in the exit; matches are counted."""
    translator = Translator(Options(redactor=Redactor()))
    started = translator.translate("exec", [exec_record(args=b"prog\0--password\0hunter2\0")], ORIGIN, NOW_NS)
    ended = translator.translate("exit", [exit_record()], ORIGIN, NOW_NS)
    assert b"hunter2" not in started.batches[0].data
    assert b"hunter2" not in ended.batches[0].data
    assert started.counts["redacted"] == 1
    assert "redacted" not in ended.counts
    ((_, found),) = logs(ended)
    assert attributes(found)["process.command_args"] == ["prog", "--password", "<redacted:password>"]


DOCKER = (CONTAINER.encode(), b"docker")
KUBERNETES = (
    b"cri-containerd-" + CONTAINER.encode() + b".scope",
    b"kubepods-burstable-pod" + POD.replace("-", "_").encode() + b".slice",
)


@pytest.mark.parametrize(
    ("cgroup", "place"),
    [
        (DOCKER, Place(CONTAINER, "", "")),
        (KUBERNETES, Place(CONTAINER, "containerd", POD)),
        ((CONTAINER.encode(), b"pod" + POD.encode()), Place(CONTAINER, "", POD)),
        ((b"docker-" + CONTAINER.encode() + b".scope", b"system.slice"), Place(CONTAINER, "docker", "")),
        ((b"crio-" + CONTAINER.encode() + b".scope", b""), Place(CONTAINER, "cri-o", "")),
        ((b"container", b"libpod-" + CONTAINER.encode() + b".scope"), Place(CONTAINER, "podman", "")),
        (
            (b"kubepods-pod" + POD.encode() + b".slice:cri-containerd:" + CONTAINER.encode(), b""),
            Place(CONTAINER, "containerd", POD),
        ),
        ((b"crio-conmon-" + CONTAINER.encode() + b".scope", b""), Place("", "", "")),
        ((b"libpod-conmon-" + CONTAINER.encode() + b".scope", b""), Place("", "", "")),
        ((CONTAINER[:32].encode(), b"process_api"), Place("", "", "")),
        ((b"", b""), Place("", "", "")),
        ((b"docker-" + CONTAINER.encode() + b"0.scope", b""), Place("", "", "")),
        ((b"x" * 63 + CONTAINER.encode(), b""), Place("", "", "")),
    ],
)
def test_place(cgroup: tuple[bytes, bytes], place: Place) -> None:
    """The names that each runtime gives its cgroups, and those that only look like one."""
    assert place_of(Cgroup(*cgroup)) == place


def test_container_is_on_the_resource() -> None:
    """Records of a container and of the host are apart, with the names of their cgroups on the record."""
    (inside, record), (outside, _) = translate(
        "exec", exec_record(cgroups=(*KUBERNETES, b"", b"")), exec_record(pid=43, thread=43)
    )
    assert inside == {
        "host.name": "node-1",
        "os.type": "linux",
        "container.id": CONTAINER,
        "container.runtime.name": "containerd",
        "k8s.pod.uid": POD,
    }
    assert outside == {"host.name": "node-1", "os.type": "linux"}
    found = attributes(record)
    assert found["otelbee.process.cgroup.name"] == KUBERNETES[0].decode()
    assert found["otelbee.process.cgroup.parent_name"] == KUBERNETES[1].decode()
    assert not any(name.startswith("otelbee.parent.") for name in found)


def test_parent_elsewhere() -> None:
    """A parent in another cgroup is told with its container."""
    found = one("exec", exec_record(cgroups=(b"a", b"b", *DOCKER)))
    assert found["otelbee.parent.container.id"] == CONTAINER
    assert found["otelbee.parent.cgroup.name"] == CONTAINER
    assert found["otelbee.parent.cgroup.parent_name"] == "docker"


def test_resource_options() -> None:
    """The user's attributes and host name hold here, too."""
    translator = Translator(Options(ResourceOptions({"env": "test"}, "named")))
    ((resource, _),) = translate("exit", exit_record(), by=translator)
    assert resource == {"host.name": "named", "os.type": "linux", "env": "test"}


@pytest.mark.parametrize(
    "exclude",
    [Exclude(pids=frozenset({42})), Exclude(container_ids=frozenset({CONTAINER})), Exclude(pod_uids=frozenset({POD}))],
)
def test_own_processes_are_excluded(exclude: Exclude) -> None:
    """They are counted, and their neighbours are kept."""
    records = [exec_record(cgroups=(*KUBERNETES, b"", b"")), exec_record(pid=43, thread=43)]
    translation = Translator(Options()).translate("exec", records, ORIGIN._replace(exclude=exclude), NOW_NS)
    ((_, found),) = logs(translation)
    assert attributes(found)["process.pid"] == 43
    assert translation.counts == {"excluded_self": 1}


def test_bad_records_are_rejected_one_by_one() -> None:
    """A record that contradicts itself is named by its position; its neighbours are translated."""
    good = exec_record()
    records = [b"", good, good[:-1], good + b"x", exec_record(args=b"abc", args_size=2), good]
    translation = Translator(Options()).translate("exec", records, ORIGIN, NOW_NS)
    assert [each.index for each in translation.rejected] == [0, 2, 3, 4]
    assert {each.reason for each in translation.rejected} == {"malformed"}
    assert translation.batches[0].items == 2
    assert translation.rejected[0].message == "exec: it has 0 bytes, an exec record at least 88"


def test_unknown_kind() -> None:
    """A kind that there is no program for is rejected."""
    translation = Translator(Options()).translate("open", [b"x"], ORIGIN, NOW_NS)
    assert translation.batches == ()
    assert translation.rejected[0].message == "open: there is no program 'open'"


def test_newest_event() -> None:
    """The part tells the newest event's time."""
    records = [exit_record(time_ns=9_000_000_000), exit_record(time_ns=7_000_000_000)]
    (batch,) = Translator(Options()).translate("exit", records, ORIGIN, NOW_NS).batches
    assert batch.parts == (("", 2, OFFSET_NS + 9_000_000_000),)


@given(st.sampled_from(["exec", "exit"]), st.binary(max_size=300))
def test_garbage_is_rejected(kind: str, data: bytes) -> None:
    """Whatever the bytes are, they are translated or rejected."""
    translation = Translator(Options(redactor=Redactor())).translate(kind, [data], ORIGIN, NOW_NS)
    assert sum(batch.items for batch in translation.batches) + len(translation.rejected) == 1


@given(st.binary(min_size=88, max_size=88), st.binary(max_size=100))
def test_damaged_numbers(head: bytes, args: bytes) -> None:
    """Any numbers in a record of the right shape give a request that can be parsed."""
    lengths = struct.pack("=6H4x", 0, len(args), 0, 0, 0, 0)
    started = head[:72] + lengths + args
    ended = head[:68] + struct.pack("=2H16s", 0, 0, args[:16])
    for kind, data in (("exec", started), ("exit", ended)):
        translation = Translator(Options(redactor=Redactor())).translate(kind, [data], ORIGIN, NOW_NS)
        for batch in translation.batches:
            assert len(logs(translation)) == batch.items


def test_truncation_anywhere() -> None:
    """A record that ends anywhere before its end is malformed."""
    for read, record in ((exec_records.read, RECORDED_EXEC), (exit_records.read, RECORDED_EXIT)):
        for size in range(len(record)):
            with pytest.raises(MalformedError):
                read(record[:size])
