"""Parca's server and its client as programs of a test."""

from __future__ import annotations

import json
import subprocess
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any

from peers import build
from peers.processes import Program, free_port

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_HTTP = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ParcaServer(Program):
    """Parca v0.28.0 without a UI; it scrapes itself where ``scrapes`` is set, once a second."""

    def __init__(self, folder: Path, *, flags: Sequence[str] = (), scrapes: bool = False, name: str = "parca") -> None:
        """Listen on a free port; ``flags`` as its ``--help`` has them."""
        self.endpoint = f"127.0.0.1:{free_port()}"
        itself = {
            "job_name": "itself",
            "scrape_interval": "1s",
            "scrape_timeout": "3s",
            "static_configs": [{"targets": [self.endpoint]}],
            "profiling_config": {"pprof_config": {"process_cpu": {"enabled": False}}},
        }
        config = {
            "object_storage": {"bucket": {"type": "FILESYSTEM", "config": {"directory": str(folder / "bucket")}}},
            "scrape_configs": [itself] if scrapes else [],
        }
        path = folder / f"{name}.yaml"
        path.write_text(json.dumps(config))
        command = [build.parca(), f"--http-address={self.endpoint}", f"--config-path={path}", *flags]
        super().__init__(name, command, folder)

    def ready(self) -> bool:
        """Whether it answers."""
        try:
            with _HTTP.open(f"http://{self.endpoint}/metrics", timeout=5) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    def query(self, path: str, **parameters: str) -> Any:
        """Ask its API."""
        query = urllib.parse.urlencode(parameters)
        with _HTTP.open(f"http://{self.endpoint}/api/{path}?{query}", timeout=5) as response:
            return json.load(response)


def push(address: str, *flags: str) -> dict[str, str]:
    """Push once by Parca's generated API; how the call ended, ``code`` and ``message``."""
    done = subprocess.run(
        [build.parca_push(), f"--address={address}", *flags], capture_output=True, check=True, timeout=30
    )
    ended: dict[str, str] = json.loads(done.stdout)
    return ended
