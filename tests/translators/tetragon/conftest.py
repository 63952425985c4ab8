"""Tetragon's events for tests, and log records as tests look at them."""

from __future__ import annotations

import base64
import gzip
import json
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from peers.records import frames

from translators.batch import Origin
from translators.tetragon import Options, Translator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

NOW_NS = 1_800_000_000_000_000_000


def plain(value: Any) -> Any:
    """An AnyValue as a Python value."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [plain(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {item.key: plain(item.value) for item in value.kvlist_value.values}
    return None if kind is None else getattr(value, kind)


class Record(NamedTuple):
    """One log record with its Resource."""

    name: str
    attributes: dict[str, Any]
    resource: dict[str, Any]
    body: str
    severity: int
    message: Any
    scope: Any


def read(data: bytes) -> list[Record]:
    """Every record of an export request; a key that occurs twice is an error."""
    records = []
    for resource in ExportLogsServiceRequest.FromString(data).resource_logs:
        about = {each.key: plain(each.value) for each in resource.resource.attributes}
        assert len(about) == len(resource.resource.attributes)
        for scope in resource.scope_logs:
            for message in scope.log_records:
                attributes = {each.key: plain(each.value) for each in message.attributes}
                keys = [each.key for each in message.attributes]
                assert len(attributes) == len(keys), sorted(key for key in keys if keys.count(key) > 1)
                body = message.body.string_value
                number = message.severity_number
                records.append(Record(message.event_name, attributes, about, body, number, message, scope.scope))
    return records


class Translated(NamedTuple):
    """What a translator made of some records."""

    records: list[Record]
    rejected: tuple[Any, ...]
    counts: dict[str, int]
    data: bytes


def run(translator: Translator, records: Sequence[bytes], kind: str = "protobuf", **origin: Any) -> Translated:
    """Translate records, 256 at a time."""
    found: list[Record] = []
    rejected: list[Any] = []
    counts: dict[str, int] = {}
    data = b""
    for start in range(0, len(records), 256):
        made = translator.translate(kind, records[start : start + 256], Origin(**origin), NOW_NS)
        for batch in made.batches:
            found += (here := read(batch.data))
            assert batch.items == len(here) == sum(part.items for part in batch.parts)
            data += batch.data
        rejected += made.rejected
        for name, number in made.counts.items():
            counts[name] = counts.get(name, 0) + number
    return Translated(found, tuple(rejected), counts, data)


@pytest.fixture(name="translate")
def _translate() -> Callable[..., Translated]:
    """A function: records, ``kind`` and options to what a new translator makes of them."""

    def translate(
        *records: bytes, kind: str = "protobuf", origin: dict[str, Any] | None = None, **options: Any
    ) -> Translated:
        return run(Translator(Options(**options)), records, kind, **(origin or {}))

    return translate


@pytest.fixture(name="run_with")
def _run_with() -> Callable[..., Translated]:
    """The function that runs a translator over any number of records."""
    return run


class Vector(NamedTuple):
    """An event in both of its forms, as the official Go code wrote them."""

    name: str
    wire: bytes
    event: dict[str, Any] | None
    compact: str


@pytest.fixture(name="vectors", scope="session")
def _vectors(shared: Path) -> list[Vector]:
    """The vectors that carry the official serialisation."""
    found = []
    for path in sorted(shared.glob("data/tetragon/*.jsonl")):
        for number, line in enumerate(path.read_text().splitlines()):
            value = json.loads(line)
            if "wire_b64" in value:
                name = value.get("name") or f"{path.stem}:{number}"
                found.append(Vector(name, base64.b64decode(value["wire_b64"]), value["event"], value["compact"]))
    assert len(found) > 100
    return found


@pytest.fixture(name="examples", scope="session")
def _examples(shared: Path) -> dict[str, list[bytes]]:
    """Published example events by file, one JSON line each."""
    names = ("docs-*.jsonl", "book-*.jsonl")
    paths = [path for name in names for path in sorted(shared.glob(f"data/tetragon/{name}"))]
    assert len(paths) == 8
    return {path.stem: path.read_bytes().splitlines() for path in paths}


class Recording(NamedTuple):
    """What the agent streamed, and its own JSON export."""

    messages: list[bytes]
    lines: list[bytes]

    @property
    def same(self) -> bool:
        """Whether both hold the same events; a filtered stream or a limited export do not."""
        return len(self.messages) == len(self.lines)


@pytest.fixture(name="recording", scope="session")
def _recording(shared: Path) -> Callable[[str], Recording]:
    """A function from a scenario's name to its recording."""
    folder = shared / "data" / "tetragon" / "recordings"

    def load(name: str) -> Recording:
        with gzip.open(folder / f"{name}.pb.gz") as stream:
            messages = list(frames(stream.read()))
        with gzip.open(folder / f"{name}.jsonl.gz") as stream:
            return Recording(messages, stream.read().splitlines())

    return load


SCENARIOS = (
    "aggregated", "allowdeny", "argtypes", "base_default", "base_full", "creds", "enforce", "env_filter",
    "fieldfilter", "file_full", "file_quickstart", "highvol", "loader", "lsm", "modules", "net", "ratelimit_export",
    "throttle", "tracepoints", "uprobes", "usdt",
)  # fmt: skip


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes ``scenario`` once for each recording."""
    if "scenario" in metafunc.fixturenames:
        metafunc.parametrize("scenario", SCENARIOS)
