"""What all records of bpf/programs/records.h begin with, and the version of that file that this package reads."""

from __future__ import annotations

import struct
from typing import NamedTuple

RECORDS_HASH = "45127e0081d345a18e5724b804129b57ca9d0b8da7f9a82409ab73a4ae8474d7"
"""SHA-256 of bpf/programs/records.h; a test holds it to the file. Change it together with the formats here."""

PROGRAMS = {1: "exec", 2: "exit"}
"""PROGRAM_* of records.h; the names are the kinds of record."""

HAS_IDENTITY = 0x01
HAS_PARENT_PID = 0x02
HAS_PARENT_IDENTITY = 0x04
HAS_EUID = 0x08
HAS_ARGS = 0x10
HAS_STATUS = 0x20
HAS_COMM = 0x40

HEADER_FORMAT = "=IHHQ"
IDENTITY_FORMAT = "QQ"
"""Formats of records.h's structs: native byte order, no padding."""

HEADER = struct.Struct(HEADER_FORMAT)


class MalformedError(ValueError):
    """A record contradicts records.h; the text says where."""


class Identity(NamedTuple):
    """What makes a process one process: with the boot id and its pid unique for ever."""

    start_ns: int
    """CLOCK_MONOTONIC of the fork that made it."""
    exec_count: int

    def text(self, boot_id: str, pid: int) -> str:
        """Write the identity as ``boot id:start:pid:exec count``."""
        return f"{boot_id}:{self.start_ns}:{pid}:{self.exec_count}"


class Cgroup(NamedTuple):
    """Where a process is: the name of its cgroup and of the one above; empty where not known or the root."""

    name: bytes
    above: bytes


def cut(data: bytes, at: int, lengths: tuple[int, ...]) -> list[bytes]:
    """Cut the strings off that follow a record's fixed part; they must fill the record exactly."""
    strings = []
    for length in lengths:
        strings.append(data[at : at + length])
        at += length
    if at != len(data):
        raise MalformedError(f"its strings would end at byte {at}, but it has {len(data)}")
    return strings
