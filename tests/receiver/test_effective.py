"""``print-config``: everything that is in force, where it came from, no secret, and YAML that means the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from receiver import effective
from receiver.cli import main
from receiver.config import load
from receiver.layers import origins

EXAMPLES = sorted(path for path in (Path(__file__).parents[2] / "examples").glob("*.yaml") if path.stem != "collector")
FIRST = """\
sources:
  tetragon:
    tls: {insecure: true}
    filters:
      deny:
        - binary_regex: ["^/bin/$$x", 'a"b']
          pid: [1]
  tetragon_file/two: &file
    path: "${env:LOG_FOLDER}/tetragon.log"
  tetragon_file/three:
    <<: *file
    start_at: beginning
exporter:
  otlp_grpc:
    endpoint: localhost:4317
    headers: {x-api-key: "${env:API_KEY}"}
storage: /var/lib/otelbee
resource: {attributes: {repository: "https://user:swordfish@git.example"}}
"""
SECOND = """\
exporter:
  otlp_grpc: {timeout: 2s}
sources:
  tetragon:
    # replaces the list of the first file
    filters: {deny: [{namespace: [kube-system]}]}
"""
ENVIRON = {
    "API_KEY": "opensesame",
    "LOG_FOLDER": "/var/log",
    "OTELBEE__RESOURCE__HOST_NAME": "node-1",
    "OTELBEE__TELEMETRY__LOGS": "{level: warn}",
}
SETS = ["resource::attributes::team.name=core", "sources.tetragon.severity={high: ERROR}", "shutdown_timeout=3s"]


@pytest.fixture(name="files")
def _files(tmp_path: Path) -> list[Path]:
    files = [tmp_path / "first.yaml", tmp_path / "second.yaml"]
    for path, text in zip(files, (FIRST, SECOND), strict=True):
        path.write_text(text)
    return files


def shown(files: list[Path], sets: list[str] = SETS, environ: dict[str, str] = ENVIRON) -> str:
    """What is printed."""
    return effective.show(load(files, sets, environ), origins(files, sets, environ))


def origin_of(text: str, line: str) -> str:
    """The comment behind a line, with the folder of the test left out."""
    (found,) = re.findall(rf"^ *(?:- )?{re.escape(line)} +# (.*)$", text, re.MULTILINE)
    return re.sub(r"/\S*/", "", found)


def test_each_value_has_its_origin(files: list[Path]) -> None:
    """A file with its line, the variables that it names, --set, a variable of our own, or a default."""
    text = shown(files)
    expected = {
        "namespace: [kube-system]": "second.yaml:6",
        "start_at: beginning": "first.yaml:12",
        "timeout: 2s": "second.yaml:2",
        "directory: /var/lib/otelbee": "first.yaml:17",
        "team.name: core": "--set",
        "high: ERROR": "--set",
        "shutdown_timeout: 3s": "--set",
        "host_name: node-1": "OTELBEE__RESOURCE__HOST_NAME",
        "level: warn": "OTELBEE__TELEMETRY__LOGS",
        "queue_size: 256MiB": "default",
        "fsync: false": "default",
        "max_elapsed_time: 0s": "default",
    }
    assert {line: origin_of(text, line) for line in expected} == expected
    assert len(re.findall(r"path: /var/log/tetragon.log +# \S+first.yaml:9, \$LOG_FOLDER", text)) == 2


def test_no_secret_is_shown(files: list[Path]) -> None:
    """Neither a header's value nor a password in an address."""
    text = shown(files)
    assert "opensesame" not in text
    assert "swordfish" not in text
    assert text.count("[REDACTED]") == 2
    assert origin_of(text, 'x-api-key: "[REDACTED]"') == "first.yaml:16, $API_KEY"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_what_is_shown_means_the_same(path: Path, tmp_path: Path) -> None:
    """Read again, the output of every example is the same configuration."""
    again = tmp_path / "again.yaml"
    again.write_text(shown([path], [], {}))
    assert load([again], [], {}) == load([path], [], {})


def test_texts_that_look_like_something_else_survive(tmp_path: Path) -> None:
    """Dollar signs, quotes, numbers and words of YAML stay texts."""
    values = ["$HOME", "${env:X}", "yes", "null", "0123", "1e3", 'a"b', "a: b", "# c", "", " d ", "ü\n", "-", "[x]"]
    sets = [f"resource.attributes.k{number}='x'" for number in range(len(values))]
    config = load([EXAMPLES[0]], sets, {})
    attributes = {f"k{number}": value for number, value in enumerate(values)}
    config = config.model_copy(update={"resource": config.resource.model_copy(update={"attributes": attributes})})
    again = tmp_path / "again.yaml"
    again.write_text(effective.show(config, {}))
    assert load([again], [], {}).resource.attributes == attributes


def test_the_command(files: list[Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It prints on standard output; a wrong configuration is exit code 2 and its problems."""
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    arguments = [part for path in files for part in ("--config", str(path))]
    assert main(["print-config", *arguments]) == 0
    assert capsys.readouterr().out == shown(files, [], ENVIRON)
    assert main(["print-config", *arguments, "--set", "storge=/x"]) == 2
    assert 'storge: unknown key; did you mean "storage"?' in capsys.readouterr().err
