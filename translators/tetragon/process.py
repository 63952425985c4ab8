"""What is kept of a process: its attributes, encoded once, in each part that it plays in events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from translators import wire
from translators.batch import Exclude
from translators.pb import tetragon_lazy_pb2 as lazy
from translators.tetragon import names
from translators.tetragon.cache import Cache
from translators.tetragon.pods import Pods
from translators.tetragon.roles import ANCESTOR, PARENT, PROCESS
from translators.tetragon.shape import Shapes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from translators import lineage
    from translators.tetragon.options import Options
    from translators.tetragon.place import Place
    from translators.tetragon.pods import Labels
    from translators.tetragon.redaction import Redaction
    from translators.tetragon.roles import Role
    from translators.tetragon.shape import Shape

_EXEC_ID: Final = 0x0A  # tag of field 1
_PARENT_EXEC_ID: Final = b"\x62"  # field 12, which refcnt follows
_REFCNT: Final = 0x68  # tag of field 13, a varint
_CONTINUE: Final = 0x80
_OWN: Final = ("exec_id", "pid", "start_time", "pod", "docker", "parent_exec_id", "refcnt", "tid")
"""What is one process's own; everything else is its shape."""

_PROCESSES = 16_384
_BYTES = 32 * 1024 * 1024
_MIN_PREFIX = 12
"""Fewer digits of a container id are not enough to drop events for."""
_SHARE = 4
"""An entry and its encodings take about this many times the bytes that it was read from."""


class Process:
    """One process, as all events with the same Process message (refcnt and the order of labels aside) describe it.

    Lineage and spans are derived from the plain fields; everything else is only ever joined into records.
    """

    __slots__ = (
        "_varies",
        "ancestor",
        "attributes",
        "completed",
        "context",
        "created",
        "data",
        "excluded",
        "exec_id",
        "family",
        "family_data",
        "identity",
        "is_placed",
        "kin",
        "parent_attributes",
        "parent_exec_id",
        "pid",
        "place",
        "placed",
        "placement",
        "shape",
        "start_ns",
        "tid",
        "who",
        "who_line",
    )

    def __init__(self, message: lazy.Process, data: bytes, place: Place) -> None:
        """Take the plain fields; the owner fills in what needs options."""
        self.data = data
        """The Process message as it first came."""
        self.place = place
        self.placed = bool(place.text)
        self.exec_id = message.exec_id
        self.parent_exec_id = message.parent_exec_id
        self.pid: int | None = message.pid.value if message.HasField("pid") else None
        self.tid: int | None = message.tid.value if message.HasField("tid") else None
        self.start_ns = 0
        self.created = ""
        """The time of its start, as text."""
        if message.HasField("start_time"):
            start = message.start_time
            seconds, nanos = start.seconds, start.nanos
            self.start_ns = names.unix_ns(seconds, nanos)
            self.created = names.instant(seconds, nanos)
        self.excluded = False
        self.completed = False
        """Whether what follows has been encoded; until then it is empty."""
        self.attributes = b""
        """As the process itself: ``process.*``."""
        self.parent_attributes: bytes | None = None
        """As a parent: ``tetragon.parent.*``; None until it is needed."""
        self.ancestor: bytes | None = None
        """As an ancestor, an AnyValue; None until it is needed."""
        self.family = b""
        """Attributes of this process and of the parent whose data is ``family_data``."""
        # Not the parent itself: a program that executes itself for ever would make a chain that is never freed.
        self.family_data: bytes | None = None
        self.identity = self.exec_id.encode()
        """What tells this process's records apart: exec_id, or all its attributes where it has none."""
        self.is_placed = False
        """Whether its place in a trace was looked for."""
        self.kin: lineage.Process | None = None
        """What the rules of lineage know of it; None until they ask."""
        self.placement: lineage.Placement | None = None
        """Where it stands in a trace; None where it has no span."""
        self.context = b""
        """The same as fields of a LogRecord: trace id, span id and flags."""
        self.who = b""
        """Pod, if any, and path of the executable, for people; each with a space before it."""
        self.who_line = b""
        """The same with the whole command line."""
        self.shape: Shape
        self._varies: tuple[int, int, int, int, Labels | None] | None = None

    @property
    def path(self) -> str:
        """Of the executable."""
        return self.shape.path

    @property
    def clone(self) -> bool:
        """Whether a fork came before its exec."""
        return self.shape.clone

    @property
    def procfs(self) -> bool:
        """Whether the agent found it in /proc."""
        return self.shape.procfs

    @property
    def privileged(self) -> bool:
        """Whether its exec raised privileges."""
        return self.shape.privileged

    def vary(self, refcnt: int, labels: tuple[Labels, bytes] | None) -> None:
        """Find in the message what changes while the process lives: the labels' order, and refcnt."""
        data, parent = self.data, self.parent_exec_id.encode()
        field = _PARENT_EXEC_ID + wire.varint(len(parent)) + parent
        at = data.rfind(field)
        if at < 0 or not parent:
            return
        at += len(field)
        size = 1 + len(wire.varint(refcnt)) if refcnt else 0
        if labels is None:
            self._varies = 0, 0, at, at + size, None
        elif (first := data.find(labels[1])) > 0:
            self._varies = first, first + len(labels[1]), at, at + size, labels[0]

    def is_in(self, data: bytes) -> bool:
        """Tell whether another message differs from this process's only in what changes. Raises DecodeError."""
        if self._varies is None:
            return False
        mine, (first, behind, at, stop, labels) = self.data, self._varies
        end = stop + len(data) - len(mine)
        if data[behind:at] != mine[behind:at] or data[end:] != mine[stop:]:
            return False
        if labels is not None and (data[:first] != mine[:first] or not labels.are(data[first:behind])):
            return False
        refcnt = data[at:end]
        if not refcnt:
            return end == at
        # Of one byte, or two.
        return (
            refcnt[0] == _REFCNT
            and (len(refcnt) == 2 or (len(refcnt) == 3 and refcnt[1] >= _CONTINUE))  # noqa: PLR2004 - a varint of at most two bytes behind its tag
            and refcnt[-1] < _CONTINUE
        )


class Processes:
    """Turns Process messages into :class:`Process`, each one once."""

    def __init__(self, options: Options, redaction: Redaction) -> None:
        """Start with nothing known."""
        self._exclude = Exclude()
        self._excluding = False
        self._exclude_prefixes: tuple[str, ...] = ()
        # An alias is the message as it came. refcnt makes several of one process.
        self.aliases: Cache[bytes, Process] = Cache(2 * _PROCESSES, _BYTES)
        self._latest: Cache[bytes, Process] = Cache(_PROCESSES, _BYTES)
        """By exec_id."""
        self._shapes = Shapes(options, redaction)
        self._pods = Pods(options)
        self.unknown_fields = 0
        """Fields of newer agents in processes that were new, since somebody last set this to 0."""
        self.absent = self.complete(self._read(b""))

    def exclude(self, exclude: Exclude) -> None:
        """Say whose events are dropped; verdicts are kept with the processes."""
        if exclude == self._exclude:
            return
        self._exclude = exclude
        self._excluding = any(exclude)
        self._exclude_prefixes = tuple(exclude.container_ids)
        self.aliases.clear()
        self._latest.clear()

    def find(self, data: bytes) -> Process:
        """Return the process that these bytes describe. Raises DecodeError."""
        if not data:
            return self.absent
        process = self.aliases.get(data, len(data))
        if process is None:
            if data[0] == _EXEC_ID:
                process = self._latest.get(data[2 : 2 + data[1]] if len(data) > 1 else b"", _SHARE * len(data))
            if process is None or not process.is_in(data):
                process = self._read(data)
                if process.identity:
                    self._latest.put(process.identity, process, _SHARE * len(data))
            self.aliases.put(data, process, len(data))
        return process

    def _read(self, data: bytes) -> Process:
        message = lazy.Process.FromString(data)
        pod, docker, refcnt = message.pod, message.docker, message.refcnt
        place, labels = self._pods.host, None
        if pod or docker:
            place, known, fields = self._pods.find(pod, docker)
            labels = (known, fields) if fields else None
        process = Process(message, data, place)
        for name in _OWN:
            message.ClearField(name)
        process.shape = self._shapes.find(message)
        process.vary(refcnt, labels)
        self.unknown_fields += process.shape.unknown
        return process

    def family(self, process: Process, parent: Process) -> bytes:
        """Return the attributes of a process and its parent; the parent's place only where it is another one."""
        if process.family_data is parent.data:
            return process.family
        if parent.parent_attributes is None:
            parent.parent_attributes = self._encode(parent, PARENT)
        family = process.attributes + parent.parent_attributes
        if parent.place.encoded != process.place.encoded:
            family += PARENT.resource.any(wire.field(6, parent.place.encoded))
        process.family_data, process.family = parent.data, family
        return family

    def ancestors(self, messages: Sequence[bytes]) -> list[bytes]:
        """Encode ancestors, nearest first, each as an AnyValue. Raises DecodeError."""
        values = []
        for data in messages:
            process = self.find(data)
            if process.ancestor is None:
                attributes = self._encode(process, ANCESTOR)
                if process.place.encoded:
                    attributes += ANCESTOR.resource.any(wire.field(6, process.place.encoded))
                process.ancestor = wire.any_kvlist([attributes])
            values.append(process.ancestor)
        return values

    def complete(self, process: Process) -> Process:
        """Encode a process in its own part; most parents are never needed in it. Raises DecodeError."""
        process.attributes = self._encode(process, PROCESS)
        process.identity = process.identity or process.attributes
        shape = process.shape
        process.who, process.who_line = shape.shown_path, shape.command_line
        if process.placed:
            lead = f" {process.place.text}".encode()
            process.who, process.who_line = lead + process.who, lead + process.who_line
        process.excluded = self._excluding and self.is_excluded(process)
        process.completed = True
        return process

    def is_excluded(self, process: Process) -> bool:
        """Tell whether the events of a process are dropped."""
        if not self._excluding:
            return False
        exclude, place = self._exclude, process.place
        if process.pid is not None and process.pid in exclude.pids:
            return True
        if place.pod_uid and place.pod_uid in exclude.pod_uids:
            return True
        # Without the Kubernetes API, Tetragon only knows the first 31 digits of a container id.
        short = place.container_id
        return len(short) >= _MIN_PREFIX and any(full_id.startswith(short) for full_id in self._exclude_prefixes)

    def _encode(self, process: Process, role: Role) -> bytes:
        """Encode a process's attributes. Raises DecodeError."""
        command, login, surroundings = self._shapes.segments(process.shape, role)
        place = process.place
        return b"".join(
            (
                role.exec_id.text(process.exec_id) if process.exec_id else b"",
                role.pid.integer(process.pid) if process.pid is not None else b"",
                command,
                role.creation_time.text(process.created) if process.created else b"",
                login,
                role.parent_exec_id.text(process.parent_exec_id) if process.parent_exec_id else b"",
                role.thread_id.integer(process.tid) if process.tid is not None else b"",
                role.vpid.integer(place.vpid) if place.vpid is not None else b"",
                role.exec_probe.true if place.exec_probe else b"",
                surroundings,
            )
        )
