"""The command line. It imports no torch, and the module of a command only when the command runs.

Exit codes: 0 done; 1 a verdict that --fail-on names; 2 usage error; 3 some cells failed; 4 the run could not be
finished or its output could not be written (the same command resumes it); 130 interrupted, with everything saved. A
standard stream that is closed is replaced by the null device.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
from typing import Any

import click

from attnbench import __version__
from attnbench.errors import AttnbenchError, UnfinishedError
from attnbench.inputs import printable

_LONGEST_LINE, _MOST_LINES = 4000, 100  # of a message

COMMANDS = {
    "run": "Measure a sweep and store it as a run folder.",
    "plan": "Show the cells of a sweep, which are declined and why, and the estimated time.",
    "list": "List mechanisms, backbones, task models, protocols or devices.",
    "show": "Describe one mechanism, one run folder, or one stored self-test.",
    "check": "Test a mechanism, built-in or your own, against the contract.",
    "new": "Write a file with a new mechanism that passes `check`.",
    "selftest": "Measure the smallest difference that this machine can detect now.",
    "protocols": "Show what each part of the authors' measuring procedure changes.",
    "report": "Draw tables, figures and one page from run folders.",
    "merge": "Collect several runs, of one machine or of many, in one folder.",
    "atlas": "Draw one page of every run below some folders.",
    "compare": "Compare two runs, or the arms of one.",
    "ab": "Compare two states of a git repository: a mechanism before and after a change.",
    "claims": "Judge the published claims against run folders.",
    "survive": "Show which rankings survive another runtime, kernel, batch, precision or device.",
    "recommend": "Name the best mechanisms for a resolution and a device, from run folders.",
    "spectrum": "Draw the Fourier spectrum of HiLo's two branches.",
    "export": "Write a run's records as csv, json or parquet.",
    "doctor": "Describe this machine and what could disturb a measurement.",
    "completion": "Print the shell completion for bash, zsh or fish.",
}


class LazyGroup(click.Group):
    """A group that imports the module of a command when the command runs, so that --help is fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the names in the order in which a user needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import the module of that name in attnbench/commands."""
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"attnbench.commands.{name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help page from COMMANDS, without importing the modules."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="attnbench")
def group() -> None:
    """Find out which attention mechanism suits your resolution and your device.

    Measures FLOPs, throughput and memory of vision attention mechanisms. Start with

        attnbench run --res 224 --protocol quick
    """


def main() -> None:
    """Run the command line. A usage error prints one sentence, without a traceback, and exits with code 2."""
    _open_standard_streams()
    code: Any
    try:
        code = _run()
        sys.stdout.flush()
    except OSError as error:  # the output: what is read from or written to a run folder has its own sentence
        if error.filename is not None:
            raise
        code = 0 if isinstance(error, BrokenPipeError) else UnfinishedError.exit_code
        _discard_output(error)
    sys.exit(code if isinstance(code, int) else 0)


def _run() -> Any:
    """Run the command line; its exit code."""
    code: Any
    try:
        code = group.main(prog_name="attnbench", standalone_mode=False)
    except click.ClickException as error:
        said = io.StringIO()
        error.show(said)
        _say(said.getvalue())
        code = error.exit_code
    except AttnbenchError as error:
        _say(f"attnbench: {error}", indent="  ")  # shows what belongs to the message
        code = error.exit_code
    except MemoryError:
        _say("attnbench: there was not enough memory; what was measured is kept; free memory or raise the limit, then "
             "run the same command again")  # fmt: skip
        code = UnfinishedError.exit_code
    except (KeyboardInterrupt, click.Abort):
        with contextlib.suppress(OSError):
            click.echo("interrupted", err=True)
        code = 130
    except SystemExit as end:  # click makes one of a pipe that the reader of our output has closed
        if not isinstance(end.__context__, BrokenPipeError):
            raise
        code = 0
    return code


def _say(message: str, indent: str = "") -> None:
    """Write a message to stderr: what was typed may hold anything, so each line is bounded and printable.

    `indent` stands before all lines but the first.
    """
    with contextlib.suppress(OSError):  # stderr is full, or nobody reads it
        for number, line in enumerate(message.splitlines()[:_MOST_LINES]):
            click.echo(f"{indent if number else ''}{printable(line, _LONGEST_LINE)}", err=True)


def _open_standard_streams() -> None:
    """Open the null device for a standard stream that is closed: a file of ours must not take its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    sys.stdin = sys.stdin or os.fdopen(0)
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")
    for stream in (sys.stdout, sys.stderr):  # a letter that the terminal's encoding lacks is no error
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _discard_output(error: OSError) -> None:
    """Say why the output cannot be written, where that can be said, and let the rest of it go."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    with contextlib.suppress(OSError):
        if not isinstance(error, BrokenPipeError):
            click.echo(
                f"attnbench: the output cannot be written: {error.strerror}; what was measured is kept", err=True
            )
            sys.stderr.flush()
    os.dup2(null, 2)
