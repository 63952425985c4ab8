"""A next stage for faults that the Collector cannot make: an OTLP/gRPC server that answers by a script.

A process of its own. It looks at its script, a file with a JSON object, before every answer, so that a test can replace
it at any moment. What it takes it first writes to a file, as the Collector's file exporter does; each answer is a line of
its output.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Any

import grpc

from tests.receiver.exporters.otlp_server import Answer, Request, Server, serve

_ID = re.compile(rb"fault\.[a-z]+[0-9]*\.[0-9]{9}")


class Script:
    """Answers as the file says at that moment.

    Its keys are those of :class:`Answer`; ``only`` restricts it to requests that contain this text, ``data`` to such that
    are not empty.
    """

    def __init__(self, path: Path, arrivals: Path) -> None:
        """Read ``path`` before each answer, append to ``arrivals``."""
        self._path = path
        self._arrivals = arrivals.open("ab", buffering=0)

    def judge(self, request: Request) -> Answer:
        """Decide on one request."""
        answer = self._answer(request.data)
        code = answer.code.name if not answer.silent else "silence"
        if code == "OK" and request.data:
            self._arrivals.write(len(request.data).to_bytes(4, "big") + request.data)
        first = _ID.search(request.data)
        said = {
            "at_s": request.at_s,
            "answer": code,
            "bytes": len(request.data),
            "first": first[0].decode() if first else "",
        }
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()
        request.data = b""  # the server remembers its requests
        return answer

    def _answer(self, data: bytes) -> Answer:
        script: dict[str, Any] = json.loads(self._path.read_text())
        is_other = script.pop("only", "").encode() not in data
        if is_other or (script.pop("data", False) and not data):
            return Answer()
        return Answer(code=grpc.StatusCode[script.pop("code", "OK")], **script)


async def main(port: int, script: Path, arrivals: Path) -> None:
    """Serve until ended."""
    server = Server(port=port, judge=Script(script, arrivals).judge)
    async with serve(server, **{"grpc.max_receive_message_length": -1}):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])))
