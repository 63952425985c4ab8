"""What the chart's tests put on the node beside otelbee: a Collector, a Tetragon and a workload that it observes."""

from __future__ import annotations

import json
import shutil
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import yaml
from deploy.images import ROOT
from deploy.kubernetes import ADDRESS, NODE
from peers.processes import TetragonPeer, free_port, until

from deploy.compose import values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from deploy.images import Images
    from deploy.kubernetes import Node

MANIFESTS = ROOT / "examples" / "kubernetes" / "collector.yaml"
NAMESPACE = "observability"
SEEN_S = 60.0


class Collector:
    """The Collector of examples/kubernetes, as a pod, which also writes what it has into a folder of the node."""

    def __init__(self, node: Node, images: Images, folder: Path) -> None:
        """Name it; :meth:`start` applies the manifests."""
        self._node, self._image, self._folder = node, images.collector, folder
        self._port, self._health = free_port(), free_port()
        self.endpoint = f"${{env:HOST_IP}}:{self._port}"
        folder.mkdir()
        folder.chmod(0o777)

    def start(self) -> None:
        """Apply the manifests of the examples, with what a node without a registry and a service network needs."""
        self._node.api.apply(namespace(NAMESPACE))
        for manifest in yaml.safe_load_all(MANIFESTS.read_text()):
            if manifest["kind"] == "DaemonSet":
                self._adapt(manifest["spec"]["template"]["spec"])
            if manifest["kind"] == "ConfigMap":
                manifest["data"]["here.yaml"] = json.dumps(self._here())
            self._node.api.apply(manifest)
        self._node.api.ready_pod(NAMESPACE, "app.kubernetes.io/name=otel-collector")

    def stop(self) -> None:
        """Delete it; what it wrote stays."""
        self._node.api.delete(f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets/otel-collector")
        until(lambda: not self._node.api.items(f"/api/v1/namespaces/{NAMESPACE}/pods"), "the Collector is gone")

    def records(self) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Each log record's resource and attributes, the event's name with them as ``event_name``."""
        path = self._folder / "logs.jsonl"
        for line in path.read_text().splitlines(keepends=True) if path.exists() else ():
            if not line.endswith("\n"):
                continue
            for entry in json.loads(line).get("resourceLogs", ()):
                resource = values(entry["resource"].get("attributes", ()))
                for scope in entry["scopeLogs"]:
                    for record in scope["logRecords"]:
                        yield (
                            resource,
                            values(record.get("attributes", ())) | {"event_name": record.get("eventName", "")},
                        )

    def see(
        self, wanted: Callable[[dict[str, Any], dict[str, Any]], bool], what: str
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Wait for a record; its resource and attributes."""

        def found() -> Any:
            return next(((resource, record) for resource, record in self.records() if wanted(resource, record)), None)

        try:
            return until(found, what, SEEN_S)  # type: ignore[no-any-return] - what is true is a record
        except TimeoutError as error:
            for each in sorted({entry["metadata"]["namespace"] for entry in self._node.api.items("/api/v1/pods")}):
                error.add_note(self._node.api.story(each))
            raise

    def _adapt(self, spec: dict[str, Any]) -> None:
        (container,) = spec["containers"]
        container["image"], container["imagePullPolicy"] = self._image, "Never"
        container["args"].append("--config=/etc/otelcol/here.yaml")
        container["env"] += [{"name": name, "value": value} for name, value in self._node.access.items()]
        # The node's own address in place of a hostPort, which would need one more network plugin.
        spec["hostNetwork"] = True
        container.pop("ports")
        container["readinessProbe"] = {"httpGet": {"path": "/", "port": self._health}, "periodSeconds": 1}
        container["volumeMounts"].append({"name": "output", "mountPath": "/output"})
        spec["volumes"].append({"name": "output", "hostPath": {"path": str(self._folder)}})

    def _here(self) -> dict[str, Any]:
        pipelines = yaml.safe_load((ROOT / "helm" / "otelbee" / "files" / "collector.yaml").read_text())["service"][
            "pipelines"
        ]
        return {
            "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": f"{ADDRESS}:{self._port}"}}}},
            "extensions": {"health_check": {"endpoint": f"{ADDRESS}:{self._health}"}},
            "exporters": {"file": {"path": "/output/logs.jsonl", "append": True}},
            "service": {
                "pipelines": {name: {"exporters": ["file"]} for name in pipelines},
                "telemetry": {"metrics": {"level": "none"}},
            },
        }


class Tetragon:
    """The stand-in for the agent on the node, whose socket has the real agent's folder, owner and mode."""

    def __init__(self, folder: Path) -> None:
        """Serve from ``folder``."""
        self.folder = folder
        folder.mkdir()
        self._peer: TetragonPeer | None = None

    def start(self, event: dict[str, Any]) -> None:
        """Start, and send one event to whoever comes; the new socket takes the place of the old one by a rename."""
        staging = self.folder / "starting"
        staging.mkdir(exist_ok=True)
        recording = staging / "recording.jsonl"
        recording.write_text(json.dumps(event) + "\n")
        self._peer = TetragonPeer(staging, recording)
        self._peer.start()
        socket = staging / "tetragon.sock"
        socket.chmod(0o660)
        assert (socket.stat().st_uid, socket.stat().st_gid) == (0, 0)
        socket.rename(self.folder / "tetragon.sock")

    def stop(self) -> None:
        """End it; a dead socket is left behind."""
        if self._peer is not None and self._peer.running:
            self._peer.stop()

    def remove(self) -> None:
        """Stop, and remove the folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def tetragon_event(number: int, pod: dict[str, Any] | None = None) -> dict[str, Any]:
    """An exec as the agent tells of it; in ``pod`` it knows namespace, names and container, as an agent up to 1.5 does."""
    exec_id = b64encode(f"{NODE}:{1_000_000 + number}:{1000 + number}".encode()).decode()
    process: dict[str, Any] = {
        "exec_id": exec_id,
        "pid": 1000 + number,
        "uid": 0,
        "binary": "/usr/bin/seen",
        "arguments": f"event-{number}",
        "flags": "execve clone",
        "start_time": "2026-11-01T10:00:00Z",
    }
    if pod is not None:
        status = pod["status"]["containerStatuses"][0]
        process["pod"] = {
            "namespace": pod["metadata"]["namespace"],
            "name": pod["metadata"]["name"],
            "container": {"id": status["containerID"], "name": status["name"]},
        }
    return {"process_exec": {"process": process}, "node_name": NODE, "time": "2026-11-01T10:00:00Z"}


def workload(images: Images, marker: str) -> dict[str, Any]:
    """A Deployment that starts a program with ``marker`` again and again."""
    loop = f"while /busybox true {marker}; do /busybox sleep 1; done"
    container = {"name": "app", "image": images.pause, "command": ["/busybox", "sh", "-c", loop]}
    labels = {"app": "workload"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "workload", "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [container | {"imagePullPolicy": "Never"}], "terminationGracePeriodSeconds": 0},
            },
        },
    }


def namespace(name: str, **labels: str) -> dict[str, Any]:
    """A namespace; ``labels`` of Pod Security by their last word."""
    marked = {f"pod-security.kubernetes.io/{key}": value for key, value in labels.items()}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": marked}}
