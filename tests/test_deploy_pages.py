"""The pages in docs/deploy keep their promises: one command first, how to see and to remove it last, and nothing made up."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(path for path in (ROOT / "docs" / "deploy").glob("*.md") if path.name != "README.md")
FOLDERS = ("deploy", "docs", "examples", "helm", "tests", "bpf", "receiver", "translators")
MADE = {
    "dist/install.sh": "deploy/systemd/install.sh",
    "deploy/compose/output/telemetry.jsonl": "deploy/compose/compose.local.yaml",
}
"""Files that a page's own commands make, and what says so."""


def blocks(text: str) -> list[str]:
    """The shell blocks of a text."""
    return re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_begins_with_one_command_and_ends_with_its_removal(page: Path) -> None:
    """The first shell block has one line; the last sections say how to see that it works and how to remove it."""
    text = page.read_text()
    (first, *_) = blocks(text)
    assert len(first.replace("\\\n", "").strip().splitlines()) == 1
    *_, see, remove = text.split("\n## ")
    for section, title in ((see, "See that it works"), (remove, "Remove it")):
        assert section.splitlines()[0] == title
        assert blocks(section)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_that_a_page_names_exist(page: Path) -> None:
    """A path of the repository in a command or in code is one that there is."""
    text = page.read_text()
    named = set(re.findall(rf"(?<![\w/.-])((?:{'|'.join(FOLDERS)})/[\w./-]+\w)", "\n".join(blocks(text))))
    named |= set(re.findall(rf"`((?:{'|'.join(FOLDERS)})/[\w./-]+)`", text))
    named |= set(re.findall(r"(?<![\w/.-])(dist/[\w.-]+\w)", "\n".join(blocks(text))))
    assert [path for path in sorted(named) if not (ROOT / MADE.get(path, path)).exists()] == []


def test_the_overview_has_every_page() -> None:
    """docs/deploy/README.md links to each page, and the README of the repository to it."""
    overview = (ROOT / "docs" / "deploy" / "README.md").read_text()
    assert [page.name for page in PAGES if f"]({page.name})" not in overview] == []
    assert "](docs/deploy/README.md)" in (ROOT / "README.md").read_text()


def test_paths_of_the_units_are_those_of_the_page() -> None:
    """What the units and the script write to is what the page names and removes."""
    page = (ROOT / "docs" / "deploy" / "systemd.md").read_text()
    removed = page.partition("\n## Remove it\n")[2]
    script = (ROOT / "deploy" / "systemd" / "install.sh").read_text()
    for path in set(re.findall(r"(/(?:etc|opt|var/lib)/[\w./-]*otelbee[\w.-]*)", script)):
        assert any(path == each or path.startswith(f"{each}/") for each in re.findall(r"(/\S+)", removed)), path
