"""Every command that reads run folders, called in this process, and what came of it."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from attnbench import cli
from attnbench.errors import AttnbenchError

COMMANDS: dict[str, Callable[[Path, Path], list[str]]] = {
    "show": lambda run, _: ["show", str(run)],
    "export": lambda run, _: ["export", str(run)],
    "export json": lambda run, _: ["export", "--format", "json", str(run)],
    "compare": lambda run, _: ["compare", str(run), str(run)],
    "compare arms": lambda run, _: ["compare", "--arms", "msa,hilo", str(run)],
    "claims": lambda run, _: ["claims", str(run)],
    "recommend": lambda run, _: ["recommend", "--res", "224", str(run)],
    "report": lambda run, out: ["report", "--out", str(out), str(run)],
}

# What acts on a terminal or reorders text, and what is no character: all control characters but the line break.
ACTIVE = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2064\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]"
)


class Answer(NamedTuple):
    """What a command wrote to stdout and stderr, and its exit code."""

    out: str
    err: str
    code: int


def call(words: Sequence[str]) -> Answer:
    """Run the command line as `attnbench` does; an error that it does not turn into a sentence is raised."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["attnbench", *words])
        code = cli._run()
    return Answer(out.getvalue(), err.getvalue(), code if isinstance(code, int) else 0)


@contextlib.contextmanager
def without_drawing() -> Iterator[None]:
    """The report makes its figures, and saves none of them."""
    from attnbench.report import chart  # a name: `attnbench.report` may be the function of that name

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chart, "KINDS", ())
        patch.setattr(chart.Chart, "read_back", lambda *_: None)
        patch.setattr(chart.Chart, "place", lambda self: None)
        patch.setattr(chart.Chart, "labels", lambda *_: None)
        patch.setattr(chart.Chart, "end_labels", lambda *_: None)
        yield


def assert_reads_or_refuses(name: str, run: Path, out: Path) -> str:
    """The command either reads the folder, or says in a sentence what is wrong with it; returns which."""
    try:
        answer = call(COMMANDS[name](run, out))
    except AttnbenchError as error:  # pragma: no cover  the command line turns it into a sentence
        raise AssertionError(f"{name} raised {error}") from error
    assert not ACTIVE.search(answer.out + answer.err), f"{name} wrote {answer.out + answer.err!r}"
    assert "Traceback" not in answer.err
    if answer.code == 0:
        return "read"
    assert answer.code == 2, f"{name} ended with {answer.code}: {answer.err}"
    assert re.search("^attnbench: .{40}", answer.err, re.MULTILINE), answer.err
    return "refused"
