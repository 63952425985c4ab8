"""Builds every Resource, so that one container has one identity whichever tool saw it.

A key is only set where the source knows its value: ``container.id`` in full or not at all, ``host.name`` where the
observed host is known, ``k8s.pod.uid`` where it has a UUID's shape. Service attributes follow the order of
opentelemetry.io/docs/specs/semconv/non-normative/k8s-attributes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from translators import attributes as key
from translators import wire

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

EMPTY: Mapping[str, str] = MappingProxyType({})

_FULL_CONTAINER_ID = re.compile(r"[0-9a-f]{64}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_WORKLOADS = ("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "CronJob", "Job", "ReplicationController")
_ANNOTATION = "resource.opentelemetry.io/"
_LABEL = "app.kubernetes.io/"


@dataclass(frozen=True)
class ResourceOptions:
    """What the user says about resources; ``attributes`` fill in, they never replace what was observed."""

    attributes: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    host_name: str = ""
    """``host.name`` of whatever is observed here, where the sources' own name for the host is not wanted."""


class Container(NamedTuple):
    """A container, as far as it is known; empty values are left out."""

    id: str = ""
    """Only in full (64 hexadecimal digits) does it become ``container.id``: see :func:`is_full_container_id`."""
    runtime: str = ""
    image: str = ""
    """A reference such as ``docker.io/library/redis:7``."""
    image_id: str = ""
    """A digest reference such as ``docker.io/library/redis@sha256:...``, or the runtime's own id."""


class Kubernetes(NamedTuple):
    """Where in a cluster; empty values are left out. Labels and annotations are those to be shown."""

    node_name: str = ""
    cluster_name: str = ""
    namespace: str = ""
    pod_name: str = ""
    pod_uid: str = ""
    container_name: str = ""
    workload: str = ""
    workload_kind: str = ""
    node_labels: Mapping[str, str] = EMPTY
    pod_labels: Mapping[str, str] = EMPTY
    pod_annotations: Mapping[str, str] = EMPTY


class Observed(NamedTuple):
    """What a record is about. ``own`` is what the tool knows beyond any convention, under the tool's prefix."""

    host_name: str = ""
    os_type: str = ""
    kubernetes: Kubernetes = Kubernetes()
    container: Container = Container()
    service: Mapping[str, str] = EMPTY
    own: Mapping[str, wire.AttributeValue] = EMPTY


def is_full_container_id(text: str) -> bool:
    """Tell whether ``text`` is a whole container id and not a prefix of one."""
    return _FULL_CONTAINER_ID.fullmatch(text) is not None


def is_uuid(text: str) -> bool:
    """Tell whether ``text`` has the shape of a UUID."""
    return _UUID.fullmatch(text) is not None


def workload_key(kind: str) -> str:
    """Return the attribute key for a workload of this kind, ``k8s.deployment.name``; "" where there is none."""
    return f"k8s.{kind.lower()}.name" if kind in _WORKLOADS else ""


def split_image(reference: str) -> tuple[str, str]:
    """Split an image reference into name and tag; a digest is neither, and a colon before a slash is a port."""
    name = reference.partition("@")[0]
    slash = name.rfind("/")
    colon = name.rfind(":")
    return (name[:colon], name[colon + 1 :]) if colon > slash else (name, "")


def kubernetes_service(
    place: Kubernetes, image: str, labels: Mapping[str, str], annotations: Mapping[str, str]
) -> dict[str, str]:
    """Derive the ``service.*`` attributes of a pod.

    ``labels`` are those that may be used (the convention asks for consent: pass none without it); ``annotations`` are
    all of the pod's.
    """
    instance = ".".join(part for part in (place.namespace, place.pod_name, place.container_name) if part)
    choices = {
        key.SERVICE_NAME: (
            labels.get(_LABEL + "instance"),
            labels.get(_LABEL + "name"),
            place.workload,
            place.pod_name,
            place.container_name,
        ),
        key.SERVICE_NAMESPACE: (place.namespace,),
        key.SERVICE_VERSION: (labels.get(_LABEL + "version"), split_image(image)[1]),
        key.SERVICE_INSTANCE_ID: (instance,),
    }
    service = {}
    for name, values in choices.items():
        value = next(filter(None, (annotations.get(_ANNOTATION + name), *values)), "")
        if value:
            service[name] = value
    return service


def allowed(values: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    """Keep the entries whose key is in the allow-list ``names`` (``*``: all), sorted by key."""
    if not names or not values:
        return {}
    return {name: values[name] for name in sorted(values) if "*" in names or name in names}


def build(observed: Observed, options: ResourceOptions) -> bytes:
    """Encode a ``Resource``."""
    values = {name: value for name, value in _conventions(observed, options) if value}
    whole = {**values, **_labels(observed.kubernetes), **observed.own}
    for name, value in options.attributes.items():
        whole.setdefault(name, value)
    return wire.attributes(whole, wire.LIST_TAG)


def _conventions(observed: Observed, options: ResourceOptions) -> list[tuple[str, str | tuple[str, ...]]]:
    place, container = observed.kubernetes, observed.container
    image, tag = split_image(container.image)
    digest = "@sha256:" in container.image_id
    return [
        (key.HOST_NAME, options.host_name or observed.host_name),
        (key.OS_TYPE, observed.os_type),
        (key.K8S_CLUSTER_NAME, place.cluster_name),
        (key.K8S_NODE_NAME, place.node_name),
        (key.K8S_NAMESPACE_NAME, place.namespace),
        (key.K8S_POD_NAME, place.pod_name),
        (key.K8S_POD_UID, place.pod_uid if is_uuid(place.pod_uid) else ""),
        (key.K8S_CONTAINER_NAME, place.container_name),
        (workload_key(place.workload_kind), place.workload if workload_key(place.workload_kind) else ""),
        (key.CONTAINER_ID, container.id if is_full_container_id(container.id) else ""),
        (key.CONTAINER_RUNTIME_NAME, container.runtime),
        (key.CONTAINER_IMAGE_NAME, image),
        (key.CONTAINER_IMAGE_TAGS, (tag,) if tag else ()),
        (key.CONTAINER_IMAGE_REPO_DIGESTS, (container.image_id,) if digest else ()),
        (key.CONTAINER_IMAGE_ID, "" if digest else container.image_id),
        *observed.service.items(),
    ]


def _labels(place: Kubernetes) -> dict[str, str]:
    """Labels and annotations; one without a value is still set."""
    return {
        prefix + name: value
        for prefix, values in (
            (key.K8S_NODE_LABEL, place.node_labels),
            (key.K8S_POD_LABEL, place.pod_labels),
            (key.K8S_POD_ANNOTATION, place.pod_annotations),
        )
        for name, value in values.items()
    }
