"""The chart on a real node: installed, upgraded, rolled back, uninstalled, and what a Collector then has."""

from __future__ import annotations

import json
import secrets
import subprocess
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from deploy.images import ROOT
from deploy.kubernetes import NODE
from deploy.observed import Collector, Tetragon, namespace, tetragon_event, workload
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from peers.processes import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from deploy.images import Images
    from deploy.kubernetes import Node

pytestmark = pytest.mark.timeout(900)

_OPEN = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
CHANGE_S = 120.0
EVENTS = 6000
POD_KEYS = ("k8s.pod.", "k8s.namespace.", "k8s.container.", "k8s.deployment.", "container.")


@pytest.fixture(scope="module")
def collector(node: Node, product: Images) -> Iterator[Collector]:
    """The Collector of the examples, running on the node."""
    running = Collector(node, product, node.folder / "collector")
    running.start()
    yield running
    running.stop()


class Release:
    """A release of the chart in a namespace of its own."""

    def __init__(self, node: Node, chart: Path, name: str, *options: str) -> None:
        """Name it; nothing is installed yet. The images are those that the chart names by itself."""
        self.node, self.name, self._chart = node, name, chart
        self._values = ["--set", "image.pullPolicy=Never,collector.tls.insecure=true"]
        self._values += [part for option in options for part in ("--set", option)]

    def run(self, command: str, *options: str) -> None:
        """``helm install`` or ``helm upgrade``."""
        values = [*self._values, *(part for option in options for part in ("--set", option))]
        self.node.helm(command, self.name, self._chart, f"--namespace={self.name}", "--create-namespace", *values)

    def rollback(self, revision: int) -> None:
        """``helm rollback``."""
        self.node.helm("rollback", self.name, str(revision), f"--namespace={self.name}")

    def uninstall(self) -> None:
        """``helm uninstall``, until every object is gone."""
        self.node.helm("uninstall", self.name, f"--namespace={self.name}")
        until(lambda: not self.left(), "nothing of the release is left", CHANGE_S)

    def left(self) -> list[str]:
        """What there still is of it, but its namespace and what Kubernetes keeps in every one."""
        kinds = ("api/v1", "pods"), ("api/v1", "services"), ("api/v1", "configmaps"), ("api/v1", "serviceaccounts")
        kinds += ("apis/apps/v1", "daemonsets"), ("apis/apps/v1", "deployments"), ("apis/apps/v1", "replicasets")
        kinds += ("api/v1", "secrets"), ("apis/discovery.k8s.io/v1", "endpointslices")
        kinds += ("apis/networking.k8s.io/v1", "networkpolicies"), ("apis/policy/v1", "poddisruptionbudgets")
        found = [
            f"{kind}/{each['metadata']['name']}"
            for group, kind in kinds
            for each in self.node.api.items(f"/{group}/namespaces/{self.name}/{kind}")
        ]
        return [each for each in found if each not in {"configmaps/kube-root-ca.crt", "serviceaccounts/default"}]

    def pod(self) -> Any:
        """Its one pod, ready."""
        return self.node.api.ready_pod(self.name)

    def replaced(self, uid: str) -> Any:
        """Wait until another pod than the one of ``uid`` answers, ready or not; the pod."""

        def another() -> Any:
            pods = self.node.api.items(f"/api/v1/namespaces/{self.name}/pods")
            return pods[0] if len(pods) == 1 and pods[0]["metadata"]["uid"] != uid and health(pods[0]) else None

        try:
            return until(another, "the pod is another one", CHANGE_S)
        except TimeoutError as error:
            error.add_note(self.node.api.story(self.name))
            raise


def health(pod: Any) -> dict[str, Any]:
    """The body of a pod's /ready, whatever its status; empty while it does not answer."""
    try:
        with _OPEN(f"http://{pod['status']['podIP']}:8877/ready", timeout=5) as answer:
            body: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            body = json.load(error)
    except (OSError, KeyError):
        return {}
    return body


def up(pod: Any) -> set[str]:
    """The sources of a pod that have their peer."""
    return {name for name, state in health(pod).get("sources", {}).items() if state["up"]}


def marked(record: dict[str, Any], marker: str) -> bool:
    """Whether a record is of a process that was started with this argument."""
    return marker in record.get("process.command_args", ()) or marker in record.get("process.command_line", "").split()


def push(pod: Any) -> str:
    """Push a log record to a pod over OTLP/HTTP; the command line that it has."""
    marker = secrets.token_hex(8)
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add(event_name="pushed")
    record.attributes.add(key="process.command_line").value.string_value = marker
    url = f"http://{pod['status']['podIP']}:4320/v1/logs"
    headers = {"Content-Type": "application/x-protobuf"}
    with _OPEN(urllib.request.Request(url, request.SerializeToString(), headers), timeout=10) as answer:
        assert answer.status == 200
    return marker


@pytest.fixture(scope="module")
def app(node: Node, product: Images) -> Iterator[tuple[Any, str]]:
    """A pod that starts programs, and the argument that it starts them with."""
    marker = secrets.token_hex(8)
    node.api.apply(workload(product, marker))
    yield node.api.ready_pod("default", "app=workload"), marker
    node.api.delete("/apis/apps/v1/namespaces/default/deployments/workload")


def test_node_agent_tells_the_node_from_its_pods(
    node: Node, chart: Path, collector: Collector, app: tuple[Any, str]
) -> None:
    """Behind the Collector a process of the node carries no pod, and one of a pod its whole identity, from each source.

    The Tetragon that is replaced while otelbee runs is read on.
    """
    pod, in_pod = app
    tetragon = Tetragon(node.folder / "tetragon")
    release = Release(
        node,
        chart,
        "agent",
        f"collector.endpoint={collector.endpoint}",
        f"tetragon.source=socket,tetragon.socketDirectory={tetragon.folder},queue.type=hostPath",
        f"queue.hostPath={node.folder / 'queue'},clusterName=here",
    )
    expected = {
        "k8s.namespace.name": "default",
        "k8s.pod.name": pod["metadata"]["name"],
        "k8s.pod.uid": pod["metadata"]["uid"],
        "k8s.deployment.name": "workload",
        "k8s.node.name": NODE,
        "k8s.container.name": "app",
        "container.id": pod["status"]["containerStatuses"][0]["containerID"].rpartition("/")[2],
        "k8s.cluster.name": "here",
    }
    try:
        tetragon.start(tetragon_event(1, pod))
        release.run("install")
        agent = release.pod()
        # A pod is ready when it can take and send, whether or not what it observes is there yet.
        until(lambda: up(agent) == {"bpf", "tetragon"}, "both sources are up")

        on_node = secrets.token_hex(8)
        subprocess.run(["/bin/true", on_node], check=True)
        resource, _ = collector.see(lambda _, record: marked(record, on_node), "an exec of the host")
        assert (resource["host.name"], resource["k8s.node.name"]) == (NODE, NODE)
        assert not [key for key in resource if key.startswith(POD_KEYS)]

        resource, _ = collector.see(lambda _, record: marked(record, in_pod), "an exec in a pod")
        assert {key: resource.get(key) for key in expected} == expected

        resource, _ = collector.see(lambda _, record: marked(record, "event-1"), "an event of Tetragon")
        assert {key: resource.get(key) for key in expected} == expected

        tetragon.stop()
        tetragon.start(tetragon_event(2))
        resource, _ = collector.see(lambda _, record: marked(record, "event-2"), "an event of the agent that came back")
        assert resource["host.name"] == NODE
        assert not [key for key in resource if key.startswith(POD_KEYS)]
        release.uninstall()
    finally:
        tetragon.remove()


def test_upgrade_and_rollback_lose_nothing_of_a_full_queue(node: Node, chart: Path, collector: Collector) -> None:
    """With a queue on the node's disk that is full, every event arrives that Tetragon wrote before, between and after."""
    folder = node.folder / "export"
    folder.mkdir()
    export = folder / "tetragon.log"
    export.write_text("".join(json.dumps(tetragon_event(10_000 + number)) + "\n" for number in range(EVENTS)))
    export.chmod(0o640)  # exportFilePerm of Tetragon's chart; root's, as the agent's file is
    release = Release(
        node,
        chart,
        "file",
        f"collector.endpoint={collector.endpoint},bpf.enabled=false,tetragon.source=file,tetragon.file={export}",
        f"queue.type=hostPath,queue.hostPath={node.folder / 'file-queue'},queue.sizePerSignal=2MiB",
        "shutdownTimeoutSeconds=2",  # with no Collector a stop takes all of it
        "config.sources.tetragon_file.start_at=beginning,config.exporter.otlp_grpc.sending_queue.batch.max_size=64KiB",
        "config.exporter.otlp_grpc.retry_on_failure.initial_interval=1s",
        "config.exporter.otlp_grpc.retry_on_failure.max_interval=2s",
    )

    def full(pod: Any) -> bool:
        state = health(pod)  # served before there are sources
        return bool(state) and bool(state["sources"].get("tetragon_file", {}).get("paused"))

    collector.stop()
    release.run("install")
    first = release.replaced("")
    until(lambda: full(first), "the queue is full", CHANGE_S)
    release.run("upgrade", "clusterName=changed")
    second = release.replaced(first["metadata"]["uid"])
    until(lambda: full(second), "the queue is full after the upgrade", CHANGE_S)
    with export.open("a") as file:
        file.write(json.dumps(tetragon_event(10_000 + EVENTS)) + "\n")
    release.rollback(1)
    third = release.replaced(second["metadata"]["uid"])
    until(lambda: full(third), "the queue is full after the rollback", CHANGE_S)
    collector.start()
    wanted = {f"event-{10_000 + number}" for number in range(EVENTS + 1)}

    def missing() -> set[str]:
        return wanted - {
            word for _, record in collector.records() for word in record.get("process.command_line", "").split()
        }

    until(lambda: not missing(), "every event has arrived", CHANGE_S)
    release.uninstall()


def test_push_deployment_runs_where_pod_security_is_restricted(node: Node, chart: Path, collector: Collector) -> None:
    """Its pods pass ``restricted`` with a queue on a volume, and take what is pushed; the node agent's pods do not pass."""
    volume = node.folder / "volume"
    volume.mkdir()
    volume.chmod(0o777)  # fsGroup does not reach a hostPath; a real volume's folder it does
    node.api.apply(namespace("push", enforce="restricted"))
    node.api.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": "push"},
            "spec": {
                "capacity": {"storage": "2Gi"},
                "accessModes": ["ReadWriteOnce"],
                "hostPath": {"path": str(volume)},
                "claimRef": {"namespace": "push", "name": "push-otelbee-queue"},
            },
        }
    )
    release = Release(
        node,
        chart,
        "push",
        f"collector.endpoint={collector.endpoint},mode=deployment,listeners.otlp.enabled=true,queue.type=pvc",
        "podDisruptionBudget.enabled=true,networkPolicy.enabled=true",
    )
    release.run("install")
    pod = release.pod()
    marker = push(pod)
    resource, _ = collector.see(lambda _, record: marked(record, marker), "what was pushed")
    assert not [key for key in resource if key.startswith((*POD_KEYS, "k8s.", "host.name"))]
    release.uninstall()
    claim = "/api/v1/namespaces/push/persistentvolumeclaims/push-otelbee-queue"
    assert node.api.exists(claim), "what is queued stays when the release goes"
    node.api.delete(claim)
    node.api.delete("/api/v1/persistentvolumes/push")

    agent = Release(node, chart, "push", f"collector.endpoint={collector.endpoint}")
    agent.run("install")
    events = "/api/v1/namespaces/push/events"
    until(
        lambda: any("violates PodSecurity" in each["message"] for each in node.api.items(events)),
        "the node agent's pods are refused",
        CHANGE_S,
    )
    agent.uninstall()


def test_sidecar_delivers_to_the_collector_of_its_pod(node: Node, product: Images) -> None:
    """The manifest of the examples runs where Pod Security is ``restricted``, and its Collector gets what is pushed."""
    node.api.apply(namespace("sidecar", enforce="restricted"))
    for manifest in yaml.safe_load_all((ROOT / "examples" / "kubernetes" / "sidecar.yaml").read_text()):
        manifest["metadata"]["namespace"] = "sidecar"
        if manifest["kind"] == "Deployment":
            for container in manifest["spec"]["template"]["spec"]["containers"]:
                container["image"] = {"otelbee": product.otelbee}.get(container["name"], product.collector)
                container["imagePullPolicy"] = "Never"
        node.api.apply(manifest)
    pod = node.api.ready_pod("sidecar")
    marker = push(pod)

    def log() -> str:
        return node.api.log("sidecar", pod["metadata"]["name"], "otel-collector")

    until(lambda: marker in log(), "the Collector has what was pushed", CHANGE_S)
    node.api.delete("/apis/apps/v1/namespaces/sidecar/deployments/otelbee-sidecar")
