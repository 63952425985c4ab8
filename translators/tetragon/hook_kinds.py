"""What each kind of hook says of itself: its attributes, and its words in the body."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from translators import attributes as key
from translators import wire
from translators.tetragon.body import function_body
from translators.tetragon.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from translators.pb import tetragon_lazy_pb2 as lazy
    from translators.tetragon.hook_arguments import Argument
    from translators.tetragon.redaction import Redaction

Said = tuple[list[bytes], str, str]
"""(encoded attributes, first word of the body or "" for the kind's own, rest of the body)."""

_FUNCTION = wire.Key(key.CODE_FUNCTION_NAME)
_SUBSYSTEM = wire.Key("tetragon.tracepoint.subsystem")
_TRACEPOINT = wire.Key("tetragon.tracepoint.event")
_UPROBE_PATH = wire.Key("tetragon.uprobe.path")
_UPROBE_SYMBOL = wire.Key("tetragon.uprobe.symbol")
_UPROBE_OFFSET = wire.Key("tetragon.uprobe.offset")
_UPROBE_REF_CTR = wire.Key("tetragon.uprobe.ref_ctr_offset")
_USDT = {name: wire.Key("tetragon.usdt." + name) for name in ("path", "provider", "name", "flags")}
_LSM_HOOK = wire.Key("tetragon.lsm.hook")
_IMA_HASH = wire.Key("tetragon.lsm.ima_hash")


def _words(*parts: str) -> str:
    return " ".join(printable(part) for part in parts if part)


def _kprobe(message: lazy.ProcessKprobe, arguments: Sequence[Argument], _: Redaction) -> Said:
    name = message.function_name
    word, rest = function_body(name, arguments)
    return [_FUNCTION.text(name)] if name else [], word, rest


def _tracepoint(message: lazy.ProcessTracepoint, _: Sequence[Argument], __: Redaction) -> Said:
    parts = [name.text(value) for name, value in ((_SUBSYSTEM, message.subsys), (_TRACEPOINT, message.event)) if value]
    return parts, "", _words(message.subsys, message.event)


def _uprobe(message: lazy.ProcessUprobe, _: Sequence[Argument], redaction: Redaction) -> Said:
    parts = []
    path = redaction.text(message.path)
    if path:
        parts.append(_UPROBE_PATH.text(path))
    if message.symbol:
        parts += [_UPROBE_SYMBOL.text(message.symbol), _FUNCTION.text(message.symbol)]
    if message.offset:
        parts.append(_UPROBE_OFFSET.integer(message.offset))
    if message.ref_ctr_offset:
        parts.append(_UPROBE_REF_CTR.integer(message.ref_ctr_offset))
    where = message.symbol or (f"{message.offset:#x}" if message.offset else "")
    return parts, "", _words(path, where)


def _usdt(message: lazy.ProcessUsdt, _: Sequence[Argument], redaction: Redaction) -> Said:
    path = redaction.text(message.path)
    values = {"path": path, "provider": message.provider, "name": message.name, "flags": message.flags}
    parts = [_USDT[name].text(value) for name, value in values.items() if value]
    return parts, "", _words(path, message.provider, message.name)


def _lsm(message: lazy.ProcessLsm, arguments: Sequence[Argument], _: Redaction) -> Said:
    parts = [
        name.text(value) for name, value in ((_LSM_HOOK, message.function_name), (_IMA_HASH, message.ima_hash)) if value
    ]
    return parts, "", function_body(message.function_name, arguments)[1]


SAY: dict[str, Callable[[Any, Sequence[Argument], Redaction], Said]] = {
    "process_kprobe": _kprobe,
    "process_tracepoint": _tracepoint,
    "process_uprobe": _uprobe,
    "process_usdt": _usdt,
    "process_lsm": _lsm,
}
"""By kind: the message, its arguments and the redaction to what it says."""
