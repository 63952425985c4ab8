"""Nothing is lost: every value of every event is somewhere in its record."""

from __future__ import annotations

import base64
import binascii
import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from translators.tetragon import Options, Translator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EVERYTHING = Options(
    node_labels=("*",),
    pod_labels=("*",),
    pod_annotations=("*",),
    environment=("*",),
    command_args=True,
    service_name_from_labels=True,
    max_record_bytes=0,
)
UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

LEFT_OUT: dict[str, Callable[[Any], bool]] = {
    # docs/sources/tetragon-mapping.md, "What is left out", has the reasons.
    r".*\.refcnt": lambda _: True,
    r".*\.auid": lambda value: value == 4294967295,
    r".*\.pod\.uid": lambda value: not UUID.fullmatch(value),
    r"\.time": lambda value: value == "1970-01-01T00:00:00Z",
}


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every scalar of a JSON value with its path; indices are left out, keys of maps are values too."""
    if isinstance(value, dict):
        for name, item in value.items():
            if path.endswith(("_labels", "_annotations")):
                yield f"{path}.key", name
                yield f"{path}.value", item
            else:
                yield from leaves(item, f"{path}.{name}")
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item, path)
    elif value is not None:
        yield path, value


class Output:
    """Every value of a record and its Resource, and every key."""

    def __init__(self, record: Any) -> None:
        """Collect."""
        self.strings = {record.body, record.name}
        self.numbers: set[int] = set()
        self.data: set[bytes] = set()
        self.flags: set[bool] = set()
        self._collect(record.attributes)
        self._collect(record.resource)
        self.time = record.message.time_unix_nano
        self.text = "\0".join(self.strings)

    def _collect(self, value: Any) -> None:
        if isinstance(value, dict):
            self.strings |= value.keys()
            for item in value.values():
                self._collect(item)
        elif isinstance(value, list):
            for item in value:
                self._collect(item)
        elif isinstance(value, bool):
            self.flags.add(value)
        elif isinstance(value, int):
            self.numbers.add(value)
        elif isinstance(value, bytes):
            self.data.add(value)
        else:
            self.strings.add(value)

    def has(self, path: str, value: Any) -> bool:
        """Whether a value of the input is here, as it was or as the mapping writes it."""
        if isinstance(value, bool):
            return value in self.flags or path.endswith((".is_host", ".maybe_exec_probe"))
        if isinstance(value, int):
            return value in self.numbers or str(value) in self.strings
        if path == ".time":
            return self.time == _unix_ns(value) or value in self.strings
        if re.fullmatch(r"-?\d+", value) and (int(value) in self.numbers or value in self.strings):
            return True
        return self._has_text(path, value)

    def _has_text(self, path: str, value: str) -> bool:
        if not value or value in self.strings or self._has_bytes(path, value):
            return True
        if value.startswith(("KPROBE_ACTION_", "THROTTLE_")):
            return value.rpartition("_")[2].lower() in self.strings
        if path.endswith((".workload_kind", ".event_type")):
            return f"k8s.{value.lower()}.name" in self.strings
        # Parts of longer texts: command lines, flags, image references, keys made of names.
        if path.endswith(".flags"):
            return all(flag in self.strings for flag in value.split())
        if path.endswith((".image.name", ".container.id")):
            return all(part in self.strings for part in re.split(r"://|:(?=[^/:]*$)", value))
        if path.endswith((".docker", ".arguments", ".key", ".Key", ".cap", "DAC_OVERRIDE")):
            return value in self.text
        return (value == "DAC_OVERRIDE" and "CAP_DAC_OVERRIDE" in self.strings) or (
            path.endswith(".cgroup") and value.rstrip("\0") in self.strings
        )

    def _has_bytes(self, path: str, value: str) -> bool:
        if not path.endswith((".bytes_arg", ".buildid")):
            return False
        try:
            data = base64.b64decode(value, validate=True)
        except binascii.Error:
            return False
        return data in self.data or data.hex() in self.strings


def _unix_ns(text: str) -> int:
    seconds, _, fraction = text.removesuffix("Z").partition(".")
    whole = int(datetime.fromisoformat(seconds).replace(tzinfo=UTC).timestamp())
    return whole * 10**9 + int(fraction.ljust(9, "0") or 0)


def missing(event: dict[str, Any], record: Any) -> list[tuple[str, Any]]:
    """The values of an event that its record lacks."""
    output = Output(record)
    return [
        (path, value)
        for path, value in leaves(event)
        if not output.has(path, value)
        and not any(re.fullmatch(pattern, path) and test(value) for pattern, test in LEFT_OUT.items())
    ]


def test_every_value_of_every_vector_is_in_its_record(vectors: list[Any], run_with: Callable[..., Any]) -> None:
    """The official vectors cover 286 of the 287 fields."""
    for vector in vectors:
        if vector.event:
            made = run_with(Translator(EVERYTHING), [vector.wire])
            assert missing(vector.event, made.records[0]) == [], vector.name


def test_every_value_of_every_example_is_in_its_record(
    examples: dict[str, list[bytes]], run_with: Callable[..., Any]
) -> None:
    """Published JSON examples, unknown kinds included: those are kept as they are."""
    for name, lines in examples.items():
        for line in lines:
            record = run_with(Translator(EVERYTHING), [line], "json").records[0]
            if record.name == "tetragon.unknown":
                assert record.attributes["tetragon.event.raw"] == line
            else:
                assert missing(json.loads(line), record) == [], name


@pytest.mark.timeout(120)
def test_every_value_of_every_recorded_event_is_in_its_record(
    scenario: str, recording: Callable[[str], Any], run_with: Callable[..., Any]
) -> None:
    """A real agent's events; of the large recordings the first 800."""
    translator = Translator(EVERYTHING)
    for line in recording(scenario).lines[:800]:
        record = run_with(translator, [line], "json").records[0]
        assert missing(json.loads(line), record) == []


def test_a_lost_value_would_be_noticed(vectors: list[Any], run_with: Callable[..., Any]) -> None:
    """The check itself: a record of another event lacks most of what it is asked for."""
    events = [vector for vector in vectors if vector.event and len(json.dumps(vector.event)) > 3000]
    first = run_with(Translator(EVERYTHING), [events[0].wire]).records[0]
    assert len(missing(events[1].event, first)) > 10
