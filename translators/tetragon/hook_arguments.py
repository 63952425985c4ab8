"""Hook arguments: every kind of KprobeArgument as an entry of ``tetragon.args``, and what it promotes."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple

from translators import attributes as key
from translators import wire
from translators.pb import tetragon_pb2 as full
from translators.tetragon import names, promotion
from translators.tetragon.values import entry, message_value

if TYPE_CHECKING:
    from collections.abc import Callable

    from translators.tetragon.promotion import Promoted
    from translators.tetragon.redaction import Redaction


class Argument(NamedTuple):
    """One argument, encoded, and what the body may say about it. Every text is redacted."""

    value: bytes
    """AnyValue: a kvlist of ``type``, ``label`` if any, ``value``."""
    promoted: Promoted
    kind: str
    """The argument's type without ``_arg``: ``file``, ``int``, ``sock``; ``unknown`` for one of a newer agent."""
    text: str = ""
    """Path, string or address, for people."""
    number: int | None = None
    """The number, or how many bytes there are."""
    error: str = ""
    ends: tuple[tuple[str, int], tuple[str, int]] | None = None
    """A socket's (local, peer), each (address, port)."""


class _Made(NamedTuple):
    """What the maker for one kind returns."""

    value: bytes
    promoted: Promoted
    text: str = ""
    number: int | None = None
    extra: tuple[bytes, ...] = ()
    error: str = ""
    ends: tuple[tuple[str, int], tuple[str, int]] | None = None


def read_argument(data: bytes, redaction: Redaction) -> Argument:
    """Read a KprobeArgument message. Raises DecodeError."""
    argument = full.KprobeArgument.FromString(data)
    kind = argument.WhichOneof("arg")
    label = (entry("label", wire.any_string(argument.label)),) if argument.label else ()
    if kind is None:
        # A kind that a newer agent knows, or an argument that the agent left empty.
        raw = _unreadable(data, redaction) if data else ()
        return Argument(_listed("unknown", label, raw), [], "unknown")
    value: Any = getattr(argument, kind)
    make = _MAKERS.get(kind)
    made = make(value, redaction) if make is not None else _Made(message_value(value, redaction), [])
    name = kind.removesuffix("_arg")
    listed = _listed(name, label, (entry("value", made.value), *made.extra))
    return Argument(listed, made.promoted, name, made.text, made.number, made.error, made.ends)


def _listed(kind: str, label: tuple[bytes, ...], rest: tuple[bytes, ...]) -> bytes:
    return wire.any_kvlist((entry("type", wire.any_string(kind)), *label, *rest))


def _unreadable(data: bytes, redaction: Redaction) -> tuple[bytes, ...]:
    if redaction.redactor is None:
        return (entry("value", wire.any_bytes(data)),)
    digest = hashlib.sha256(data).hexdigest()
    return (entry("raw_length", wire.any_int(len(data))), entry("raw_sha256", wire.any_string(digest)))


def _number(value: int, _: Redaction) -> _Made:
    return _Made(wire.any_int(value), [], str(value), value)


def _string(value: str, redaction: Redaction) -> _Made:
    shown = redaction.text(value)
    return _Made(wire.any_string(shown), [], shown)


def _mask(value: str, _: Redaction) -> _Made:
    return _Made(wire.any_string(value), [], value)


def _bytes(value: bytes, redaction: Redaction) -> _Made:
    return _Made(wire.any_bytes(redaction.data(value)), [], number=len(value))


def _truncated_bytes(value: full.KprobeTruncatedBytes, redaction: Redaction) -> _Made:
    size = (entry("original_size", wire.any_int(value.orig_size)),)
    return _Made(wire.any_bytes(redaction.data(value.bytes_arg)), [], number=value.orig_size, extra=size)


def _file(value: full.KprobeFile | full.KprobePath | full.KprobeLinuxBinprm, redaction: Redaction) -> _Made:
    path = redaction.text(value.path)
    return _Made(message_value(value, redaction), promotion.file(path, value.permission), path)


def _sock(value: full.KprobeSock, redaction: Redaction) -> _Made:
    local, peer = (value.saddr, value.sport), (value.daddr, value.dport)
    protocol = value.protocol.removeprefix("IPPROTO_").lower()
    text = f"{protocol} {_endpoint(local)} -> {_endpoint(peer)}"
    return _Made(message_value(value, redaction), promotion.sock(value), text, ends=(local, peer))


def _skb(value: full.KprobeSkb, redaction: Redaction) -> _Made:
    protocol = value.protocol.removeprefix("IPPROTO_").lower()
    text = f"{protocol} {_endpoint((value.saddr, value.sport))} -> {_endpoint((value.daddr, value.dport))}"
    return _Made(message_value(value, redaction), promotion.skb(value), text)


def _endpoint(end: tuple[str, int]) -> str:
    return f"{end[0]}:{end[1]}"


def _sockaddr(value: full.KprobeSockaddr, redaction: Redaction) -> _Made:
    text = _endpoint((value.addr, value.port)) if value.addr else ""
    return _Made(message_value(value, redaction), promotion.sockaddr(value), text)


def _sockaddr_un(value: full.KprobeSockaddrUn, redaction: Redaction) -> _Made:
    path = redaction.text(value.path)
    return _Made(message_value(value, redaction), promotion.unix_address(path), path)


def _net_dev(value: full.KprobeNetDev, redaction: Redaction) -> _Made:
    name = redaction.text(value.name)
    return _Made(message_value(value, redaction), promotion.text(key.NETWORK_INTERFACE_NAME, name), name)


def _syscall(value: full.SyscallId, redaction: Redaction) -> _Made:
    promoted = [
        *promotion.number("tetragon.syscall.id", value.id),
        *promotion.text("tetragon.syscall.abi", value.abi),
    ]
    return _Made(message_value(value, redaction), promoted, str(value.id))


def _capability(value: full.KprobeCapability, redaction: Redaction) -> _Made:
    name = value.name or (str(value.value.value) if value.HasField("value") else "")
    return _Made(message_value(value, redaction), promotion.text("tetragon.capability", name), name)


def _module(value: full.KernelModule, redaction: Redaction) -> _Made:
    name = redaction.text(value.name)
    promoted = promotion.text("tetragon.kernel_module.name", name)
    if value.HasField("signature_ok"):
        signed = wire.Key("tetragon.kernel_module.signature_ok").boolean(value.signature_ok.value)
        promoted.append(("tetragon.kernel_module.signature_ok", signed))
    if value.tainted:
        bits = [names.enum_name(full.TaintedBitsType.DESCRIPTOR, bit) for bit in value.tainted]
        promoted.append(("tetragon.kernel_module.tainted", wire.Key("tetragon.kernel_module.tainted").texts(bits)))
    return _Made(message_value(value, redaction), promoted, name)


def _bpf_program(value: full.KprobeBpfAttr | full.KprobeBpfProg, redaction: Redaction) -> _Made:
    text = f"{value.ProgType} {redaction.text(value.ProgName)} instruction count {value.InsnCnt}"
    return _Made(message_value(value, redaction), promotion.prefixed("tetragon.bpf.", value, redaction.text), text)


def _bpf_map(value: full.KprobeBpfMap, redaction: Redaction) -> _Made:
    sizes = f"key size {value.KeySize} value size {value.ValueSize} max entries {value.MaxEntries}"
    text = f"{value.MapType} {redaction.text(value.MapName)} {sizes}"
    return _Made(message_value(value, redaction), promotion.prefixed("tetragon.bpf.", value, redaction.text), text)


def _perf_event(value: full.KprobePerfEvent, redaction: Redaction) -> _Made:
    text = f"{value.Type} {redaction.text(value.KprobeFunc)}"
    promoted = promotion.prefixed("tetragon.bpf.perf_event.", value, redaction.text)
    return _Made(message_value(value, redaction), promoted, text)


def _bpf_command(value: int, _: Redaction) -> _Made:
    name = names.enum_name(full.BpfCmd.DESCRIPTOR, value)
    return _Made(wire.any_string(name), promotion.text("tetragon.bpf.command", name), name)


def _error(value: full.KprobeError, redaction: Redaction) -> _Made:
    message = redaction.text(value.Message)
    return _Made(message_value(value, redaction), [], message, error=message)


_MAKERS: dict[str, Callable[[Any, Redaction], _Made]] = {
    "string_arg": _string,
    "int_arg": _number,
    "skb_arg": _skb,
    "size_arg": _number,
    "bytes_arg": _bytes,
    "path_arg": _file,
    "file_arg": _file,
    "truncated_bytes_arg": _truncated_bytes,
    "sock_arg": _sock,
    "long_arg": _number,
    "bpf_attr_arg": _bpf_program,
    "perf_event_arg": _perf_event,
    "bpf_map_arg": _bpf_map,
    "uint_arg": _number,
    "capability_arg": _capability,
    "module_arg": _module,
    "kernel_cap_t_arg": _mask,
    "cap_inheritable_arg": _mask,
    "cap_permitted_arg": _mask,
    "cap_effective_arg": _mask,
    "linux_binprm_arg": _file,
    "net_dev_arg": _net_dev,
    "bpf_cmd_arg": _bpf_command,
    "syscall_id": _syscall,
    "sockaddr_arg": _sockaddr,
    "bpf_prog_arg": _bpf_program,
    "error_arg": _error,
    "sockaddrun_arg": _sockaddr_un,
}
"""By member of the oneof; credentials and namespaces, which nothing is promoted from, are listed as they are."""
