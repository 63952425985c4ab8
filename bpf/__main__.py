"""The privileged side of otelbee: loads kernel programs and hands their raw records to one receiver.

Run as ``python3 -I bpf/`` by the distribution's interpreter, with uid 0, CAP_BPF and CAP_PERFMON. It listens on a unix
socket only, reads nothing from it, decodes nothing, and writes nothing else.
"""

from __future__ import annotations

import argparse
import grp
import hashlib
import os
import pwd
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import btf
import frames
import installation
import layout
import loader
import server
import tracefs
from version import VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence

_CANNOT_RUN_HERE = 2
_INIT_NAMESPACES = {"pid": 0xEFFFFFFC, "uts": 0xEFFFFFFE}  # PROC_*_INIT_INO, include/linux/proc_ns.h
_EXPECTED = (
    btf.BtfError, installation.UnsafeError, layout.LayoutError, loader.LoadError, server.SocketError, tracefs.TracefsError
)  # fmt: skip


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -I bpf/", description=__doc__, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=VERSION)
    parser.add_argument("--program", action="append", choices=sorted(layout.PROGRAMS), help="repeat for several")
    parser.add_argument("--socket", type=Path, default=Path("/run/otelbee/bpf.sock"), help="default: %(default)s")
    parser.add_argument(
        "--socket-gid", type=_gid, help="the group that may open the socket, besides root; a name will do"
    )
    parser.add_argument(
        "--allow-uid", type=_uid, action="append", help="a user that may connect; a name will do; repeat for several"
    )
    parser.add_argument("--mount-tracefs", action="store_true", help="only mount tracefs where it is not, and exit")
    arguments = parser.parse_args(argv)
    if not arguments.mount_tracefs and not arguments.program:
        parser.error("name at least one --program")
    return arguments


def _uid(text: str) -> int:
    try:
        return int(text) if text.isdecimal() else pwd.getpwnam(text).pw_uid
    except KeyError:
        raise argparse.ArgumentTypeError(f"there is no user {text!r}") from None


def _gid(text: str) -> int:
    try:
        return int(text) if text.isdecimal() else grp.getgrnam(text).gr_gid
    except KeyError:
        raise argparse.ArgumentTypeError(f"there is no group {text!r}") from None


def _flags(programs: Sequence[str]) -> list[str]:
    """Return the compiler flags for this kernel; its type information is forgotten again, 60 MB of it."""
    folder = tracefs.find()
    needed = {tracepoint for name in programs for tracepoint in layout.PROGRAMS[name].tracepoints}
    formats = {tracepoint: tracefs.read_format(folder, *tracepoint) for tracepoint in needed}
    loader.missing_fields(programs, formats)
    controller = layout.controller(Path("/proc/cgroups").read_text(encoding="ascii"))
    return layout.flags(btf.read(), controller, formats.get(("sched", "sched_process_exit"), {}))


def _in_first(namespace: str) -> bool:
    """Whether this process shares a namespace with the host: elsewhere its pids and its host name mean others."""
    return Path("/proc/self/ns", namespace).stat().st_ino == _INIT_NAMESPACES[namespace]


def _hello(programs: Sequence[str], peer: int) -> bytes:
    records = hashlib.sha256(loader.RECORDS.read_bytes()).hexdigest()
    return frames.hello(
        version=VERSION,
        boot_id=Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip(),
        host_name=os.uname().nodename if _in_first("uts") else "",
        programs=dict.fromkeys(programs, records),
        pids=(os.getpid(), peer) if _in_first("pid") else (),
    )


def _run(arguments: argparse.Namespace) -> None:
    installation.check(Path(__file__).parent, installation.trusted_uids())
    if arguments.mount_tracefs:
        tracefs.mount()
        return
    programs = tuple(dict.fromkeys(arguments.program))
    flags = _flags(programs)
    with server.listen(arguments.socket, arguments.socket_gid) as listener:
        try:
            allowed = frozenset(arguments.allow_uid or (os.getuid(),))
            serving = server.Server(listener, allowed, lambda peer: _hello(programs, peer))
            loaded = loader.load(programs, flags, serving.receive)
            server.say(f"{', '.join(programs)} attached; listening at {arguments.socket}")
            serving.run(loaded)
            loaded.close()
        finally:
            arguments.socket.unlink(missing_ok=True)


def main() -> int:
    """Run; return the exit code: 2 when this machine or installation cannot, with one line that says why."""
    try:
        _run(_arguments(sys.argv[1:]))
    except _EXPECTED as error:
        server.say(str(error))
        return _CANNOT_RUN_HERE
    return 0


if __name__ == "__main__":
    sys.exit(main())
