"""The body of hook events: the words and details of Tetragon's own compact output, without its emoji.

``tetra getevents -o compact`` knows some kernel functions and says ``syscall FUNCTION`` of all others; there the first
file, socket or address follows, because a person looks for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from translators.tetragon.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from translators.tetragon.hook_arguments import Argument

_TELLING = ("file", "path", "linux_binprm", "sock", "sockaddr", "sockaddrun", "skb", "module")


def _text(arguments: Sequence[Argument], position: int) -> str:
    return printable(arguments[position].text) if position < len(arguments) else ""


def _first(arguments: Sequence[Argument]) -> str:
    return _text(arguments, 0)


def _second(arguments: Sequence[Argument]) -> str:
    return _text(arguments, 1)


def _first_two(arguments: Sequence[Argument]) -> str:
    return " ".join(filter(None, (_text(arguments, 0), _text(arguments, 1))))


def _file_and_size(arguments: Sequence[Argument]) -> str:
    size = arguments[2].number if len(arguments) > 2 else None  # noqa: PLR2004 - write(fd, buf, count)
    return f"{_first(arguments)} {size} bytes" if size is not None else _first(arguments)


def _socket_and_size(arguments: Sequence[Argument]) -> str:
    size = arguments[1].number if len(arguments) > 1 else None
    return f"{_first(arguments)} bytes {size}" if size is not None else _first(arguments)


_FUNCTIONS: dict[str, tuple[str, Callable[[Sequence[Argument]], str]]] = {
    "fd_install": ("open", _second),
    "sys_open": ("open", _first),
    "sys_openat": ("openat", _second),
    "sys_close": ("close", _first),
    "sys_read": ("read", _file_and_size),
    "sys_write": ("write", _file_and_size),
    "sys_mount": ("mount", _first_two),
    "sys_umount": ("umount", _first),
    "sys_setuid": ("setuid", _first),
    "sys_ptrace": ("ptrace", _first_two),
    "security_path_truncate": ("truncate", _first),
    "bpf_check": ("bpf_load", _first),
    "security_perf_event_alloc": ("perf_event_alloc", _first),
    "security_bpf_map_alloc": ("bpf_map_create", _first),
    "security_bpf_map_create": ("bpf_map_create", _first),
    "tcp_connect": ("connect", _first),
    "tcp_close": ("close", _first),
    "tcp_sendmsg": ("sendmsg", _socket_and_size),
    "inet_csk_listen_start": ("listen", _first),
}


def function_body(function: str, arguments: Sequence[Argument]) -> tuple[str, str]:
    """Return the first word and the details for a hooked kernel function."""
    plain = function.removeprefix("__x64_").removeprefix("__arm64_")
    known = _FUNCTIONS.get(plain)
    if known is not None:
        word, details = known
        return word, details(arguments)
    telling = next((argument.text for argument in arguments if argument.kind in _TELLING and argument.text), "")
    return "syscall", " ".join(filter(None, (printable(function), printable(telling))))
