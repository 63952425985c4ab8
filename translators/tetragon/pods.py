"""Finds the place of a process by its Pod message: many messages are of one pod.

A Pod message holds the process's id inside of its container, and labels, which Go writes in another order each time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from translators import wire
from translators.pb import tetragon_lazy_pb2 as lazy
from translators.tetragon.cache import Cache
from translators.tetragon.place import Place, read_place

if TYPE_CHECKING:
    from translators.tetragon.options import Options

_PODS = 4_096
_BYTES = 8 * 1024 * 1024
_SHARE = 4
_ORDERS = 64
"""How many orders of a pod's labels are kept; Go has eight for up to eight labels."""
_LABEL = b"\x2a"  # field 5 of Pod


class Labels:
    """The labels of one pod, in the orders in which they came."""

    __slots__ = ("_orders", "_sorted")

    def __init__(self, entries: list[bytes]) -> None:
        """Take encoded map entries."""
        self._sorted = sorted(entries)
        self._orders: set[bytes] = set()

    def are(self, fields: bytes) -> bool:
        """Tell whether these are the same labels, as fields of a Pod. Raises DecodeError."""
        if fields in self._orders:
            return True
        found = lazy.Pod.FromString(fields)
        same = sorted(found.pod_labels) == self._sorted and found.ByteSize() == len(fields)
        if same and len(self._orders) < _ORDERS:
            self._orders.add(fields)
        return same


class Pods:
    """Finds places by what is not one process's own."""

    def __init__(self, options: Options) -> None:
        """Start with none known."""
        self._options = options
        self._known: Cache[tuple[bytes, str, tuple[bytes, ...], tuple[bytes, ...]], tuple[Place, Labels]] = Cache(
            _PODS, _BYTES
        )
        self.host = read_place(b"", "", options)

    def find(self, data: bytes, docker: str) -> tuple[Place, Labels, bytes]:
        """Return place and labels, and these as they stand in ``data``. Raises DecodeError.

        ``docker`` is the process's own short container id.
        """
        pod = lazy.Pod.FromString(data)
        container, entries = pod.container, list(pod.pod_labels)
        vpid = container.pid.value if container.HasField("pid") else None
        exec_probe = container.maybe_exec_probe
        if pod.HasField("container"):
            container.ClearField("pid")
            container.ClearField("maybe_exec_probe")
        key_of_labels, annotations = tuple(sorted(entries)), tuple(sorted(pod.pod_annotations))
        pod.ClearField("pod_labels")
        pod.ClearField("pod_annotations")
        key = (pod.SerializeToString(), docker, key_of_labels, annotations)
        size = _SHARE * len(data)
        found = self._known.get(key, size)
        if found is None:
            found = read_place(data, docker, self._options), Labels(entries)
            self._known.put(key, found, size)
        place, labels = found
        if place.vpid != vpid or place.exec_probe != exec_probe:
            place = place._replace(vpid=vpid, exec_probe=exec_probe)
        return place, labels, b"".join([_LABEL + wire.varint(len(entry)) + entry for entry in entries])
