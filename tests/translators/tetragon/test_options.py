"""What can be set: who is left out, what is shown, what is cut."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from translators.batch import Exclude
from translators.pb import tetragon_pb2 as full
from translators.resource import ResourceOptions
from translators.tetragon import FieldFilter, Options, Translator

if TYPE_CHECKING:
    from collections.abc import Callable

CONTAINER = "16ecce28d6808e01f6b91f990b07616c0fc8dff67036231f9911191c7ff3d1cd"
POD_UID = "7c9b9a0e-5b1e-4b0c-9b53-0f3f6b7b2a11"


def exec_event(**process: Any) -> full.GetEventsResponse:
    """An exec on node n."""
    body = full.ProcessExec(process=full.Process(binary="/bin/ls", arguments="-l", **process))
    return full.GetEventsResponse(process_exec=body, node_name="n")


def in_pod(**pod: Any) -> full.GetEventsResponse:
    """An exec in a pod of a Deployment."""
    event = exec_event(docker=CONTAINER[:31])
    event.process_exec.process.pod.MergeFrom(
        full.Pod(
            namespace="shop",
            name="cart-6f8-q",
            uid=POD_UID,
            workload="cart",
            workload_kind="Deployment",
            container=full.Container(
                id=f"containerd://{CONTAINER}",
                name="cart",
                image=full.Image(id="reg:5000/acme/cart@sha256:f92c", name="reg:5000/acme/cart:1.4.2"),
                pid={"value": 17},
            ),
        )
    )
    event.process_exec.process.pod.MergeFrom(full.Pod(**pod))
    return event


def test_a_pod_is_the_resource(translate: Callable[..., Any]) -> None:
    """What identifies the emitter; the process id in its namespace is the record's."""
    record = translate(in_pod().SerializeToString()).records[0]
    assert record.resource == {
        "host.name": "n",
        "os.type": "linux",
        "k8s.node.name": "n",
        "k8s.namespace.name": "shop",
        "k8s.pod.name": "cart-6f8-q",
        "k8s.pod.uid": POD_UID,
        "k8s.container.name": "cart",
        "k8s.deployment.name": "cart",
        "container.id": CONTAINER,
        "container.runtime.name": "containerd",
        "container.image.name": "reg:5000/acme/cart",
        "container.image.tags": ["1.4.2"],
        "container.image.repo_digests": ["reg:5000/acme/cart@sha256:f92c"],
        "service.name": "cart",
        "service.namespace": "shop",
        "service.version": "1.4.2",
        "service.instance.id": "shop.cart-6f8-q.cart",
    }
    assert record.attributes["process.vpid"] == 17
    assert "tetragon.parent.resource" not in record.attributes


def test_labels_and_annotations_are_shown_when_asked_for(translate: Callable[..., Any]) -> None:
    """And only those; a label names the service only with consent, an annotation always."""
    labels = {"app.kubernetes.io/name": "label-name", "team": "", "hash": "6f8"}
    event = in_pod(pod_labels=labels, pod_annotations={"note": "x"})
    event.node_labels["zone"] = "a"
    data = event.SerializeToString()
    plain = translate(data).records[0].resource
    assert not any("label" in name or "annotation" in name for name in plain)
    assert plain["service.name"] == "cart"
    shown = (
        translate(
            data,
            pod_labels=("team", "app.kubernetes.io/name"),
            pod_annotations=("*",),
            node_labels=("zone",),
            service_name_from_labels=True,
        )
        .records[0]
        .resource
    )
    assert shown["k8s.pod.label.team"] == ""
    assert "k8s.pod.label.hash" not in shown
    assert shown["k8s.pod.annotation.note"] == "x"
    assert shown["k8s.node.label.zone"] == "a"
    assert shown["service.name"] == "label-name"
    event.process_exec.process.pod.pod_annotations["resource.opentelemetry.io/service.name"] = "annotated"
    assert translate(event.SerializeToString()).records[0].resource["service.name"] == "annotated"


def test_a_prefix_of_a_container_id_has_a_key_of_its_own(translate: Callable[..., Any]) -> None:
    """It identifies nothing beyond this host."""
    resource = translate(exec_event(docker=CONTAINER[:31]).SerializeToString()).records[0].resource
    assert resource["tetragon.container.id_prefix"] == CONTAINER[:31]
    assert "container.id" not in resource


def test_a_pod_uid_of_another_shape_is_left_out(translate: Callable[..., Any]) -> None:
    """Agents up to 1.0 had labels in this field."""
    event = in_pod()
    event.process_exec.process.pod.uid = "k8s:app=cart"
    assert "k8s.pod.uid" not in translate(event.SerializeToString()).records[0].resource


def test_the_users_attributes_fill_in(translate: Callable[..., Any]) -> None:
    """They never replace what was observed; a host name replaces the agent's, which is kept."""
    options = ResourceOptions(attributes={"service.name": "mine", "env": "prod"}, host_name="real")
    pod = translate(in_pod().SerializeToString(), resource=options).records[0].resource
    assert (pod["service.name"], pod["env"], pod["host.name"], pod["k8s.node.name"]) == ("cart", "prod", "real", "n")
    host = translate(exec_event().SerializeToString(), resource=options).records[0].resource
    assert (host["service.name"], host["host.name"], host["tetragon.node_name"]) == ("mine", "real", "n")


def test_records_are_grouped_by_resource(translate: Callable[..., Any]) -> None:
    """One ResourceLogs for a container, whatever runs in it."""
    other = in_pod()
    other.process_exec.process.pod.container.pid.value = 18
    made = translate(in_pod().SerializeToString(), exec_event().SerializeToString(), other.SerializeToString())
    assert [record.resource.get("k8s.pod.name") for record in made.records] == ["cart-6f8-q", "cart-6f8-q", None]


def test_a_parent_elsewhere_says_where(translate: Callable[..., Any]) -> None:
    """A container's first process is a child of the runtime on the host, and the other way round."""
    event = exec_event()
    event.process_exec.parent.CopyFrom(in_pod().process_exec.process)
    found = translate(event.SerializeToString()).records[0].attributes
    assert found["tetragon.parent.resource"]["k8s.pod.name"] == "cart-6f8-q"


@pytest.mark.parametrize(
    ("exclude", "dropped"),
    [
        (Exclude(), False),
        (Exclude(pids=frozenset({5})), True),
        (Exclude(pids=frozenset({6})), False),
        (Exclude(pod_uids=frozenset({POD_UID})), True),
        (Exclude(container_ids=frozenset({CONTAINER})), True),
        (Exclude(container_ids=frozenset({"0" * 64})), False),
    ],
)
def test_our_own_events_are_dropped_and_counted(
    exclude: Exclude,
    *,
    dropped: bool,
    translate: Callable[..., Any],
) -> None:
    """By pid, container or pod."""
    event = in_pod()
    event.process_exec.process.pid.value = 5
    made = translate(event.SerializeToString(), origin={"exclude": exclude})
    assert (len(made.records), made.counts) == ((0, {"excluded_self": 1}) if dropped else (1, {}))


def test_a_container_is_recognised_by_its_prefix(translate: Callable[..., Any]) -> None:
    """Without the Kubernetes API the agent only knows 31 digits."""
    mine = {"exclude": Exclude(container_ids=frozenset({CONTAINER}))}
    assert translate(exec_event(docker=CONTAINER[:31]).SerializeToString(), origin=mine).records == []
    assert len(translate(exec_event(docker=CONTAINER[:4]).SerializeToString(), origin=mine).records) == 1


def test_what_is_excluded_may_change(run_with: Callable[..., Any]) -> None:
    """Verdicts that were kept are forgotten."""
    translator = Translator()
    event = exec_event()
    event.process_exec.process.pid.value = 5
    data = [event.SerializeToString()]
    assert len(run_with(translator, data).records) == 1
    assert len(run_with(translator, data, exclude=Exclude(pids=frozenset({5}))).records) == 0
    assert len(run_with(translator, data).records) == 1


def test_a_process_that_differs_in_refcnt_is_the_same(run_with: Callable[..., Any]) -> None:
    """A counter of the agent's cache; it would defeat ours."""
    translator = Translator()
    for number in range(50):
        data = exec_event(exec_id="x", parent_exec_id="y", refcnt=number).SerializeToString()
        run_with(translator, [data])
    aliases = translator._processes.aliases.young.values()
    assert len({id(process) for process in aliases if process.exec_id == "x"}) == 1


def test_environment_variables_are_shown_when_asked_for(translate: Callable[..., Any]) -> None:
    """One that occurs twice is a list."""
    variables = [full.EnvVar(Key=key, Value=value) for key, value in (("A", "1"), ("B", "2"), ("A", "3"))]
    data = exec_event(environment_variables=variables).SerializeToString()
    assert not any("environment" in name for name in translate(data).records[0].attributes)
    found = translate(data, environment=("A",)).records[0].attributes
    assert found["process.environment_variable.A"] == ["1", "3"]
    assert "process.environment_variable.B" not in found


@pytest.mark.parametrize(
    ("filters", "arguments", "path", "parent"),
    [
        ((), "-l", "/bin/ls", "p"),
        ((FieldFilter(fields=("process.arguments",), action="EXCLUDE"),), "", "/bin/ls", "p"),
        ((FieldFilter(fields=("process.binary", "process.exec_id")),), "", "/bin/ls", ""),
        ((FieldFilter(frozenset({"PROCESS_EXIT"}), ("process",), "EXCLUDE"),), "-l", "/bin/ls", "p"),
        ((FieldFilter(frozenset({"PROCESS_EXIT"}), ("process",), "EXCLUDE", invert_event_set=True),), "", "", "p"),
        ((FieldFilter(fields=("process", "process.binary"), action="EXCLUDE"),), "", "", "p"),
        ((FieldFilter(fields=("no.such.path",), action="EXCLUDE"),), "-l", "/bin/ls", "p"),
        ((FieldFilter(fields=("no.such.path",)),), "", "", ""),
    ],
)
def test_field_filters_are_applied_again(
    filters: tuple[FieldFilter, ...], arguments: str, path: str, parent: str, translate: Callable[..., Any]
) -> None:
    """The agent sends an event unfiltered when its own filter fails."""
    event = exec_event(exec_id="x")
    event.process_exec.parent.exec_id = "p"
    record = translate(event.SerializeToString(), field_filters=filters).records[0]
    assert record.name == "tetragon.process.exec"
    assert record.attributes.get("process.executable.path", "") == path
    assert record.attributes.get("tetragon.parent.exec_id", "") == parent
    assert record.attributes.get("process.command_line", "").removeprefix(path).strip() == arguments
    assert record.resource["host.name"] == "n"


def test_field_filters_reach_into_lists(translate: Callable[..., Any]) -> None:
    """Arguments of ancestors and of hooks."""
    body = full.ProcessKprobe(function_name="f", ancestors=[full.Process(binary="/b", arguments="secret")])
    body.args.add(string_arg="secret")
    body.args.add(int_arg=3)
    data = full.GetEventsResponse(process_kprobe=body).SerializeToString()
    exclude = FieldFilter(fields=("ancestors.arguments", "args.string_arg"), action="EXCLUDE")
    made = translate(data, field_filters=(exclude,))
    assert b"secret" not in made.data
    assert [arg["type"] for arg in made.records[0].attributes["tetragon.args"]] == ["unknown", "int"]


def test_filters_drop_fields_that_nobody_knows(translate: Callable[..., Any]) -> None:
    """Fail closed: they may be what was to be left out."""
    data = b"\x0a\x0d" + b"\xca\x3e\x06secret" + b"\x0a\x02\x2a\x00"[:4]
    exclude = FieldFilter(fields=("process.arguments",), action="EXCLUDE")
    assert translate(data, field_filters=(exclude,)).counts == {}
    assert translate(data).counts == {"unknown_fields": 1}


def test_long_records_are_cut_and_marked(translate: Callable[..., Any]) -> None:
    """The longest values lose most, and stay text."""
    event = exec_event()
    event.process_exec.process.arguments = "é" * 40_000
    event.process_exec.process.cwd = "/" + "d" * 20_000
    event.process_exec.parent.binary = "/short"
    made = translate(event.SerializeToString(), max_record_bytes=10_000)
    record = made.records[0]
    assert record.message.ByteSize() <= 10_000
    assert record.message.ByteSize() > 9_900
    assert record.attributes["otelbee.truncated"] is True
    assert record.attributes["process.command_line"].startswith("/bin/ls é")
    assert len(record.attributes["process.command_line"].encode()) < 4_000
    assert record.attributes["tetragon.parent.executable.path"] == "/short"
    assert made.counts == {"truncated": 1}
    assert "otelbee.truncated" not in translate(event.SerializeToString(), max_record_bytes=0).records[0].attributes


def test_a_record_of_many_small_values_is_cut_too(translate: Callable[..., Any]) -> None:
    """By whole attributes, counted as OTLP counts them; what names the event stays."""
    body = full.ProcessKprobe(function_name="f", args=[full.KprobeArgument(int_arg=n) for n in range(5000)])
    record = translate(full.GetEventsResponse(process_kprobe=body).SerializeToString(), max_record_bytes=2_000).records[
        0
    ]
    assert record.message.dropped_attributes_count == 1
    assert record.message.ByteSize() <= 2_000
    assert record.attributes["tetragon.event.type"] == "tetragon.process.kprobe"
    assert record.attributes["log.record.uid"]


def test_cutting_does_not_change_the_id(translate: Callable[..., Any]) -> None:
    """The limit is the user's, the event is the agent's."""
    event = exec_event(exec_id="x", cwd="/" + "d" * 20_000)
    ids = {
        translate(event.SerializeToString(), max_record_bytes=limit).records[0].attributes["log.record.uid"]
        for limit in (0, 1_000, 10_000)
    }
    assert len(ids) == 1


def test_options_are_independent(translate: Callable[..., Any]) -> None:
    """The defaults show nothing that was not asked for."""
    assert Options().environment == Options().pod_labels == Options().node_labels == ()
    assert translate(exec_event().SerializeToString()).counts == {}
