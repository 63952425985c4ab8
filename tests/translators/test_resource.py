"""Every Resource is built by one function from typed input."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from translators.resource import (
    Container,
    Kubernetes,
    Observed,
    ResourceOptions,
    allowed,
    build,
    kubernetes_service,
    split_image,
    workload_key,
)


def attributes(observed: Observed, options: ResourceOptions | None = None) -> dict[str, Any]:
    """The attributes of a built Resource."""
    message = Resource.FromString(build(observed, options or ResourceOptions()))
    found = {}
    for each in message.attributes:
        kind = each.value.WhichOneof("value")
        values = [item.string_value for item in each.value.array_value.values]
        found[each.key] = values if kind == "array_value" else getattr(each.value, kind)
    return found


def test_nothing_known_is_nothing_said() -> None:
    """Empty values are no values."""
    assert attributes(Observed()) == {}


def test_a_container_id_is_whole_or_not_there() -> None:
    """A prefix may be somebody else's."""
    assert attributes(Observed(container=Container(id="a" * 64))) == {"container.id": "a" * 64}
    for other in ("a" * 63, "A" * 64, "g" * 64, "a" * 12):
        assert attributes(Observed(container=Container(id=other))) == {}


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("redis", ("redis", "")),
        ("redis:7", ("redis", "7")),
        ("reg:5000/a/redis", ("reg:5000/a/redis", "")),
        ("reg:5000/a/redis:7", ("reg:5000/a/redis", "7")),
        ("redis:7@sha256:abc", ("redis", "7")),
        ("", ("", "")),
    ],
)
def test_image_references(reference: str, parts: tuple[str, str]) -> None:
    """A port is no tag and a digest is neither."""
    assert split_image(reference) == parts


def test_an_image_id_that_is_no_digest_reference() -> None:
    """It is the runtime's own id."""
    assert attributes(Observed(container=Container(image_id="sha256:abc"))) == {"container.image.id": "sha256:abc"}


def test_workloads() -> None:
    """Kinds that have a convention."""
    assert workload_key("StatefulSet") == "k8s.statefulset.name"
    assert workload_key("Rollout") == ""


def test_services_are_named_in_the_order_of_the_convention() -> None:
    """Annotation, label with consent, workload, pod, container."""
    place = Kubernetes(namespace="ns", pod_name="pod", container_name="c", workload="w", workload_kind="Deployment")
    labels = {"app.kubernetes.io/name": "name", "app.kubernetes.io/version": "2"}
    annotations = {"resource.opentelemetry.io/service.name": "annotated"}
    assert kubernetes_service(place, "img:1", labels, annotations)["service.name"] == "annotated"
    assert kubernetes_service(place, "img:1", labels, {}) == {
        "service.name": "name",
        "service.namespace": "ns",
        "service.version": "2",
        "service.instance.id": "ns.pod.c",
    }
    assert kubernetes_service(place, "img:1", {}, {})["service.name"] == "w"
    assert kubernetes_service(place._replace(workload=""), "img", {}, {})["service.name"] == "pod"


def test_allow_lists() -> None:
    """Names, or all."""
    values = {"b": "2", "a": "1"}
    assert list(allowed(values, ("*",))) == ["a", "b"]
    assert allowed(values, ("b", "c")) == {"b": "2"}
    assert allowed(values, ()) == {}


def test_what_the_user_says_fills_in() -> None:
    """Typed, and never over what was observed; a host name is the exception, for only the user knows it better."""
    options = ResourceOptions(attributes={"host.name": "x", "n": 1, "f": 0.5, "t": True}, host_name="h")
    assert attributes(Observed(host_name="seen"), options) == {"host.name": "h", "n": 1, "f": 0.5, "t": True}
