"""The Compose demo as a test runs it: the override with local images, free ports, its own project."""

from __future__ import annotations

import gzip
import json
import os
import secrets
import time
import urllib.request
from typing import TYPE_CHECKING, Any, Self

from deploy.images import ROOT, docker, run
from peers import build
from peers.processes import until

from translators.pb.profile_pb2 import Profile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from deploy.images import Images

FUNCTION = "main.work"
FOLDER = ROOT / "deploy" / "compose"
SEEN_S = 60.0
"""How long the demo may take to show something."""


def compose(*arguments: str | Path, environment: dict[str, str] | None = None) -> str:
    """Run Docker Compose; its standard output."""
    return run(build.COMPOSE.path, *arguments, env=os.environ | (environment or {}))


def configured(*arguments: str | Path) -> Any:
    """What Compose understands of files, with every default written out."""
    return json.loads(compose(*arguments, "config", "--format=json"))


class Stack:
    """The demo, running."""

    def __init__(self, images: Images, folder: Path, output: Path) -> None:
        """Name it; its files are in ``folder``, and the Collector writes into ``output``."""
        self._output = output
        self._project = f"otelbee-test-{secrets.token_hex(4)}"
        # Debian 12's engine is one of those that do not know CAP_BPF; with a newer one the file does no harm here.
        files = [folder / name for name in ("compose.yaml", "compose.local.yaml", "compose.engine-20.yaml")]
        self._files = [part for file in files for part in ("--file", file)]
        self._environment = {
            "COLLECTOR_IMAGE": images.collector,
            "COLLECTOR_OUTPUT": str(output),
        } | dict.fromkeys(("OTELBEE_PORT", "PPROF_PORT", "PARCA_PORT"), "0")

    def __call__(self, *arguments: str) -> str:
        """Run Compose on the demo."""
        project = f"--project-name={self._project}"
        return compose(project, *self._files, *arguments, environment=self._environment)

    def __enter__(self) -> Self:
        """Start everything."""
        self("up", "--detach", "--no-build", "--quiet-pull")
        return self

    def __exit__(self, *_: object) -> None:
        """Remove containers, networks and volumes."""
        self("down", "--volumes", "--remove-orphans")

    def inspect(self, service: str) -> Any:
        """What the engine knows of a service's container."""
        return json.loads(docker("inspect", self("ps", "--all", "--quiet", service).strip()))[0]

    def address(self, service: str, port: int) -> str:
        """``host:port`` on this machine at which a service's port is published."""
        return self("port", service, str(port)).strip()

    def requests(self, kind: str) -> Iterator[Any]:
        """Each entry of ``resourceLogs`` or its like that the Collector received."""
        for line in self._lines():
            yield from json.loads(line).get(kind, ())

    def _lines(self) -> Iterator[str]:
        for path in sorted(self._output.glob("telemetry*.jsonl")):
            yield from (line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n"))

    def records(self) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Each log record's resource and attributes, the event's name with them as ``event_name``."""
        for entry in self.requests("resourceLogs"):
            resource = values(entry["resource"].get("attributes", ()))
            for scope in entry["scopeLogs"]:
                for record in scope["logRecords"]:
                    yield resource, values(record.get("attributes", ())) | {"event_name": record.get("eventName", "")}

    def see(self, found: Callable[[], Any], what: str) -> Any:
        """Wait until ``found`` gives something; with the last words of all services when it does not."""
        try:
            return until(found, what, SEEN_S)
        except TimeoutError as error:
            error.add_note(self("logs", "--tail=15"))
            raise

    def see_live_exec(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start a program on the host until the Collector has one of these starts; its resource and attributes."""
        marker = secrets.token_hex(8)

        def seen() -> tuple[dict[str, Any], dict[str, Any]] | None:
            run("/bin/true", marker)
            for resource, record in self.records():
                if record["event_name"] == "otelbee.process.exec" and marker in record.get("process.command_args", ()):
                    return resource, record
            return None

        found: tuple[dict[str, Any], dict[str, Any]] = self.see(seen, "an exec of this host")
        return found

    def push_profile(self) -> None:
        """Push a profile by HTTP, as curl would, and wait until the Collector has it."""
        marker = secrets.token_hex(8)
        address = f"http://{self.address('otelbee', 4040)}/v1/pprof?service_name={marker}"
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            address, profile(), timeout=10
        ) as answer:
            assert answer.status == 204

        def seen() -> bool:
            requests = [json.loads(line) for line in self._lines() if "resourceProfiles" in line]
            # The Collector writes a profile's texts as references into the request's table.
            return any({marker, FUNCTION} <= set(request["dictionary"]["stringTable"]) for request in requests)

        self.see(seen, "a pushed profile")

    def see_another_tetragon_event(self) -> None:
        """Wait for more replayed events than there are now."""

        def count() -> int:
            return sum(record["event_name"].startswith("tetragon.") for _, record in self.records())

        before = count()
        self.see(lambda: count() > before, "another event of Tetragon")


def profile() -> bytes:
    """A profile of one sample, gzip as pprof's tools write it."""
    strings = ["", "cpu", "nanoseconds", FUNCTION]
    one = Profile(string_table=strings, time_nanos=time.time_ns(), duration_nanos=10**9, period=10**7)
    one.sample_type.add(type=1, unit=2)
    one.period_type.type, one.period_type.unit = 1, 2
    one.function.add(id=1, name=3)
    one.location.add(id=1).line.add(function_id=1, line=7)
    one.sample.add(location_id=[1], value=[10**9])
    return gzip.compress(one.SerializeToString())


def values(attributes: Any) -> dict[str, Any]:
    """OTLP's attributes in JSON as a dictionary; lists of strings as tuples."""
    found = {}
    for attribute in attributes:
        ((kind, value),) = attribute["value"].items()
        found[attribute["key"]] = (
            tuple(item.get("stringValue") for item in value.get("values", ())) if kind == "arrayValue" else value
        )
    return found
