"""The event kinds of Tetragon, and the constant part of each one's log record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from translators import wire
from translators.pb import tetragon_lazy_pb2 as lazy
from translators.pb import tetragon_pb2 as full

if TYPE_CHECKING:
    from google.protobuf.message import Message

EVENT_TYPE = "tetragon.event.type"

DEBUG, INFO, INFO2, INFO3, WARN, ERROR = 5, 9, 10, 11, 13, 17
"""SeverityNumber of opentelemetry-proto."""

SEVERITIES = {
    f"{name}{step}" if step > 1 else name: number + step - 1
    for name, number in (("TRACE", 1), ("DEBUG", 5), ("INFO", 9), ("WARN", 13), ("ERROR", 17), ("FATAL", 21))
    for step in (1, 2, 3, 4)
}
"""Names that a severity map may use: TRACE, TRACE2, ... FATAL4."""


def severity_field(number: int) -> bytes:
    """Encode ``LogRecord.severity_number``; events define no severity text (semantic conventions, events)."""
    return wire.number_field(2, number)


@dataclass(frozen=True)
class Kind:
    """One kind: ``name`` is the field of GetEventsResponse, ``event_set`` what filters call it."""

    name: str
    event_name: str
    word: str
    """First word of the body, as Tetragon's own compact output says it."""
    message: type[Message]
    severity: int = INFO
    parts: int = 2
    """How many of the message's first fields are processes: the process (1), and the parent (2) after it."""
    event_set: str = field(init=False)
    event_type: bytes = field(init=False)
    event_name_field: bytes = field(init=False)
    identity: bytes = field(init=False)

    def __post_init__(self) -> None:
        """Encode what every record of this kind ends with."""
        object.__setattr__(self, "event_set", self.name.upper())
        object.__setattr__(self, "event_type", wire.Key(EVENT_TYPE).text(self.event_name))
        object.__setattr__(self, "event_name_field", wire.field(12, self.event_name.encode()))
        object.__setattr__(self, "identity", self.event_name.encode())


EXEC = Kind("process_exec", "tetragon.process.exec", "process", lazy.ProcessExec)
EXIT = Kind("process_exit", "tetragon.process.exit", "exit", lazy.ProcessExit)
KPROBE = Kind("process_kprobe", "tetragon.process.kprobe", "syscall", lazy.ProcessKprobe)
TRACEPOINT = Kind("process_tracepoint", "tetragon.process.tracepoint", "tracepoint", lazy.ProcessTracepoint)
LOADER = Kind("process_loader", "tetragon.process.loader", "loader", lazy.ProcessLoader, DEBUG, parts=1)
UPROBE = Kind("process_uprobe", "tetragon.process.uprobe", "uprobe", lazy.ProcessUprobe)
USDT = Kind("process_usdt", "tetragon.process.usdt", "usdt", lazy.ProcessUsdt)
LSM = Kind("process_lsm", "tetragon.process.lsm", "LSM", lazy.ProcessLsm)
THROTTLE = Kind("process_throttle", "tetragon.process.throttle", "throttle", lazy.ProcessThrottle, parts=0)
TEST = Kind("test", "tetragon.test", "TEST EVENT", full.Test, parts=0)
RATE_LIMIT = Kind("rate_limit_info", "tetragon.rate_limit", "rate_limit", full.RateLimitInfo, WARN, parts=0)
UNKNOWN = Kind("unknown", "tetragon.unknown", "unknown", full.GetEventsResponse, WARN, parts=0)

KINDS = {
    kind.name: kind for kind in (EXEC, EXIT, KPROBE, TRACEPOINT, LOADER, UPROBE, USDT, LSM, THROTTLE, TEST, RATE_LIMIT)
}
"""Every kind that the schema knows, by its field of GetEventsResponse."""

EVENT_SETS = frozenset(kind.event_set for kind in KINDS.values())
