"""Resources of labels: what a pusher says about a process with its profiles, in OpenTelemetry's words."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from translators import attributes as key
from translators import resource
from translators.resource import Container, Kubernetes, Observed, ResourceOptions

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

START_NS: Final = "otelbee.start_ns"
"""The label in which a source says when a profile started, in decimal nanoseconds of Unix time: for a profile that does
not say it itself."""
PROFILE_LABEL: Final = "pprof.label."
"""Prefix of what is about the profile and not about the process: names that begin with ``__``, otelbee's own, and those
of :data:`SAMPLE_LABELS`; also of values that are not what their attribute needs."""
SAMPLE_LABELS: Final = frozenset({"cpu", "thread", "thread_id", "thread_name", "tid"})
"""Names of labels that tell apart what one process does, and never one process from another."""

ATTRIBUTES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "service_name": key.SERVICE_NAME,
        "service": key.SERVICE_NAME,
        "job": key.SERVICE_NAME,
        "service_namespace": key.SERVICE_NAMESPACE,
        "service_version": key.SERVICE_VERSION,
        "version": key.SERVICE_VERSION,
        "service_instance_id": key.SERVICE_INSTANCE_ID,
        "instance": key.SERVICE_INSTANCE_ID,
        "environment": "deployment.environment.name",
        "env": "deployment.environment.name",
        "host": key.HOST_NAME,
        "hostname": key.HOST_NAME,
        "node": key.HOST_NAME,
        "namespace": key.K8S_NAMESPACE_NAME,
        "pod": key.K8S_POD_NAME,
        "pod_uid": key.K8S_POD_UID,
        "container": key.K8S_CONTAINER_NAME,
        "container_id": key.CONTAINER_ID,
    }
)
"""Label to attribute. Where several of a process's labels mean one attribute, the one that is first here is it."""


def split(labels: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Tell labels of a push that are about the process from those about the profile, which are prefixed."""
    about_profile = {name for name in labels if name.startswith(("__", "otelbee.")) or name in SAMPLE_LABELS}
    return (
        {name: value for name, value in labels.items() if name not in about_profile},
        {PROFILE_LABEL + name: labels[name] for name in sorted(about_profile)},
    )


def build(
    labels: Iterable[tuple[str, str]], more: Mapping[str, str], options: ResourceOptions, own: Mapping[str, str]
) -> bytes:
    """Encode the ``Resource`` of a process by its labels.

    Args:
        labels: Names and values. Of two that mean one attribute the other keeps its own name; empty ones are none.
        more: Attributes by label, before :data:`ATTRIBUTES`.
        options: What the user says about resources.
        own: Attributes of otelbee's own.
    """
    given = dict(labels)
    names = {**more, **{name: attribute for name, attribute in ATTRIBUTES.items() if name not in more}}
    values: dict[str, str] = {}
    for name, attribute in names.items():
        if given.get(name) and attribute not in values and attribute not in given:
            values[attribute] = given.pop(name)
    values.update((name, value) for name, value in sorted(given.items()) if value and name not in values)
    for attribute, is_valid in _SHAPES.items():
        if attribute in values and not is_valid(values[attribute]):
            values[PROFILE_LABEL + attribute] = values.pop(attribute)
    observed = Observed(
        host_name=values.pop(key.HOST_NAME, ""),
        kubernetes=Kubernetes(
            namespace=values.pop(key.K8S_NAMESPACE_NAME, ""),
            pod_name=values.pop(key.K8S_POD_NAME, ""),
            pod_uid=values.pop(key.K8S_POD_UID, ""),
            container_name=values.pop(key.K8S_CONTAINER_NAME, ""),
        ),
        container=Container(id=values.pop(key.CONTAINER_ID, "")),
        service={name: values.pop(name) for name in sorted(values) if name.startswith("service.")},
        own={**values, **own},
    )
    return resource.build(observed, options)


_SHAPES: Final = MappingProxyType({key.CONTAINER_ID: resource.is_full_container_id, key.K8S_POD_UID: resource.is_uuid})
"""What tells an id that identifies from a prefix of one, or from something else."""
