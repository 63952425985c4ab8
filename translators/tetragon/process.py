"""What is kept of a process: its attributes, encoded once, in each part that it plays in events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.unknown_fields import UnknownFieldSet

from translators import wire
from translators.batch import Exclude
from translators.pb import tetragon_lazy_pb2 as lazy
from translators.pb import tetragon_pb2 as full
from translators.tetragon import names
from translators.tetragon.arguments import split
from translators.tetragon.cache import Cache
from translators.tetragon.credentials import encode_rare, privileges_changed
from translators.tetragon.place import Place, read_place
from translators.tetragon.roles import ANCESTOR, PARENT, PROCESS
from translators.tetragon.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from translators import lineage
    from translators.tetragon.options import Options
    from translators.tetragon.redaction import Redaction
    from translators.tetragon.roles import Role

_UNSET_AUID = 0xFFFFFFFF
_KERNEL = "<kernel>"
_PROCFS = "procFS"
_CLONE = "clone"

_PROCESSES = 16_384
_FRAGMENTS = 4_096
_BYTES = 32 * 1024 * 1024
_MIN_PREFIX = 12
"""Fewer digits of a container id are not enough to drop events for."""
_SHARE = 4
"""An entry and its encodings take about this many times the bytes that it was read from."""


class Process:
    """One process, as all events with the same Process message (refcnt aside) describe it.

    Lineage and spans are derived from the plain fields; everything else is only ever joined into records.
    """

    __slots__ = (
        "_message",
        "ancestor",
        "attributes",
        "clone",
        "completed",
        "context",
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
        "path",
        "pid",
        "place",
        "placed",
        "placement",
        "privileged",
        "procfs",
        "start_ns",
        "who",
        "who_line",
    )

    def __init__(self, message: lazy.Process, data: bytes, place: Place) -> None:
        """Take the plain fields; the owner fills in what needs options."""
        self.data = data
        """The Process message without refcnt."""
        self._message: lazy.Process | None = message
        self.place = place
        self.placed = bool(place.text)
        self.exec_id = message.exec_id
        self.parent_exec_id = message.parent_exec_id
        self.path = message.binary
        self.pid: int | None = message.pid.value if message.HasField("pid") else None
        self.start_ns = 0
        if message.HasField("start_time"):
            start = message.start_time
            self.start_ns = names.unix_ns(start.seconds, start.nanos)
        flags = message.flags
        self.clone = _CLONE in flags
        self.procfs = _PROCFS in flags
        self.privileged = False
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
        self.identity = b""
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

    def take_message(self) -> lazy.Process:
        """Return the message: the one that was just read, once, and later the same read again."""
        message = self._message
        if message is None:
            return lazy.Process.FromString(self.data)
        self._message = None
        return message


class Processes:
    """Turns Process messages into :class:`Process`, each one once."""

    def __init__(self, options: Options, redaction: Redaction) -> None:
        """Start with nothing known."""
        self._options = options
        self._redaction = redaction
        self._exclude = Exclude()
        self._excluding = False
        self._exclude_prefixes: tuple[str, ...] = ()
        # An alias is the message as it came. refcnt makes several of one process.
        self.aliases: Cache[bytes, Process] = Cache(2 * _PROCESSES, _BYTES)
        self._known: Cache[bytes, Process] = Cache(_PROCESSES, _BYTES)
        self._places: Cache[tuple[bytes, str], Place] = Cache(_FRAGMENTS, _BYTES // 4)
        self._known_flags: Cache[tuple[str, wire.Key], bytes] = Cache(_FRAGMENTS, _BYTES // 32)
        self._rare: Cache[tuple[bytes, tuple[bytes, bytes, bytes, bytes]], bytes] = Cache(_FRAGMENTS, _BYTES // 4)
        self.unknown_fields = 0
        """Fields of newer agents in processes that were new, since somebody last set this to 0."""
        self.absent = self.complete(Process(lazy.Process(), b"", self._place(b"", "")))

    def exclude(self, exclude: Exclude) -> None:
        """Say whose events are dropped; verdicts are kept with the processes."""
        if exclude == self._exclude:
            return
        self._exclude = exclude
        self._excluding = any(exclude)
        self._exclude_prefixes = tuple(exclude.container_ids)
        self.aliases.clear()
        self._known.clear()

    def find(self, data: bytes) -> Process:
        """Return the process that these bytes describe. Raises DecodeError."""
        if not data:
            return self.absent
        process = self.aliases.get(data, len(data))
        if process is None:
            message = lazy.Process.FromString(data)
            message.refcnt = 0
            canonical = message.SerializeToString()
            process = self._known.get(canonical, _SHARE * len(canonical))
            if process is None:
                self.unknown_fields += len(UnknownFieldSet(message))
                process = Process(message, canonical, self._place(message.pod, message.docker))
                self._known.put(canonical, process, _SHARE * len(canonical))
            self.aliases.put(data, process, len(data))
        return process

    def family(self, process: Process, parent: Process) -> bytes:
        """Return the attributes of a process and its parent; the parent's place only where it is another one."""
        if process.family_data is parent.data:
            return process.family
        if parent.parent_attributes is None:
            parent.parent_attributes = self._encode(parent.take_message(), parent.place, PARENT)
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
                attributes = self._encode(process.take_message(), process.place, ANCESTOR)
                if process.place.encoded:
                    attributes += ANCESTOR.resource.any(wire.field(6, process.place.encoded))
                process.ancestor = wire.any_kvlist([attributes])
            values.append(process.ancestor)
        return values

    def complete(self, process: Process) -> Process:
        """Encode a process in its own part; most parents are never needed in it."""
        message = process.take_message()
        process.attributes = self._encode(message, process.place, PROCESS)
        process.identity = message.exec_id.encode() or process.attributes
        path = printable(self._redaction.text(message.binary))
        process.who = f" {path}".encode() if path else b""
        if process.placed:
            process.who = f" {process.place.text}".encode() + process.who
        process.who_line = process.who
        if message.arguments:
            process.who_line += b" " + printable(self._redaction.arguments(message.arguments, message.binary)).encode()
        process.excluded = self.is_excluded(process)
        process.privileged = bool(message.binary_properties) and privileges_changed(message.binary_properties)
        process.completed = True
        return process

    def _place(self, pod: bytes, docker: str) -> Place:
        key = (pod, docker)
        place = self._places.get(key, len(pod))
        if place is None:
            place = read_place(pod, docker, self._options)
            self._places.put(key, place, _SHARE * len(pod))
        return place

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

    def _encode(self, message: lazy.Process, place: Place, role: Role) -> bytes:
        """Encode a process's attributes. Raises DecodeError."""
        parts: list[bytes] = []
        add = parts.append
        if message.exec_id:
            add(role.exec_id.text(message.exec_id))
        if message.HasField("pid"):
            add(role.pid.integer(message.pid.value))
        if message.HasField("uid"):
            add(role.user_id.integer(message.uid.value))
        if message.cwd:
            add(role.working_directory.text(self._redaction.text(message.cwd)))
        parts += self._command(message, role)
        if message.flags:
            add(self._flags(message.flags, role))
        if message.HasField("start_time"):
            start = message.start_time
            add(role.creation_time.text(names.instant(start.seconds, start.nanos)))
        if message.HasField("auid") and message.auid.value != _UNSET_AUID:
            add(role.auid.integer(message.auid.value))
        if message.parent_exec_id:
            add(role.parent_exec_id.text(message.parent_exec_id))
        if message.HasField("tid"):
            add(role.thread_id.integer(message.tid.value))
        parts += self._surroundings(message, place, role)
        return b"".join(parts)

    def _surroundings(self, message: lazy.Process, place: Place, role: Role) -> list[bytes]:
        parts: list[bytes] = []
        if place.vpid is not None:
            parts.append(role.vpid.integer(place.vpid))
        if place.exec_probe:
            parts.append(role.exec_probe.true)
        rare = (message.cap, message.ns, message.process_credentials, message.binary_properties)
        if any(rare):
            parts.append(self._rare_attributes(rare, role))
        if message.user:
            name = full.UserRecord.FromString(message.user).name
            parts += [role.user_name.text(name)] if name else []
        if message.HasField("in_init_tree"):
            parts.append(role.in_init_tree.boolean(message.in_init_tree.value))
        if self._options.environment:
            parts += self._environment(message.environment_variables, role)
        return parts

    def _flags(self, flags: str, role: Role) -> bytes:
        encoded = self._known_flags.get((flags, role.flags), len(flags))
        if encoded is None:
            encoded = role.flags.texts(flags.split())
            self._known_flags.put((flags, role.flags), encoded, _SHARE * len(flags))
        return encoded

    def _command(self, message: lazy.Process, role: Role) -> list[bytes]:
        path, arguments = message.binary, message.arguments
        parts = []
        shown = self._redaction.text(path)
        line = self._redaction.arguments(arguments, path) if arguments else ""
        if path:
            if path != _KERNEL:
                parts.append(role.executable_path.text(shown))
            parts.append(role.executable_name.text(self._redaction.text(path.rpartition("/")[2] or path)))
        if arguments:
            parts.append(role.command_line.text(f"{shown} {line}" if path else line))
        elif path:
            parts.append(role.command_line.text(shown))
        if self._options.command_args and path:
            # Split only what is redacted: a quote inside a secret would cut it into pieces that no rule knows.
            argv = split(line)
            parts.append(role.command_args.texts(self._redaction.argv([path, *argv])))
            if '"' in arguments:
                parts.append(role.args_lossy.true)
        return parts

    def _rare_attributes(self, rare: tuple[bytes, bytes, bytes, bytes], role: Role) -> bytes:
        key = (role.exec_id.name.encode(), rare)
        attributes = self._rare.get(key, sum(map(len, rare)))
        if attributes is None:
            attributes = encode_rare(rare, role, self._redaction)
            self._rare.put(key, attributes, _SHARE * sum(map(len, rare)))
        return attributes

    def _environment(self, variables: Sequence[bytes], role: Role) -> list[bytes]:
        """Encode the allowed variables; one that occurs twice becomes a list, for a key may only occur once."""
        allowed = self._options.environment
        values: dict[str, list[str]] = {}
        for data in variables:
            variable = full.EnvVar.FromString(data)
            if "*" in allowed or variable.Key in allowed:
                name = self._redaction.text(variable.Key)
                values.setdefault(name, []).append(self._redaction.variable(variable.Key, variable.Value))
        parts = []
        for name, found in values.items():
            key = role.environment_variable(name)
            parts.append(key.text(found[0]) if len(found) == 1 else key.texts(found))
        return parts
