"""The command line in this process, as a user's terminal sees it: strict UTF-8 on stdout, exit code, exceptions."""

from __future__ import annotations

import contextlib
import io
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock


@dataclass(frozen=True)
class Ended:
    """What a command gave. `crash`: the traceback of what it let through; empty when it ended properly."""

    code: int
    out: str
    err: str
    crash: str = ""


def run_command(words: Sequence[str], cwd: Path, *, one_stream: bool = False) -> Ended:
    """Run `attnbench WORDS` in the folder `cwd`; `one_stream`: `out` holds stderr too, as a terminal shows both."""
    from attnbench import cli

    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    err = (
        out
        if one_stream
        else io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace", write_through=True)
    )
    code, crash = -1, ""
    with (
        contextlib.chdir(cwd),
        mock.patch.object(sys, "argv", ["attnbench", *words]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            cli.main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        except Exception:
            crash = traceback.format_exc()
    text, said = (stream.buffer.getvalue().decode("utf-8", "replace") for stream in (out, err))
    return Ended(code, text, "" if one_stream else said, crash)


def fault(ended: Ended) -> str:
    """What is wrong with how a command ended, whatever it was asked; empty where it accepted or refused properly."""
    if ended.crash:
        return f"traceback: {ended.crash.strip().splitlines()[-1][:200]}"
    if "Traceback (most recent call last)" in ended.err:
        return "traceback on stderr"
    if ended.code not in (0, 1, 2, 3, 4):
        return f"exit code {ended.code}"
    if ended.code and not ended.err.strip() and not ended.out.strip():
        return f"exit code {ended.code} without a sentence"
    if ended.code == 2 and len(ended.err) > 10_000:
        return f"a refusal of {len(ended.err)} characters"
    return ""
