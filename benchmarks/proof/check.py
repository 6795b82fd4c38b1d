"""Checks and their verdicts, and the table of all steps. No torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

PROVED, REFUTED, NOT_APPLICABLE, UNFINISHED = "proved", "refuted", "not applicable", "not finished"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One question: what was expected, what was seen, and what that makes of it."""

    name: str
    expected: str
    seen: str
    verdict: str


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a step gave: its checks, the commands that repeat it, and the seconds that it took."""

    step: str
    checks: tuple[Check, ...]
    commands: tuple[str, ...] = ()
    seconds: float = 0.0
    device: str = field(default="")

    @property
    def finished(self) -> bool:
        """Whether every check has its answer, so that the step need not be repeated."""
        return all(check.verdict != UNFINISHED for check in self.checks)

    def write(self, path: Path) -> None:
        """Store the result as JSON, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".part")
        draft.write_text(json.dumps(asdict(self), indent=1) + "\n")
        draft.replace(path)


def read(path: Path) -> Result | None:
    """The stored result; None where there is none, or only a damaged one."""
    try:
        data = json.loads(path.read_text())
        checks = tuple(Check(**check) for check in data.pop("checks"))
        return Result(**{**data, "checks": checks, "commands": tuple(data["commands"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def check(name: str, expected: str, seen: object, holds: bool) -> Check:
    """A question with an answer."""
    return Check(name=name, expected=expected, seen=str(seen), verdict=PROVED if holds else REFUTED)


def not_applicable(name: str, expected: str, reason: str) -> Check:
    """A question that this device, or this installation, does not raise."""
    return Check(name=name, expected=expected, seen=reason, verdict=NOT_APPLICABLE)


def unfinished(name: str, expected: str, reason: str) -> Check:
    """A question that is still open; the same command asks it again."""
    return Check(name=name, expected=expected, seen=reason, verdict=UNFINISHED)


def table(results: Sequence[Result], head: Sequence[str]) -> str:
    """The Markdown page of all steps: a line of counts, the table, and the commands that repeat each step."""
    checks = [c for result in results for c in result.checks]
    verdicts = (PROVED, REFUTED, NOT_APPLICABLE, UNFINISHED)
    counts = ", ".join(f"{sum(c.verdict == v for c in checks)} {v}" for v in verdicts)
    lines = ["# What a device proves of attnbench", "", *head, "", f"{counts}.", ""]
    lines += ["| step | question | expected | seen | verdict |", "|---|---|---|---|---|"]
    lines += [
        f"| {result.step} | {' | '.join(map(_cell, (c.name, c.expected, c.seen, c.verdict)))} |"
        for result in results
        for c in result.checks
    ]
    lines += ["", "## Commands", ""]
    for result in results:
        lines += [f"{result.step}, {result.seconds:.0f} s:", "", *(f"    {c}" for c in result.commands or ("-",)), ""]
    return "\n".join(lines).rstrip() + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|") or "-"
