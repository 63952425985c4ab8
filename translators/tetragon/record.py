"""The parts of a LogRecord that are made anew for each event."""

from __future__ import annotations

import struct
from binascii import hexlify
from hashlib import blake2b

from translators import attributes as key
from translators import wire

_UUID = "00000000-0000-8000-8000-000000000000"
_UID_FORM = wire.Key(key.LOG_RECORD_UID).text(_UUID)[: -len(_UUID)].replace(b"%", b"%%") + b"%b-%b-8%b-8%b-%b"
_digits = struct.Struct("8s4sx3sx3s12s").unpack
"""The digits of a digest as they stand in a UUID; version and variant replace two."""


def _body_head(size: int) -> bytes:
    """Encode what stands before the text of ``LogRecord.body``, a string of ``size`` bytes."""
    value = b"\x0a" + wire.varint(size)
    return b"\x2a" + wire.varint(len(value) + size) + value


_BODY_HEADS = tuple(map(_body_head, range(1024)))


def body_head(size: int) -> bytes:
    """Return what stands before the text of ``LogRecord.body``, a string of ``size`` bytes."""
    return _BODY_HEADS[size] if size < len(_BODY_HEADS) else _body_head(size)


_RECORD_HEADS = tuple(b"\x12" + wire.varint(size) for size in range(4096))


def record_head(size: int) -> bytes:
    """Return what stands before a record of ``size`` bytes in ``ScopeLogs.log_records``."""
    return _RECORD_HEADS[size] if size < len(_RECORD_HEADS) else b"\x12" + wire.varint(size)


def fingerprint(attributes: bytes) -> bytes:
    """Stand in for encoded attributes in a record's id; made once where attributes repeat."""
    return blake2b(attributes, digest_size=16).digest()


def uid(kind: bytes, time: bytes, node: bytes, process: bytes, detail: bytes) -> bytes:
    """Return the attribute with a record's id: a UUID of version 8 (RFC 9562) from what makes the event itself.

    It is made of what stands in the record, after redaction, so it tells nothing about what was redacted.
    """
    digest = blake2b(b"\0".join((kind, time, node, process, detail)), digest_size=16).digest()
    return _UID_FORM % _digits(hexlify(digest))
