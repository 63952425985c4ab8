"""What the doctor finds: one line of cause and one of remedy."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

Verdict = Literal["ok", "note", "fail"]

_MARKS: dict[Verdict, tuple[str, str]] = {
    "ok": ("ok  ", "\x1b[32m"),
    "note": ("note", "\x1b[33m"),
    "fail": ("FAIL", "\x1b[31m"),
}
_RESET = "\x1b[0m"
_SEPARATOR = re.compile(r"(?:[:;] )(?![^(]*\))")
"""Where the remedy begins in a message of ours: behind the last colon or semicolon that is in no parentheses."""


class Finding(NamedTuple):
    """One thing that was looked at."""

    check: str
    """What was looked at: a place of the configuration."""
    verdict: Verdict
    """``note`` does not keep this configuration from working."""
    cause: str
    remedy: str = ""


def failure(check: str, message: str, remedy: str = "") -> Finding:
    """A failure from a message of another part, which says the cause and then what to do."""
    if not remedy and (ends := list(_SEPARATOR.finditer(message))):
        message, remedy = message[: ends[-1].start()], message[ends[-1].end() :]
    return Finding(check, "fail", message, remedy)


def works(findings: Sequence[Finding]) -> bool:
    """Whether nothing that was found keeps the configuration from working."""
    return all(finding.verdict != "fail" for finding in findings)


def as_lines(findings: Sequence[Finding], *, colour: bool) -> list[str]:
    """Write findings for people."""
    width = max((len(finding.check) for finding in findings), default=0)
    lines: list[str] = []
    for finding in findings:
        mark, code = _MARKS[finding.verdict]
        lines.append(f"{code}{mark}{_RESET}" if colour else mark)
        lines[-1] += f"  {finding.check:<{width}}  {finding.cause}"
        if finding.remedy:
            lines.append(f"{'':<{len(mark) + width + 4}}-> {finding.remedy}")
    return lines


def as_text(findings: Sequence[Finding], *, colour: bool) -> str:
    """Write findings for people, the verdict at the end."""
    wrong = sum(finding.verdict == "fail" for finding in findings)
    problems = "1 problem" if wrong == 1 else f"{wrong} problems"
    return "\n".join(
        [*as_lines(findings, colour=colour), "", f"It would not work: {problems}." if wrong else "It would work.", ""]
    )


def as_json(findings: Sequence[Finding]) -> str:
    """Write findings for programs."""
    return json.dumps({"works": works(findings), "findings": [each._asdict() for each in findings]}, indent=2) + "\n"
