"""The house rules that no linter knows: sizes, names, who prints, what each source must bring, what files may say."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from receiver.registry import EXPORTERS, SOURCES

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("receiver", "translators", "bpf", "proto", "benchmarks", "examples", "deploy")
MAX_MODULE_LINES, MAX_FUNCTION_LINES = 400, 60
FORBIDDEN_NAMES = {"utils", "helpers", "common", "base", "manager", "handler"}


def tracked() -> list[Path]:
    """Every file that is committed or about to be."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file()]


def modules() -> list[Path]:
    """Every module of ours that is neither generated nor a test."""
    found = [path for path in tracked() if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in PACKAGES]
    return [path for path in found if "translators/pb/" not in path.as_posix()]


def name_of(path: Path) -> str:
    """How a message names a file."""
    return path.relative_to(ROOT).as_posix()


def section_of(path: Path, title: str) -> str:
    """The section of a Markdown page under a heading of level two."""
    _, _, rest = path.read_text().partition(f"\n## {title}\n")
    assert rest, f"{name_of(path)} has no section {title!r}"
    return rest.partition("\n## ")[0]


def test_modules_and_functions_stay_short() -> None:
    """No module is longer than 400 lines and no function longer than 60."""
    long: list[str] = []
    for path in modules():
        text = path.read_text()
        if (lines := text.count("\n")) > MAX_MODULE_LINES:
            long.append(f"{name_of(path)}: {lines} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    long.append(f"{name_of(path)}: {node.name}() has {lines} lines")
    assert not long


def test_nothing_is_nested_deeper_than_package_folder_file() -> None:
    """A module lies in a package or in one folder of it; a source too long for one module is a folder of its name."""
    deep = [path for path in modules() if len(path.relative_to(ROOT).parts) > 3]
    assert {path.parent.parent for path in deep} <= {ROOT / "receiver" / "sources"}
    assert {path.parent.name for path in deep} <= set(SOURCES)


def test_no_module_has_a_name_that_says_nothing() -> None:
    """No module is called utils, helpers, common, base, manager or handler."""
    assert not [name_of(path) for path in modules() if FORBIDDEN_NAMES & set(path.stem.strip("_").split("_"))]


def test_only_the_command_prints_and_exits() -> None:
    """In the service, print and sys.exit stand in receiver/cli.py alone, and translators have neither."""
    found: list[str] = []
    for path in modules():
        if path.relative_to(ROOT).parts[0] not in {"receiver", "translators"} or name_of(path) == "receiver/cli.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {
                "print",
                "exit",
                "quit",
                "sys.exit",
                "os._exit",
            }:
                found.append(f"{name_of(path)}:{node.lineno}: {ast.unparse(node)}")
            if isinstance(node, ast.Name | ast.Attribute) and ast.unparse(node) in {
                "sys.stdout",
                "sys.stderr",
                "SystemExit",
            }:
                found.append(f"{name_of(path)}:{node.lineno}: {ast.unparse(node)}")
    assert not found


@pytest.mark.parametrize("source", sorted(SOURCES))
def test_source_brings_everything(source: str) -> None:
    """A registered source has its module, tests, documentation, example, benchmark and a line in the README."""
    either = {
        "its module": (f"receiver/sources/{source}.py", f"receiver/sources/{source}/__init__.py"),
        "its tests": (f"tests/receiver/sources/test_{source}.py", f"tests/receiver/sources/{source}/"),
        "its documentation": (f"docs/sources/{source}.md",),
        "its example": (f"examples/{source}.yaml",),
    }
    have = [name_of(path) for path in tracked()]
    missing = [
        f"{what}: {' or '.join(paths)}"
        for what, paths in either.items()
        if not any(name.startswith(path) if path.endswith("/") else name == path for path in paths for name in have)
    ]
    if f"| `{source}` |" not in (ROOT / "README.md").read_text():
        missing.append("its line in README.md")
    assert not missing


def test_configuration_reference_has_every_component() -> None:
    """docs/config.md has a section on every source and exporter."""
    sections = set(re.findall(r"^### `(.+)`$", (ROOT / "docs" / "config.md").read_text(), re.MULTILINE))
    assert {f"sources::{name}" for name in SOURCES} | {f"exporter::{name}" for name in EXPORTERS} <= sections


def test_committed_text_names_no_machine_and_no_registry() -> None:
    """No file holds an absolute path of somebody's machine or the address of a package index."""
    # Put together, so that this file does not hold them.
    words = ["/" + "home/", "/" + "work/", "pypi" + ".org", "python" + "hosted", "proxy.golang" + ".org"]
    words += ["index" + "-url", "GO" + "SUMDB"]
    found: list[str] = []
    for path in tracked():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        found += [
            f"{name_of(path)}:{number}: {word}"
            for number, line in enumerate(text.splitlines(), 1)
            for word in words
            if word in line
        ]
    assert not found


@pytest.mark.parametrize(
    "lock", ["requirements.lock", "requirements-dev.lock", "tests/peers/go.lock", "tests/peers/pyroscope.lock"]
)
def test_lock_pins_every_distribution_by_hash(lock: str) -> None:
    """Each requirement of a lock is one exact version with hashes, and the lock names no index."""
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert not re.search(r"^\s*--(?!hash=)", text, re.MULTILINE)
    requirements = re.split(r"\n(?=\S)", text.strip())
    unpinned = [each for each in requirements if not re.match(r"[\w.\[\]-]+==\S+.*--hash=sha256:", each, re.DOTALL)]
    assert not unpinned


def test_development_installs_what_runs() -> None:
    """Both locks agree on every distribution that otelbee runs with."""
    pins = [
        set(re.findall(r"^([\w.-]+==[^\s;\\]+)", (ROOT / lock).read_text(), re.MULTILINE))
        for lock in ("requirements.lock", "requirements-dev.lock")
    ]
    assert not pins[0] - pins[1]


def test_continuous_integration_runs_the_readmes_test_command() -> None:
    """The last thing .ci/run does is the test command of the README, so that pytest has the last word."""
    commands = re.findall(
        r"^```sh\n(.*?)\n```", section_of(ROOT / "README.md", "Two commands"), re.MULTILINE | re.DOTALL
    )
    assert commands == ["make run", "make test"]
    script = (ROOT / ".ci" / "run").read_text()
    assert script.splitlines()[-1] == commands[-1]
    assert "set -euo pipefail" in script
    assert "export CI=true" in script


def test_readme_shows_the_example_collector() -> None:
    """The Collector configuration to copy is examples/collector.yaml, word for word."""
    example = (ROOT / "examples" / "collector.yaml").read_text()
    _, _, without_comment = example.partition("\n")
    assert without_comment.strip() in (ROOT / "README.md").read_text()
    assert "--feature-gates=service.profilesSupport" in example


def test_links_between_pages_lead_somewhere() -> None:
    """Every relative link in a Markdown page names a file of the repository."""
    broken = [
        f"{name_of(page)}: {target}"
        for page in tracked()
        if page.suffix == ".md"
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert not broken


def test_every_silenced_rule_says_why() -> None:
    """Each ignore in pyproject.toml and each noqa or type: ignore in the code has codes and a reason."""
    project = (ROOT / "pyproject.toml").read_text()
    ruff = project[project.index("[tool.ruff.lint]") : project.index("[tool.ruff.lint.pydocstyle]")]
    silent = [
        line for line in ruff.splitlines() if re.search(r'"[A-Z]+\d*"', line) and "ALL" not in line and "#" not in line
    ]
    marker = re.compile(r"#\s*(noqa|type:\s*ignore)\b(.*)")
    for path in tracked():
        if path.suffix != ".py" or "translators/pb/" in path.as_posix() or path == Path(__file__):
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if (found := marker.search(line)) and not re.match(r"(: [A-Z0-9, ]+|\[[a-z, -]+\]) +(#|-) ?\S+", found[2]):
                silent.append(f"{name_of(path)}:{number}: {line.strip()}")
    assert not silent


def test_licence_is_the_unmodified_apache_text() -> None:
    """LICENSE is Apache-2.0 as published, and the metadata says the same."""
    text = (ROOT / "LICENSE").read_text()
    assert text.lstrip().startswith("Apache License\n                           Version 2.0, January 2004")
    assert len(text.split()) == 1581
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license"] == "Apache-2.0"


def test_changelog_says_what_is_stable() -> None:
    """CHANGELOG.md follows Keep a Changelog and names the stable parts."""
    text = (ROOT / "CHANGELOG.md").read_text()
    assert "\n## [Unreleased]\n" in text
    for part in ("keys of the configuration", "names of attributes", "how ids are derived"):
        assert part in text


def test_pyarrow_is_loaded_where_a_parca_source_runs_only() -> None:
    """It takes 35 MiB and a quarter of a second; every other configuration does without."""
    code = "import sys, receiver.cli; sys.exit('pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
