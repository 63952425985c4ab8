"""What processes have in common that run the same command in the same way: all that is not one process's own.

A process's own are its ids, its time and its place. Everything else repeats from process to process (a shell script runs
``date`` a thousand times) and is read, redacted and encoded once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from google.protobuf.unknown_fields import UnknownFieldSet

from translators.pb import tetragon_lazy_pb2 as lazy
from translators.pb import tetragon_pb2 as full
from translators.tetragon.arguments import split
from translators.tetragon.cache import Cache
from translators.tetragon.credentials import encode_rare, privileges_changed
from translators.tetragon.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from translators.tetragon.options import Options
    from translators.tetragon.redaction import Redaction
    from translators.tetragon.roles import Role

_UNSET_AUID = 0xFFFFFFFF
_KERNEL = "<kernel>"
_PROCFS = "procFS"
_CLONE = "clone"

_SHAPES = 8_192
_BYTES = 16 * 1024 * 1024
_SHARE = 12
"""A shape and its encodings take about this many times the bytes that it was read from."""


class Segments(NamedTuple):
    """Attributes in one part, to be joined with a process's own between them."""

    command: bytes
    """Behind the pid: user, directory, executable, command line, flags."""
    login: bytes
    """Behind the time: auid."""
    surroundings: bytes
    """At the end: capabilities, namespaces, user's name, environment."""


class Shape:
    """One Process message without what is one process's own."""

    __slots__ = ("clone", "command_line", "encoded", "message", "path", "privileged", "procfs", "shown_path", "unknown")

    def __init__(self, message: lazy.Process, redaction: Redaction) -> None:
        """Read what is needed of every process. Raises DecodeError."""
        self.message = message
        self.encoded: dict[Role, Segments] = {}
        """In each part that it has played."""
        self.path = message.binary
        self.clone = _CLONE in message.flags
        self.procfs = _PROCFS in message.flags
        properties = message.binary_properties
        self.privileged = bool(properties) and privileges_changed(properties)
        self.unknown = len(UnknownFieldSet(message))
        """Fields of newer agents."""
        path = printable(redaction.text(self.path))
        self.shown_path = f" {path}".encode() if path else b""
        """For people, with a space before it."""
        self.command_line = self.shown_path
        """The same with the arguments."""
        if message.arguments:
            self.command_line += b" " + printable(redaction.arguments(message.arguments, self.path)).encode()


class Shapes:
    """Finds shapes by their bytes."""

    def __init__(self, options: Options, redaction: Redaction) -> None:
        """Start with none known."""
        self._options = options
        self._redaction = redaction
        self._known: Cache[bytes, Shape] = Cache(_SHAPES, _BYTES)
        # Processes of a container share these whatever they run.
        self._rare: Cache[tuple[Role, tuple[bytes, bytes, bytes, bytes]], bytes] = Cache(_SHAPES, _BYTES)

    def find(self, message: lazy.Process) -> Shape:
        """Return the shape of a message from which the process's own fields were cleared. Raises DecodeError."""
        data = message.SerializeToString()
        size = _SHARE * len(data)
        shape = self._known.get(data, size)
        if shape is None:
            shape = Shape(message, self._redaction)
            self._known.put(data, shape, size)
        return shape

    def segments(self, shape: Shape, role: Role) -> Segments:
        """Return the attributes in one part. Raises DecodeError."""
        found = shape.encoded.get(role)
        if found is None:
            found = shape.encoded[role] = self._encode(shape.message, role)
        return found

    def _encode(self, message: lazy.Process, role: Role) -> Segments:
        command = []
        if message.HasField("uid"):
            command.append(role.user_id.integer(message.uid.value))
        if message.cwd:
            command.append(role.working_directory.text(self._redaction.text(message.cwd)))
        command += self._command(message.binary, message.arguments, role)
        if message.flags:
            command.append(role.flags.texts(message.flags.split()))
        login = b""
        if message.HasField("auid") and message.auid.value != _UNSET_AUID:
            login = role.auid.integer(message.auid.value)
        return Segments(b"".join(command), login, b"".join(self._surroundings(message, role)))

    def _command(self, path: str, arguments: str, role: Role) -> list[bytes]:
        redaction, parts = self._redaction, []
        shown = redaction.text(path)
        line = redaction.arguments(arguments, path) if arguments else ""
        if path:
            if path != _KERNEL:
                parts.append(role.executable_path.text(shown))
            parts.append(role.executable_name.text(redaction.text(path.rpartition("/")[2] or path)))
        if arguments:
            parts.append(role.command_line.text(f"{shown} {line}" if path else line))
        elif path:
            parts.append(role.command_line.text(shown))
        if self._options.command_args and path:
            # Split only what is redacted: a quote inside a secret would cut it into pieces that no rule knows.
            argv = split(line)
            parts.append(role.command_args.texts(redaction.argv([path, *argv])))
            if '"' in arguments:
                parts.append(role.args_lossy.true)
        return parts

    def _surroundings(self, message: lazy.Process, role: Role) -> list[bytes]:
        parts = []
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

    def _rare_attributes(self, rare: tuple[bytes, bytes, bytes, bytes], role: Role) -> bytes:
        size = _SHARE * sum(map(len, rare))
        attributes = self._rare.get((role, rare), size)
        if attributes is None:
            attributes = encode_rare(rare, role, self._redaction)
            self._rare.put((role, rare), attributes, size)
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
