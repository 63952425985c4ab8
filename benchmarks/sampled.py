"""``otelbee`` with its main thread looked at every millisecond of processor time: ``sampled.py FILE ARGUMENT...``.

Leaves in FILE, as JSON, how often each part of the program was found at work.
"""

from __future__ import annotations

import json
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from receiver import cli

if TYPE_CHECKING:
    from types import FrameType

_EVERY_S = 0.001
_ROOT = f"{Path(__file__).resolve().parent.parent}/"
_PARTS = {
    "translators/tetragon/process.py": "translating: processes",
    "translators/tetragon/shape.py": "translating: processes",
    "translators/tetragon/place.py": "translating: processes",
    "translators/tetragon/pods.py": "translating: processes",
    "translators/tetragon/envelope.py": "translating: envelopes",
    "translators/tetragon/lifecycle.py": "translating: exits",
    "translators/": "translating: records",
    "receiver/net/": "reading",
    "receiver/sources/": "reading",
    "receiver/intake.py": "intake",
    "receiver/pipeline/": "queueing, joining",
    "receiver/exporters/": "sending",
}


def _part_of(frame: FrameType | None) -> str:
    """The part whose function is innermost; ``wire`` and ``cache`` work for who calls them."""
    while frame is not None:
        path = frame.f_code.co_filename
        if "/grpc/" in path:
            return "sending"
        if path.startswith(_ROOT) and not path.endswith(("/wire.py", "/cache.py")):
            own = path.removeprefix(_ROOT)
            for prefix, part in _PARTS.items():
                if own.startswith(prefix):
                    return part
        frame = frame.f_back
    return "event loop"


def main() -> int:
    """Run the command, and write what was found."""
    file, *arguments = sys.argv[1:]
    found: Counter[str] = Counter()
    signal.signal(signal.SIGPROF, lambda _, frame: found.update((_part_of(frame),)))
    signal.setitimer(signal.ITIMER_PROF, _EVERY_S, _EVERY_S)
    try:
        return cli.main(arguments)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        Path(file).write_text(json.dumps(found))


if __name__ == "__main__":
    sys.exit(main())
