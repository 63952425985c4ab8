"""One identity: whichever source sees a container, its Resource says the same of it."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import ExportProfilesServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from peers import parca_agent

from receiver.registry import SOURCES, share
from translators.batch import Origin, Signal
from translators.event import own_event
from translators.pb import profile_pb2, tetragon_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from translators.batch import Batch

NODE, OBSERVED_HOST = "node-1", "worker-a.example"
CONTAINER, POD = "0123456789abcdef" * 4, "0a1b2c3d-0000-1111-2222-333344445555"
POD_SLICE = f"kubepods-burstable-pod{POD.replace('-', '_')}.slice"
TETRAGONS_PREFIX = 31
"""So many digits of a container id fit into the agent's kernel record; without the Kubernetes API it knows no more."""
NOW_NS = 1_800_000_000_000_000_000

IDENTITY = ("host.", "os.", "k8s.", "container.", "service.", "deployment.")


class Seen(NamedTuple):
    """What one source is sent about a process that starts and ends."""

    kind: str
    records: Sequence[bytes]
    origin: Origin = Origin()


class Where(NamedTuple):
    """A place that processes run in, as each source is told of it."""

    cgroups: tuple[bytes, bytes] = (b"", b"")
    """The process's own and the one above, as the kernel names them."""
    pod: tetragon_pb2.Pod | None = None
    docker: str = ""
    """Tetragon's short container id."""


def in_a_pod() -> Where:
    """A container of a pod, under containerd and systemd."""
    pod = tetragon_pb2.Pod(namespace="shop", name="cart-1", uid=POD, workload="cart", workload_kind="Deployment")
    pod.container.id, pod.container.name = f"containerd://{CONTAINER}", "cart"
    pod.container.image.name = "registry.example/cart:1.2"
    scope = f"cri-containerd-{CONTAINER}.scope"
    return Where((scope.encode(), POD_SLICE.encode()), pod, CONTAINER[:TETRAGONS_PREFIX])


def in_a_bare_container() -> Where:
    """A container that no Kubernetes knows of."""
    return Where((CONTAINER.encode(), b"docker"), None, CONTAINER[:TETRAGONS_PREFIX])


def on_the_host() -> Where:
    """A process in no container."""
    return Where((b"cron.service", b"system.slice"))


def tetragon_events(where: Where) -> list[tetragon_pb2.GetEventsResponse]:
    """The agent's events of a process."""
    process = tetragon_pb2.Process(exec_id="bm9kZS0xOjU6NDI=", binary="/usr/bin/prog", docker=where.docker)
    process.pid.value = 42
    process.start_time.seconds = NOW_NS // 10**9
    if where.pod is not None:
        process.pod.CopyFrom(where.pod)
    events = [
        tetragon_pb2.GetEventsResponse(process_exec=tetragon_pb2.ProcessExec(process=process)),
        tetragon_pb2.GetEventsResponse(process_exit=tetragon_pb2.ProcessExit(process=process)),
    ]
    for event in events:
        event.node_name = NODE
        event.time.seconds = NOW_NS // 10**9 + 1
    return events


def as_messages(where: Where) -> list[Seen]:
    """What ``tetragon`` reads."""
    return [Seen("protobuf", [event.SerializeToString() for event in tetragon_events(where)])]


def as_lines(where: Where) -> list[Seen]:
    """What ``tetragon_file`` reads."""
    write = json_format.MessageToJson
    lines = [write(event, preserving_proto_field_name=True, indent=None) for event in tetragon_events(where)]
    return [Seen("json", [line.encode() for line in lines])]


def as_kernel_records(where: Where) -> list[Seen]:
    """What ``bpf`` reads: ``exec_record`` and ``exit_record`` of bpf/programs/records.h."""
    path, arguments = b"/usr/bin/prog", b"prog\0"
    identities = (5 * 10**9, 3, 2 * 10**9, 2)
    tail = b"".join((path, *where.cgroups, *where.cgroups, arguments))
    names = tuple(map(len, where.cgroups))
    started = struct.pack(
        "=IHHQQQQQ6I6H4x",
        *(88 + len(tail), 1, 0x1F, 6 * 10**9, *identities, 42, 7, 0, 0, 42, len(arguments)),
        *(len(path), len(arguments), *names, *names),
    )
    above = b"".join(where.cgroups)
    ended = struct.pack(
        "=IHHQQQQQ5I2H16s", 88 + len(above), 2, 0x6F, 7 * 10**9, *identities, 42, 7, 0, 0, 0, *names, b""
    )
    origin = Origin(labels={"boot_id": "b", "host_name": NODE}, clock_offset_ns=NOW_NS)
    return [Seen("exec", [started + tail], origin), Seen("exit", [ended + above], origin)]


OBSERVERS: dict[str, Callable[[Where], list[Seen]]] = {
    "tetragon": as_messages,
    "tetragon_file": as_lines,
    "bpf": as_kernel_records,
}
LABELS = {
    "container": "cart",
    "container_id": CONTAINER,
    "namespace": "shop",
    "node": NODE,
    "pod": "cart-1",
    "pod_uid": POD,
    "service_name": "cart",
}
"""How a pusher says that it profiled what :func:`in_a_pod` is."""


def as_pprof() -> Seen:
    """What ``pprof`` is sent, with its labels in the query."""
    profile = profile_pb2.Profile(string_table=["", "cpu", "nanoseconds"], time_nanos=NOW_NS)
    profile.sample_type.add(type=1, unit=2)
    profile.sample.add(value=[1])
    return Seen("pprof", [profile.SerializeToString()], Origin(labels=LABELS))


def as_arrow() -> Seen:
    """What ``parca`` is sent, with its labels in columns."""
    frame = parca_agent.Frame(0x1000, "native", "prog", None, ())
    return Seen("arrow_v2", [parca_agent.v2([parca_agent.Row(tuple(LABELS.items()), (frame,), 1, NOW_NS)])])


PUSHERS: dict[str, Callable[[], Seen]] = {"pprof": as_pprof, "parca": as_arrow}
"""Who says in labels what was observed."""
FORWARDERS = {"otlp"}
"""Who observed is not for these to say: they pass on a Resource that its sender wrote."""


def plain(value: Any) -> Any:
    """An AnyValue as a Python value."""
    kind = value.WhichOneof("value")
    return [item.string_value for item in value.array_value.values] if kind == "array_value" else getattr(value, kind)


def resources(batch: Batch) -> list[dict[str, Any]]:
    """Every Resource of a batch."""
    if batch.signal is Signal.PROFILES:
        found = [each.resource for each in ExportProfilesServiceRequest.FromString(batch.data).resource_profiles]
    elif batch.signal is Signal.LOGS:
        found = [each.resource for each in ExportLogsServiceRequest.FromString(batch.data).resource_logs]
    else:
        found = [each.resource for each in ExportTraceServiceRequest.FromString(batch.data).resource_spans]
    return [{each.key: plain(each.value) for each in resource.attributes} for resource in found]


def identities(where: Where, host_name: str = "") -> dict[str, dict[str, Any]]:
    """What each source says of a place in its Resource; its logs and its spans say the same."""
    said = {}
    for name, see in OBSERVERS.items():
        entry = SOURCES[name]
        required = {"path": "/var/run/cilium/tetragon/tetragon.log"} if name == "tetragon_file" else {}
        config = entry.config.model_validate({"process_spans": True, **required})
        translator = entry.translator(config, share({"deployment.environment.name": "prod"}, host_name, {}))
        found, signals = [], set()
        for kind, records, origin in see(where):
            translation = translator.translate(kind, records, origin, NOW_NS)
            assert not translation.rejected
            for batch in (*translation.batches, *translation.derived):
                found += resources(batch)
                signals.add(batch.signal)
        assert signals == {Signal.LOGS, Signal.TRACES}, name
        assert all(each == found[0] for each in found), name
        said[name] = found[0]
    return said


def conventional(resource: dict[str, Any]) -> dict[str, Any]:
    """The attributes that identify by convention, whoever says them."""
    return {key: value for key, value in resource.items() if key.startswith(IDENTITY)}


def test_every_source_that_observes_is_compared() -> None:
    """A new source joins this comparison, or is one that forwards what others observed."""
    assert {*OBSERVERS, *PUSHERS, *FORWARDERS} == set(SOURCES)


@pytest.mark.parametrize("name", PUSHERS)
def test_labels_of_a_push_say_what_tetragon_says(name: str) -> None:
    """The same container has the same values of every key that both can know, and no others of ours."""
    entry, seen = SOURCES[name], PUSHERS[name]()
    config = entry.config.model_validate({"protocols": {"grpc": {}}})
    translator = entry.translator(config, share({"deployment.environment.name": "prod"}, "", {}))
    translation = translator.translate(seen.kind, seen.records, seen.origin, NOW_NS)
    assert not translation.rejected
    ((said,),) = map(resources, translation.batches)
    tetragon = conventional(identities(in_a_pod())["tetragon"])
    labelled = {
        "container.id": CONTAINER,
        "deployment.environment.name": "prod",
        "host.name": NODE,
        "k8s.container.name": "cart",
        "k8s.namespace.name": "shop",
        "k8s.pod.name": "cart-1",
        "k8s.pod.uid": POD,
        "service.name": "cart",
    }
    assert labelled.items() <= conventional(said).items()
    assert {key: tetragon[key] for key in tetragon.keys() & said.keys()} == {
        key: said[key] for key in tetragon.keys() & said.keys()
    }


@pytest.mark.parametrize("place", [in_a_pod, in_a_bare_container, on_the_host])
def test_sources_do_not_contradict_each_other(place: Callable[[], Where]) -> None:
    """Every key that two sources set has one value."""
    first, *others = (conventional(said) for said in identities(place()).values())
    for other in others:
        assert {key: first[key] for key in first.keys() & other.keys()} == {
            key: other[key] for key in first.keys() & other.keys()
        }


def test_each_source_says_all_that_it_can_know_of_a_container_in_a_pod() -> None:
    """Container, pod and host are told by every source; names in the cluster by those that know the cluster."""
    said = identities(in_a_pod())
    everybody = {
        "host.name": NODE,
        "os.type": "linux",
        "k8s.pod.uid": POD,
        "container.id": CONTAINER,
        "container.runtime.name": "containerd",
        "deployment.environment.name": "prod",
    }
    assert conventional(said["bpf"]) == everybody
    assert everybody.items() <= said["tetragon"].items()
    assert said["tetragon"]["service.name"] == "cart"
    assert said["tetragon"] == said["tetragon_file"]


def test_a_part_of_a_container_id_is_not_passed_off_as_one() -> None:
    """Where Tetragon knows the first digits only, they have its own key and lead to the id that the kernel tells."""
    said = identities(in_a_bare_container())
    assert said["bpf"]["container.id"] == CONTAINER
    for name in ("tetragon", "tetragon_file"):
        assert "container.id" not in said[name]
        assert said[name]["tetragon.container.id_prefix"] == CONTAINER[:TETRAGONS_PREFIX]


def test_a_process_of_the_host_has_no_container() -> None:
    """On the host there is the host alone: nothing of ours, though we may run in a container ourselves."""
    for said in identities(on_the_host()).values():
        assert conventional(said) == {"host.name": NODE, "os.type": "linux", "deployment.environment.name": "prod"}


@pytest.mark.parametrize("place", [in_a_pod, in_a_bare_container, on_the_host])
def test_the_configured_host_is_everybodys(place: Callable[[], Where]) -> None:
    """``resource.host_name`` names the observed host for every source."""
    assert {said["host.name"] for said in identities(place(), OBSERVED_HOST).values()} == {OBSERVED_HOST}


def test_otelbees_own_events_claim_no_container() -> None:
    """A record about a source is otelbee's, not that of what the source observes."""
    shared = share({}, "", {})
    (said,) = resources(own_event("otelbee.source.gap", {}, NOW_NS, shared.resource))
    assert said.pop("service.version")
    assert said == {"service.name": "otelbee"}
