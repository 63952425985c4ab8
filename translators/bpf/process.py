"""The attributes that records of all programs share, and how texts from processes are written."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from translators import attributes as key
from translators import wire
from translators.bpf.place import place_of

if TYPE_CHECKING:
    from translators.bpf.records import Cgroup, Identity
    from translators.redact import Redactor

INFO, INFO2, WARN = 9, 10, 13
"""SeverityNumber of opentelemetry-proto."""

PID = wire.Key(key.PROCESS_PID)
PARENT_PID = wire.Key(key.PROCESS_PARENT_PID)
USER_ID = wire.Key(key.PROCESS_USER_ID)
REAL_USER_ID = wire.Key(key.PROCESS_REAL_USER_ID)
CREATION_TIME = wire.Key(key.PROCESS_CREATION_TIME)
EXEC_ID = wire.Key("otelbee.process.exec_id")
PARENT_EXEC_ID = wire.Key("otelbee.process.parent_exec_id")
CGROUP_NAME = wire.Key("otelbee.process.cgroup.name")
CGROUP_ABOVE = wire.Key("otelbee.process.cgroup.parent_name")
PARENT_CONTAINER_ID = wire.Key("otelbee.parent.container.id")
PARENT_CGROUP_NAME = wire.Key("otelbee.parent.cgroup.name")
PARENT_CGROUP_ABOVE = wire.Key("otelbee.parent.cgroup.parent_name")
EVENT_TYPE = wire.Key(key.OTELBEE_EVENT_TYPE)

_SECOND_NS = 1_000_000_000
_UINT64_MAX = (1 << 64) - 1


class Context(NamedTuple):
    """What a record needs beside itself."""

    boot_id: str
    clock_offset_ns: int
    redactor: Redactor | None

    def wall_ns(self, monotonic_ns: int) -> int:
        """Turn a kernel time into Unix nanoseconds, clamped to what OTLP can say."""
        return min(max(monotonic_ns + self.clock_offset_ns, 0), _UINT64_MAX)

    def instant(self, monotonic_ns: int) -> str:
        """Write a kernel time in RFC 3339, UTC."""
        seconds, nanos = divmod(self.wall_ns(monotonic_ns), _SECOND_NS)
        try:
            second = datetime.fromtimestamp(seconds, UTC).isoformat()[:19]
        except (ValueError, OverflowError, OSError):  # beyond the year 9999, which only a damaged record claims
            second = str(seconds)
        return f"{second}.{nanos:09d}Z"

    def text(self, raw: bytes) -> str:
        """Decode and redact a string that a process chose."""
        value = decoded(raw)
        return value if self.redactor is None or not value else self.redactor.text(value)


def decoded(raw: bytes) -> str:
    r"""Decode text of the kernel's, which need not be UTF-8 as OTLP's is: a byte that is not becomes ``\xff``."""
    return raw.decode("utf-8", "backslashreplace")


def shown(value: str) -> str:
    """Write an argument for people: quoted where it is empty, has a space, or would move a terminal's cursor."""
    return value if value and value.isprintable() and not {" ", '"', "'"} & set(value) else json.dumps(value)


def whose(pid: int, parent_pid: int | None, uid: int, euid: int | None) -> list[bytes]:
    """Encode the pids and the users; the kernel tells the real user always, the effective one where BTF does."""
    parts = [PID.integer(pid)]
    if parent_pid is not None:
        parts.append(PARENT_PID.integer(parent_pid))
    if euid is not None:
        parts.append(USER_ID.integer(euid))
    parts.append(REAL_USER_ID.integer(uid))
    return parts


def exec_id(identity: Identity | None, pid: int, context: Context, as_key: wire.Key = EXEC_ID) -> list[bytes]:
    """Encode an identity, where it is known."""
    return [] if identity is None else [as_key.text(identity.text(context.boot_id, pid))]


def cgroup_names(cgroup: Cgroup) -> list[bytes]:
    """Encode the names of the process's cgroup and the one above."""
    parts = [CGROUP_NAME.text(decoded(cgroup.name))] if cgroup.name else []
    return [*parts, CGROUP_ABOVE.text(decoded(cgroup.above))] if cgroup.above else parts


def parent_cgroup_names(parent: Cgroup, own: Cgroup) -> list[bytes]:
    """Encode where the parent is, as far as it is elsewhere."""
    if parent == own:
        return []
    container_id = place_of(parent).container_id
    parts = [PARENT_CONTAINER_ID.text(container_id)] if container_id else []
    if parent.name:
        parts.append(PARENT_CGROUP_NAME.text(decoded(parent.name)))
    if parent.above:
        parts.append(PARENT_CGROUP_ABOVE.text(decoded(parent.above)))
    return parts


def log_record(event_name: str, time_ns: int, now_ns: int, *, severity: int, body: str, said: bytes) -> bytes:
    """Encode one ``log_records`` field of ScopeLogs; ``said`` are its encoded attributes, and its span's ids."""
    return wire.field(
        2,
        b"".join(
            (
                wire.fixed64_field(1, time_ns),
                wire.number_field(2, severity),
                wire.field(5, wire.any_string(body)),
                said,
                EVENT_TYPE.text(event_name),
                wire.fixed64_field(11, now_ns),
                wire.field(12, event_name.encode()),
            )
        ),
    )
