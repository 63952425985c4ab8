"""Redaction reaches every string that came from a process."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from translators.pb import tetragon_pb2 as full
from translators.redact import Redactor
from translators.tetragon import FieldFilter, Options, Translator

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = "hunter2hunter2"
PLANTED = f"--password {SECRET}"


def plant(message: Any, depth: int = 0) -> None:
    """Put a secret into every string and bytes that a process chooses; recurse into everything else."""
    ours = {"exec_id", "parent_exec_id", "flags", "docker", "node_name", "cluster_name", "policy_name", "message"}
    ours |= {
        "tags",
        "signal",
        "abi",
        "family",
        "protocol",
        "permission",
        "state",
        "type",
        "Type",
        "ProgType",
        "MapType",
    }
    ours |= {"function_name", "subsys", "event", "symbol", "provider", "name", "ima_hash", "cgroup", "label", "mount"}
    ours |= {"saddr", "daddr", "addr", "pod", "user", "time", "start_time", "node_labels", "buildid"}
    ours |= {"kernel_cap_t_arg", "cap_inheritable_arg", "cap_permitted_arg", "cap_effective_arg"}
    for field in message.DESCRIPTOR.fields:
        if field.name in ours and message.DESCRIPTOR.name not in {"KernelModule", "KprobeNetDev"}:
            continue
        if field.message_type is not None:
            if depth < 5 and not field.message_type.full_name.startswith("google."):
                child = getattr(message, field.name)
                plant(child.add() if field.is_repeated else child, depth + 1)
        elif field.type == field.TYPE_STRING:
            setattr(message, field.name, PLANTED)
        elif field.type == field.TYPE_BYTES:
            setattr(message, field.name, PLANTED.encode())


def events() -> list[bytes]:
    """An event of every kind, full of secrets, with an argument of every kind."""
    kinds = list(full.GetEventsResponse.DESCRIPTOR.oneofs_by_name["event"].fields)
    found = []
    for field in kinds:
        event = full.GetEventsResponse(node_name="n")
        body = getattr(event, field.name)
        body.SetInParent()
        plant(body)
        if "args" in field.message_type.fields_by_name:
            del body.args[:]
            for argument in full.KprobeArgument.DESCRIPTOR.oneofs_by_name["arg"].fields:
                one = body.args.add()
                if argument.message_type is not None:
                    getattr(one, argument.name).SetInParent()
                    plant(getattr(one, argument.name))
                elif argument.type == argument.TYPE_STRING and argument.name == "string_arg":
                    one.string_arg = PLANTED
                elif argument.type == argument.TYPE_BYTES:
                    one.bytes_arg = PLANTED.encode()
        found.append(event.SerializeToString())
    return found


EVERYTHING: dict[str, Any] = {"environment": ("*",), "command_args": True, "max_record_bytes": 0}


def test_the_planted_secrets_would_be_seen(run_with: Callable[..., Any]) -> None:
    """Without redaction every kind with a process shows them; so the test below looks in the right places."""
    shown = [run_with(Translator(Options(**EVERYTHING)), [data]).data for data in events()]
    assert sum(SECRET.encode() in data for data in shown) == 8


def test_no_secret_is_left_in_any_kind(run_with: Callable[..., Any]) -> None:
    """Arguments, environment, paths, hook arguments, return values, stacks, parents and ancestors."""
    translator = Translator(Options(redactor=Redactor(), **EVERYTHING))
    made = run_with(translator, events())
    assert SECRET.encode() not in made.data
    assert len(made.records) == len(events())
    assert made.counts["redacted"] > 50


@pytest.mark.parametrize("kind", ["protobuf", "json"])
def test_of_an_unknown_kind_only_length_and_hash_are_kept(kind: str, translate: Callable[..., Any]) -> None:
    """When there is a redactor, or when fields are filtered: nobody knows what is in it."""
    data = b"\x72\x10" + SECRET.encode() + b"\x00\x00"
    if kind == "json":
        data = json.dumps({"process_new": {"secret": SECRET}}).encode()
    hidden = [
        translate(data, kind=kind, redactor=Redactor()),
        translate(data, kind=kind, field_filters=(FieldFilter(fields=("process.pid",)),)),
    ]
    for made in hidden:
        assert SECRET.encode() not in made.data
        found = made.records[0].attributes
        assert found["tetragon.event.raw_length"] == len(data)
        assert found["tetragon.event.raw_sha256"] == hashlib.sha256(data).hexdigest()
        assert "tetragon.event.raw" not in found
    assert SECRET.encode() in translate(data, kind=kind).data


def test_an_argument_of_an_unknown_kind_is_withheld(translate: Callable[..., Any]) -> None:
    """Only under redaction."""
    body = full.ProcessKprobe(function_name="f")
    body.args.add().MergeFromString(b"\xc2\x02\x0e" + SECRET.encode())
    data = full.GetEventsResponse(process_kprobe=body).SerializeToString()
    assert SECRET.encode() in translate(data).data
    assert SECRET.encode() not in translate(data, redactor=Redactor()).data


def test_an_id_does_not_depend_on_a_redacted_secret(translate: Callable[..., Any]) -> None:
    """Else the id would be a hash by which a guess can be checked."""
    ids = set()
    for secret in ("aaaaaaaaaaaa", "bbbbbbbbbbbb"):
        body = full.ProcessKprobe(function_name="f")
        body.process.arguments = f"--password {secret}"
        body.args.add(string_arg=f"password={secret}")
        data = full.GetEventsResponse(process_kprobe=body).SerializeToString()
        ids.add(translate(data, redactor=Redactor()).records[0].attributes["log.record.uid"])
    assert len(ids) == 1


def test_a_process_is_redacted_once(run_with: Callable[..., Any]) -> None:
    """The cache holds what is already redacted, and a match is counted once."""
    body = full.ProcessExec()
    body.process.arguments = PLANTED
    data = full.GetEventsResponse(process_exec=body).SerializeToString()
    translator = Translator(Options(redactor=Redactor()))
    assert run_with(translator, [data] * 10).counts == {"redacted": 1}
    assert run_with(translator, [data] * 10).counts == {}


@pytest.mark.parametrize(
    "arguments", ['--password "hunter2 hunter2"', '--password "a"b hunter2hunter2"', "-phunter2hunter2 -uroot"]
)
def test_splitting_arguments_cuts_no_secret_open(arguments: str, translate: Callable[..., Any]) -> None:
    """The list is made of the redacted text: quotes inside a secret would cut it into pieces that no rule knows."""
    body = full.ProcessExec()
    body.process.binary, body.process.arguments = "/usr/bin/mysql", arguments
    data = full.GetEventsResponse(process_exec=body).SerializeToString()
    assert b"hunter2" in translate(data, command_args=True).data
    assert b"hunter2" not in translate(data, command_args=True, redactor=Redactor()).data
