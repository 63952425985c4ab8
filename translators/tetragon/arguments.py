"""Tetragon's flat argument string.

The agent joins argv[1..] with spaces and puts an argument that contains a space in double quotes. Quotes inside of
arguments are not escaped and empty arguments vanish (tetragon, pkg/process/args.go), so this cannot be undone exactly.
"""

from __future__ import annotations

import re

_ITEM = re.compile(r'"([^"]*)"|(\S+)')


def split(arguments: str) -> list[str]:
    """Split into arguments, as well as it can be done; a quote anywhere makes it ambiguous."""
    return [quoted or plain for quoted, plain in _ITEM.findall(arguments)]
