"""Where a process runs: the container and the pod that the names of its cgroup tell."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from translators.resource import Container, Kubernetes, Observed

if TYPE_CHECKING:
    from translators.bpf.records import Cgroup

_CONTAINER = re.compile(
    rb"(?:(?:.*:)?(?P<runtime>docker|cri-containerd|crio|libpod)[-:]|.*:)?(?P<id>[0-9a-f]{64})(?:\.scope)?"
)
"""Docker and cgroupfs drivers: the bare id. systemd drivers: ``cri-containerd-<id>.scope``, ``docker-<id>.scope``,
``crio-<id>.scope``, ``libpod-<id>.scope``. containerd where only the kubelet uses systemd:
``<pod's slice>:cri-containerd:<id>``. The monitors beside containers (``crio-conmon-<id>.scope``) are none."""
_POD = re.compile(rb"(?:.*-)?pod(?P<uid>[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12})(?:\.slice(?::.*)?)?")
_RUNTIMES = {b"docker": "docker", b"cri-containerd": "containerd", b"crio": "cri-o", b"libpod": "podman"}


class Place(NamedTuple):
    """What is known of a process's surroundings; empty on the host."""

    container_id: str
    runtime: str
    pod_uid: str

    def observed(self, host_name: str) -> Observed:
        """Return what this place contributes to the Resource."""
        return Observed(
            host_name=host_name,
            os_type="linux",
            kubernetes=Kubernetes(pod_uid=self.pod_uid),
            container=Container(self.container_id, self.runtime),
        )


@lru_cache(maxsize=4096)
def place_of(cgroup: Cgroup) -> Place:
    """Tell the place from a cgroup's name and the one above it; the inner container where they nest."""
    container_id = runtime = pod_uid = ""
    for name in cgroup:
        if not container_id and (found := _CONTAINER.fullmatch(name)):
            container_id = found["id"].decode()
            runtime = _RUNTIMES.get(found["runtime"], "")
        if not pod_uid and (found := _POD.fullmatch(name)):
            pod_uid = found["uid"].decode().replace("_", "-")
    return Place(container_id, runtime, pod_uid)
