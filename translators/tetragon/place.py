"""Where a process runs: what its pod and container contribute to the Resource."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from translators.pb import tetragon_pb2 as full
from translators.resource import (
    Container,
    Kubernetes,
    Observed,
    ResourceOptions,
    allowed,
    build,
    is_full_container_id,
    kubernetes_service,
    workload_key,
)
from translators.tetragon import names
from translators.tetragon.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from translators.tetragon.options import Options
    from translators.wire import AttributeValue

_LINUX = "linux"


class Place(NamedTuple):
    """A pod's container, a bare container or the host, as one process saw it."""

    observed: Observed
    """Without the node, which the event names."""
    encoded: bytes
    """The same as encoded attributes: equal bytes are the same place."""
    text: str
    """``namespace/pod`` for people, "" outside of pods."""
    container_id: str
    """In full, or as many digits as are known; "" on the host."""
    pod_uid: str
    vpid: int | None
    """Process id inside the container."""
    exec_probe: bool


class Node:
    """What an event says about the node that it comes from."""

    __slots__ = ("cluster", "identity", "labels", "lead", "name")

    def __init__(self, name: str, cluster: str, labels: tuple[bytes, ...]) -> None:
        """``labels`` are encoded map entries."""
        self.name = name
        self.cluster = cluster
        self.labels = labels
        self.identity = name.encode()
        self.lead = b" " + printable(name).encode() if name else b""
        """For bodies of events that no pod stands behind."""


def read_place(data: bytes, docker: str, options: Options) -> Place:
    """Read a Pod message; ``docker`` is the process's own short container id. Raises DecodeError."""
    pod = full.Pod.FromString(data)
    container = pod.container
    runtime, separator, container_id = container.id.partition("://")
    if not separator:
        runtime, container_id = "", container.id
    complete = is_full_container_id(container_id)
    labels, annotations = dict(pod.pod_labels), dict(pod.pod_annotations)
    kubernetes = Kubernetes(
        namespace=pod.namespace,
        pod_name=pod.name,
        pod_uid=pod.uid,
        container_name=container.name,
        workload=pod.workload,
        workload_kind=pod.workload_kind,
        pod_labels=allowed(labels, options.pod_labels),
        pod_annotations=allowed(annotations, options.pod_annotations),
    )
    consented = labels if options.service_name_from_labels else {}
    observed = Observed(
        kubernetes=kubernetes,
        container=Container(container_id, runtime, container.image.name, container.image.id),
        service=kubernetes_service(kubernetes, container.image.name, consented, annotations) if data else {},
        own=_own_attributes(pod, container_id, docker),
    )
    return Place(
        observed=observed,
        encoded=build(observed, ResourceOptions()),
        text=printable(f"{pod.namespace}/{pod.name}") if data else "",
        container_id=container_id if complete else docker or container_id,
        pod_uid=pod.uid,
        vpid=container.pid.value if container.HasField("pid") else None,
        exec_probe=container.maybe_exec_probe,
    )


def _own_attributes(pod: full.Pod, container_id: str, docker: str) -> dict[str, AttributeValue]:
    """What no convention names. A prefix of a container id is not that container's id, so it has a key of its own."""
    container = pod.container
    own: dict[str, AttributeValue] = {}
    if container_id and not is_full_container_id(container_id):
        own["tetragon.container.id"] = container_id
    if docker and not (is_full_container_id(container_id) and container_id.startswith(docker)):
        own["tetragon.container.id_prefix"] = docker
    if container.HasField("start_time"):
        own["tetragon.container.start_time"] = names.instant(container.start_time.seconds, container.start_time.nanos)
    if container.HasField("security_context"):
        own["tetragon.container.privileged"] = container.security_context.privileged
    if not workload_key(pod.workload_kind):
        if pod.workload:
            own["tetragon.workload.name"] = pod.workload
        if pod.workload_kind:
            own["tetragon.workload.kind"] = pod.workload_kind
    return own


def resource(place: Place, node: Node, options: Options) -> bytes:
    """Encode the Resource of a place on a node. Raises DecodeError for a malformed label."""
    entries = (full.GetEventsResponse.NodeLabelsEntry.FromString(entry) for entry in node.labels)
    labels = {entry.key: entry.value for entry in entries}
    in_cluster = bool(labels or place.text)
    observed = place.observed
    kubernetes = observed.kubernetes._replace(
        node_name=node.name if in_cluster else "",
        cluster_name=node.cluster,
        node_labels=allowed(labels, options.node_labels),
    )
    own: Mapping[str, AttributeValue] = observed.own
    if options.resource.host_name and node.name not in ("", options.resource.host_name) and not in_cluster:
        own = {**own, "tetragon.node_name": node.name}
    observed = observed._replace(host_name=node.name, os_type=_LINUX, kubernetes=kubernetes, own=own)
    return build(observed, options.resource)
