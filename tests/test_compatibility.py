"""docs/compatibility.md says for each version how it is known to work, and what proves it."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "compatibility.md"


class Row(NamedTuple):
    """A row of any of the page's tables."""

    version: str
    what: str
    how: str
    test: str


def rows(title: str | None = None) -> list[Row]:
    """The rows of the table under a heading, or of all of them."""
    text = PAGE.read_text()
    if title is not None:
        text = text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    found = [
        Row(*(cell.strip() for cell in line[1:-1].split("|"))) for line in re.findall(r"^\|.*\|$", text, re.MULTILINE)
    ]
    return [row for row in found if row.how != "how" and not row.how.startswith("---")]


def names(path: Path) -> set[str]:
    """The tests of a module: its functions and its classes."""
    defined = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, defined)}


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row.version}: {row.what}")
def test_each_row_names_what_proves_it(row: Row) -> None:
    """``real`` and ``vector`` name a test that exists, ``untested`` names none."""
    if row.how == "untested":
        assert row.test == ""
        return
    assert row.how in {"real", "vector"}
    named = re.fullmatch(r"`(tests/\S+\.py)::((?:test_|Test)\w+)`", row.test)
    assert named, row.test
    assert named[2] in names(ROOT / named[1])


def test_every_version_of_tetragon_has_its_vector() -> None:
    """From 1.0 to 1.8, and each vector of the tests has its row."""
    vectors = [row for row in rows("Tetragon") if row.how == "vector"]
    assert {f"1.{minor}" for minor in range(9)} <= {re.split(r"[ ]", row.version)[0] for row in vectors}
    named = {row.test.strip("`").partition("::")[2] for row in vectors}
    tests = names(ROOT / "tests" / "translators" / "tetragon" / "test_versions.py")
    assert named == {name for name in tests if name.startswith("test_")}


def test_every_version_of_the_parca_agent_has_a_row() -> None:
    """From 0.31 to 0.49, without a hole."""
    covered: set[int] = set()
    for row in rows("Parca agent"):
        minors = [int(each) for each in re.findall(r"0\.(\d+)", row.version)]
        covered |= set(range(minors[0], minors[1] + 1)) if len(minors) == 2 and " to " in row.version else set(minors)
    assert set(range(31, 50)) <= covered
