"""What kind of build id a text is (semantic conventions, ``process.executable.build_id.*``)."""

from __future__ import annotations

import re
from typing import Final

GNU: Final = "process.executable.build_id.gnu"
GO: Final = "process.executable.build_id.go"
HTLHASH: Final = "process.executable.build_id.htlhash"
AS_GIVEN: Final = "pprof.mapping.build_id"
"""The text itself, where no convention holds it as it is."""

_HEX = re.compile(r"([0-9a-fA-F]{2}){8,128}")
"""Linkers write 8 (LLD's default), 16 (md5, uuid) or 20 bytes (sha1); ``--build-id=0x...`` writes any number. Go's own, written so, has 83."""
_GO = re.compile(r"[A-Za-z0-9_-]{20}(/[A-Za-z0-9_-]{1,64}){1,3}")
"""``go tool buildid``: hashes of 20 characters of base64url, two to four of them between slashes."""


def classify(build_id: str) -> dict[str, str]:
    """Return the attributes that a mapping's build id becomes; none for none.

    Some writers give Go's build id as the hexadecimal digits of its characters; that becomes readable again, and what
    was given stays beside it.
    """
    if not build_id:
        return {}
    if _GO.fullmatch(build_id):
        return {GO: build_id}
    if _HEX.fullmatch(build_id):
        text = bytes.fromhex(build_id).decode("ascii", "replace")
        if _GO.fullmatch(text):
            return {GO: text, AS_GIVEN: build_id}
        lower = build_id.lower()
        return {GNU: lower} if lower == build_id else {GNU: lower, AS_GIVEN: build_id}
    return {AS_GIVEN: build_id}
