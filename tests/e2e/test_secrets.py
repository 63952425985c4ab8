"""Planted secrets appear nowhere: not in what the Collector has, not in what otelbee says."""

from __future__ import annotations

import base64
import gzip
import struct
from typing import TYPE_CHECKING, Any, Final

from peers.records import frames

from translators.pb import tetragon_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SHAPES: Final = (
    "mysql --password {} -h db",
    "deploy --api-key={} --verbose",
    'curl -H "Authorization: Bearer {}" https://registry.invalid/v2/',
    "git clone https://robot:{}@git.invalid/app.git",
    "env AWS_SECRET_ACCESS_KEY={} terraform apply",
)
UNKNOWN_KIND: Final = 14
"""A field of GetEventsResponse's oneof that the open-source agent reserves for Isovalent's."""


class Planter:
    """Makes secrets that no pattern knows by themselves, each different, and remembers where each was planted."""

    def __init__(self) -> None:
        """Begin with none."""
        self.planted: dict[str, str] = {}

    def text(self, place: str, shape: str) -> str:
        """A command line with a secret in it."""
        secret = f"Zq{len(self.planted):03}x{base64.b32encode(place.encode()).decode().rstrip('=').lower()[:12]}"
        self.planted[secret] = f"{place}: {shape}"
        return shape.format(secret)

    def fill(self, place: str, process: Any, shape: str) -> None:
        """Plant secrets in what a process was given."""
        process.arguments = self.text(f"{place} arguments", shape)
        process.environment_variables.add(Key="DB_PASSWORD", Value=self.text(f"{place} environment", "{}"))


def _events(recording: Path, planter: Planter) -> Iterator[bytes]:
    """Recorded events with secrets in every place where a process can leave one, in every shape."""
    with gzip.open(recording) as stream:
        recorded = [tetragon_pb2.GetEventsResponse.FromString(data) for data in frames(stream.read())]
    by_kind: dict[str, Any] = {}
    for event in recorded:
        by_kind.setdefault(event.WhichOneof("event"), event)
    for shape in SHAPES:
        for kind in ("process_exec", "process_exit", "process_kprobe"):
            event = tetragon_pb2.GetEventsResponse()
            event.CopyFrom(by_kind[kind])
            body = getattr(event, kind)
            planter.fill(f"{kind} process", body.process, shape)
            planter.fill(f"{kind} parent", body.parent, shape)
            for _ in range(2):
                ancestor = body.ancestors.add()
                ancestor.CopyFrom(body.parent)
                planter.fill(f"{kind} ancestor", ancestor, shape)
            if kind == "process_kprobe":
                body.args.add(string_arg=planter.text("string argument", shape))
                body.args.add(bytes_arg=planter.text("bytes argument", shape).encode())
                body.args.add(truncated_bytes_arg={"bytes_arg": planter.text("truncated", shape).encode()})
                getattr(body, "return").string_arg = planter.text("returned string", shape)
            yield event.SerializeToString()
        yield (
            _unknown(planter.text("unknown kind", shape).encode())
            + tetragon_pb2.GetEventsResponse(
                node_name="tg-node1", time=by_kind["process_exec"].time
            ).SerializeToString()
        )


def _unknown(secret: bytes) -> bytes:
    """A field of an unknown kind: a message whose first field is text."""
    message = b"\x0a" + bytes([len(secret)]) + secret
    return bytes([UNKNOWN_KIND << 3 | 2]) + bytes([len(message)]) + message


def _written(folder: Path) -> dict[str, bytes]:
    """What the Collector and otelbee wrote."""
    names = ("collector.jsonl", "collector.pb", "collector.err", "otelbee.out", "otelbee.err")
    return {name: (folder / name).read_bytes() for name in names}


def _forms(secret: str) -> set[bytes]:
    """A secret as text, as hexadecimal digits, and as base64 at each of its three alignments."""
    data = secret.encode()
    # Without the first and last characters, which depend on the neighbours of the secret.
    aligned = {base64.b64encode(b"\0" * offset + data)[4 if offset else 0 : -4] for offset in range(3)}
    return {data, data.hex().encode(), *aligned}


def test_planted_secrets_appear_nowhere(
    tmp_path: Path, shared_data: Callable[..., Path], way: Callable[..., Any]
) -> None:
    """Secrets in arguments, environments, parents, ancestors, hook arguments and an unknown kind stay behind."""
    planter = Planter()
    events = list(_events(shared_data("tetragon", "recordings", "argtypes.pb.gz"), planter))
    recording = tmp_path / "planted.pb"
    recording.write_bytes(b"".join(struct.pack(">I", len(event)) + event for event in events))

    peer, otelbee, collector = way(
        recording,
        source={"environment": ["*"], "command_args": True, "pod_labels": ["*"], "pod_annotations": ["*"]},
        telemetry={"logs": {"level": "debug"}},
        debug={"verbosity": "detailed"},
    )
    received = collector.received(len(events))
    assert peer.report("end")["dropped"] == 0
    assert otelbee.stop() == 0

    assert len(planter.planted) == len(SHAPES) * (3 * 8 + 4 + 1)
    leaked = [
        f"{name} holds the secret of {place}"
        for secret, place in planter.planted.items()
        for name, written in _written(tmp_path).items()
        if any(form in written for form in _forms(secret))
    ]
    assert not leaked
    text = (tmp_path / "collector.jsonl").read_text()
    assert text.count("<redacted:") >= len(SHAPES) * 3 * 4
    assert [record.event_name for record in received].count("tetragon.unknown") == len(SHAPES)


def test_the_same_secrets_do_pass_without_redaction(
    tmp_path: Path, shared_data: Callable[..., Path], way: Callable[..., Any]
) -> None:
    """Switched off, redaction hides nothing: the test above would see a secret that gets through."""
    planter = Planter()
    events = list(_events(shared_data("tetragon", "recordings", "argtypes.pb.gz"), planter))
    recording = tmp_path / "planted.pb"
    recording.write_bytes(b"".join(struct.pack(">I", len(event)) + event for event in events))

    _, otelbee, collector = way(recording, source={"environment": ["*"]}, redaction={"enabled": False})
    collector.received(len(events))
    # Stopped, it has an answer for every request; before, one of the Collector's two files may not have the last yet.
    assert otelbee.stop() == 0
    written = _written(tmp_path)
    hidden = [
        place
        for secret, place in planter.planted.items()
        if not any(form in data for form in _forms(secret) for data in written.values())
    ]
    assert not hidden
