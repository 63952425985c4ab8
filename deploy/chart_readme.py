"""The table of values in the chart's README, from the comments in values.yaml.

python deploy/chart_readme.py            write it
python deploy/chart_readme.py --check    only say, by exit code 1, that it is out of date
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).resolve().parent.parent / "helm" / "otelbee"
README = CHART / "README.md"
BEGIN, END = "<!-- values: deploy/chart_readme.py -->\n", "<!-- end of values -->"
_KEY = re.compile(r"( *)([A-Za-z]+):")


def described() -> dict[str, str]:
    """What values.yaml says in ``# --`` comments, by path of the key below each."""
    found: dict[str, str] = {}
    path: list[str] = []
    text = ""
    for line in (CHART / "values.yaml").read_text().splitlines():
        if "# -- " in line:
            text = line.partition("# -- ")[2]
        elif match := _KEY.match(line):
            path = [*path[: len(match[1]) // 2], match[2]]
            if text:
                found[".".join(path)] = text
            text = ""
    return found


def table() -> str:
    """Every described value with its default, in the order of values.yaml."""
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    rows = ["| value | default | |", "|---|---|---|"]
    for path, text in described().items():
        value: Any = defaults
        for key in path.split("."):
            value = value[key]
        shown = json.dumps(value) if isinstance(value, str | dict | list | bool) else str(value)
        rows.append(f"| `{path}` | `{shown}` | {text.replace('|', chr(92) + '|')} |")
    return "\n".join(rows) + "\n"


def main() -> int:
    """Write the table, or compare it."""
    text = README.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    made = f"{before}{BEGIN}\n{table()}\n{END}{after}"
    if "--check" in sys.argv[1:]:
        return int(made != text)
    README.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
