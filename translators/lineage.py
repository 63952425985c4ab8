"""Where a process stands in a trace: derived ids, the boundaries between traces, and a bounded memory of ancestry.

A process tree has no natural end: everything descends from pid 1. A process therefore starts a trace of its own when
its parent is unknown, is the kernel or pid 1 or 2, lives in another container, was running before anybody watched, or
is more than :data:`OLD_PARENT_NS` older: daemons such as sshd, cron and CI runners would otherwise make one endless
trace. A boundary with a known parent leaves a span link to it.

Span ids and the link to a parent need no memory: both are hashes of identities that each event carries. The trace id is
a hash of the root's identity, which only ancestry tells: from the event's own ancestors, or from this memory, which may
be seeded. Where both fail, the oldest known process stands for the root and the placement says that it is partial.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

OLD_PARENT_NS = 60_000_000_000
"""A parent this much older than its child is a daemon, not a step of the same piece of work."""

KTHREADD_PID = 2
"""Pids 1 and 2 are the ancestors of everything: a parent up to here is no parent worth a span."""

CAPACITY = 65_536
"""Processes remembered; the least recently placed is forgotten first."""


class Process(NamedTuple):
    """What the rules need to know of a process; two images of one pid are two processes."""

    identity: str
    """Unique over the life of a host: Tetragon's exec_id, or ``boot:start:pid:exec`` of our own programs."""
    parent_identity: str
    """The parent's identity at the time of the exec (the replaced image's, when an exec had no fork); may be empty."""
    pid: int
    started_ns: int
    """Nanoseconds since boot, by which ages are compared; wall times jitter."""
    container: str | None = ""
    """Container id, "" on the host, None where it is not known."""
    preexisting: bool = False
    """Running before anybody watched (found in /proc)."""
    kernel: bool = False
    selected: bool = True
    """Whether this process gets a span at all; an unselected parent is a boundary without a link."""


class Placement(NamedTuple):
    """A process's place: the ids of its span, and how it hangs on its parent."""

    trace_id: bytes
    span_id: bytes
    parent_span_id: bytes
    """Empty at the root of a trace."""
    link: tuple[bytes, bytes] | None
    """(trace id, span id) of the parent beyond a boundary."""
    partial: bool
    """The root is the oldest process known here, not the true one."""


def span_id(identity: str) -> bytes:
    """8 bytes, never all zero (an invalid span id in W3C Trace Context)."""
    return _digest("span", identity, 8)


def trace_id(identity: str) -> bytes:
    """16 bytes for the trace whose root has this identity, never all zero."""
    return _digest("trace", identity, 16)


def _digest(kind: str, identity: str, size: int) -> bytes:
    digest = hashlib.sha256(f"{kind}\0{identity}".encode("utf-8", "surrogatepass")).digest()[:size]
    return digest if any(digest) else _digest(kind, identity + "\0", size)


def starts_trace(process: Process, parent: Process) -> bool:
    """Tell whether there is a boundary between a process and its parent."""
    return (
        parent.kernel
        or parent.pid <= KTHREADD_PID
        or parent.preexisting
        or not parent.selected
        or (None not in (process.container, parent.container) and process.container != parent.container)
        or not 0 <= process.started_ns - parent.started_ns <= OLD_PARENT_NS
    )


class _Known:
    """A remembered process, and its root once that was asked for: ids do not change while a process is remembered."""

    __slots__ = ("partial", "process", "root")

    def __init__(self, process: Process) -> None:
        self.process = process
        self.root = ""
        self.partial = False


class Lineage:
    """Places processes in traces. ``skeleton`` tells what an identity alone says of its process, None if nothing."""

    def __init__(self, skeleton: Callable[[str], Process | None], capacity: int = CAPACITY) -> None:
        """Start with nothing known."""
        self._skeleton = skeleton
        self._capacity = capacity
        self._known: OrderedDict[str, _Known] = OrderedDict()

    def remember(self, process: Process) -> None:
        """Learn a process, from an event's parents and ancestors or from a dump of the agent's cache."""
        known = self._known.get(process.identity)
        if known is not None:
            if not known.process.parent_identity:  # it was only somebody's parent until now
                known.process = process
            self._known.move_to_end(process.identity)
            return
        self._known[process.identity] = _Known(process)
        if len(self._known) > self._capacity:
            self._known.popitem(last=False)

    def place(self, process: Process, ancestors: Iterable[Process] = ()) -> Placement:
        """Place a process; ``ancestors`` are those that its event carries, parent first."""
        for ancestor in ancestors:
            self.remember(ancestor)
        self.remember(process)
        known = self._known[process.identity]
        process = known.process
        root, partial = self._root(known)
        parent = self._parent(process)
        parent_span_id, link = b"", None
        if parent is not None and not starts_trace(process, parent):
            parent_span_id = span_id(parent.identity)
        elif parent is not None and parent.pid > KTHREADD_PID and parent.selected and not parent.kernel:
            link = (trace_id(self._root(self._remembered(parent))[0]), span_id(parent.identity))
        return Placement(trace_id(root), span_id(process.identity), parent_span_id, link, partial)

    def _parent(self, process: Process) -> Process | None:
        known = self._known.get(process.parent_identity)
        return known.process if known else self._skeleton(process.parent_identity)

    def _remembered(self, process: Process) -> _Known:
        return self._known.get(process.identity) or _Known(process)

    def _root(self, known: _Known) -> tuple[str, bool]:
        """Walk up to the root's identity; each process on the way learns it, too."""
        way: dict[str, _Known] = {}
        while not known.root:
            way[known.process.identity] = known
            parent = self._parent(known.process)
            if parent is None or starts_trace(known.process, parent):
                known.root = known.process.identity
                known.partial = parent is None and known.process.pid > KTHREADD_PID
            elif parent.identity not in self._known:
                known.root, known.partial = parent.identity, True
            else:
                known = self._known[parent.identity]
                if known.process.identity in way:  # identities are hostile input: a cycle has no root
                    known.root, known.partial = known.process.identity, True
        for step in way.values():
            step.root, step.partial = known.root, known.partial
        return known.root, known.partial
