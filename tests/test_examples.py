"""What the documentation and the examples show is true: configurations are valid, commands exist, the demo runs."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from bpf.live import require_bpf
from peers import build
from peers.processes import Collector, run_otelbee
from peers.records import uids

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.yaml") if path.stem != "collector")
PAGES = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")})
DEMO_EVENTS = 85
_COMMAND = re.compile(r"(?:^|\| *|sudo )(?:\S*/)?otelbee ([\w-]+)", re.MULTILINE)
"""Of otelbee where it is what a shell runs, and not the name of a container or a release."""


def blocks(language: str) -> list[tuple[str, str]]:
    """Every code block of a language in our pages, with the page's name."""
    found = [
        (page.name, block)
        for page in PAGES
        for block in re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    ]
    assert found
    return found


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example_configuration_is_valid(path: Path) -> None:
    """``otelbee validate`` has nothing to say about an example."""
    done = run_otelbee("validate", "--config", path)
    assert (done.returncode, done.stderr.decode()) == (0, "")


COMPLETE = [
    pytest.param(block, id=f"{page}-{number}")
    for number, (page, block) in enumerate(blocks("yaml"))
    if isinstance(parsed := yaml.safe_load(block), dict) and {"sources", "exporter"} <= set(parsed)
]
assert COMPLETE


@pytest.mark.parametrize("block", COMPLETE)
def test_complete_configuration_of_a_page_is_valid(block: str, tmp_path: Path) -> None:
    """So it has about every configuration in our pages that has sources and an exporter."""
    config = tmp_path / "config.yaml"
    config.write_text(block)
    done = run_otelbee("validate", "--config", config)
    assert (done.returncode, done.stderr.decode()) == (0, "")


@pytest.mark.usefixtures("peers")
def test_example_collector_is_valid() -> None:
    """The real Collector accepts examples/collector.yaml, profiles pipeline included, with the gate it names."""
    path = ROOT / "examples" / "collector.yaml"
    command = [build.otelcol(), "validate", "--feature-gates=service.profilesSupport", f"--config={path}"]
    done = subprocess.run(command, capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stderr.decode()) == (0, "")


def test_commands_of_the_pages_exist() -> None:
    """Each ``otelbee`` and ``make`` command in a shell block is one that there is."""
    text = run_otelbee("--help").stdout.decode()
    commands = set(re.findall(r"^  ([\w-]+)  ", text, re.MULTILINE))
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert "run" in commands
    unknown = []
    for page, block in blocks("sh"):
        unknown += [f"{page}: otelbee {each}" for each in re.findall(_COMMAND, block) if each not in commands]
        unknown += [f"{page}: make {each}" for each in re.findall(r"make (\w+)", block) if each not in targets]
    assert not unknown


def _demo(collector: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "examples/demo.py", collector]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)


def test_demo_shows_the_recording_without_a_collector(free_port: Callable[[], int]) -> None:
    """``make run`` ends by itself with what it showed, secrets replaced, and what to do next."""
    nobody = f"127.0.0.1:{free_port()}"
    done = _demo(nobody)
    assert done.returncode == 0, done.stderr
    assert f"No Collector on {nobody}." in done.stdout
    assert f"{DEMO_EVENTS} events of Tetragon became as many OTLP log records." in done.stdout
    assert done.stdout.count("/usr/bin/curl -u deploy:<redacted:") >= 2
    assert "Sommer2026" not in done.stdout + done.stderr
    assert " error\t" not in done.stderr


def test_demo_shows_live_process_events_as_root(free_port: Callable[[], int]) -> None:
    """As root the programs that it starts are shown beside the recording, as the kernel saw them."""
    require_bpf()
    done = _demo(f"127.0.0.1:{free_port()}")
    assert done.returncode == 0, done.stderr
    assert "Live from this machine's kernel" in done.stdout
    assert re.search(r'^exec /bin/sh -c "exit 7" process\.pid=', done.stdout, re.MULTILINE)
    assert re.search(r'^exit /bin/sh -c "exit 7" 7 .*process\.exit\.code=7\b', done.stdout, re.MULTILINE)
    assert re.search(r"[1-9]\d* starts and ends of processes on this machine", done.stdout)
    assert "without a single capability" in done.stderr or "the receiver runs as uid" in done.stderr


def test_demo_without_root_says_what_it_would_need() -> None:
    """Without root there is the recording, and a line on what root would add."""
    said = runpy.run_path(str(ROOT / "examples" / "demo.py"))["without_kernel"](1000)
    assert "sudo make run" in said
    assert "python3-bpfcc" in said


@pytest.mark.usefixtures("peers")
def test_demo_forwards_where_a_collector_answers(tmp_path: Path) -> None:
    """With a Collector there, the records reach it and are shown all the same."""
    with Collector(tmp_path) as collector:
        done = _demo(collector.endpoint)
        assert done.returncode == 0, done.stderr
        assert f"A Collector answers on {collector.endpoint}" in done.stdout
        has = re.search(r"has (\d+) of all these", done.stdout)
        assert has
        assert int(has[1]) >= DEMO_EVENTS  # as root there are live events as well
        assert "/usr/bin/cat /etc/shadow" in done.stdout
        assert len(uids(collector.records())) == DEMO_EVENTS
