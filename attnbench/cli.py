"""The command line: words typed -> one call. Imports no torch, and a command's module only when it is used.

Exit codes: 0 done; 1 a regression or a contradicted claim where asked to fail on it; 2 usage; 3 some cells
failed; 130 interrupted with everything saved.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from attnbench import __version__
from attnbench.errors import AttnbenchError

COMMANDS = {
    "run": "Measure a sweep and store it as a run folder.",
    "plan": "Show the cells of a sweep, what declines and why, and the time it will take.",
    "list": "List mechanisms, backbones, task models, protocols or devices.",
    "show": "Describe one mechanism, or one run folder.",
    "check": "Test a mechanism, built-in or your own, against the contract.",
    "new": "Write a file with a new mechanism that passes `check`.",
    "selftest": "Measure what this machine can resolve right now.",
    "report": "Draw tables, figures and one page from run folders.",
    "compare": "Compare two runs, or the arms of one.",
    "claims": "Judge the published claims by run folders.",
    "recommend": "Name the best mechanisms for a size and a device, from run folders.",
    "spectrum": "Draw the Fourier spectrum of HiLo's two branches.",
    "export": "Write a run's records as csv, json or parquet.",
    "doctor": "Describe this machine and what would disturb a measurement.",
    "completion": "Print the shell completion for bash, zsh or fish.",
}


class Lazy(click.Group):
    """A group that imports a command's module when the command is used, and not to list it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names, in the order of a user's work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import the module of that name in attnbench/commands."""
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"attnbench.commands.{name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help page from COMMANDS, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="attnbench")
def group() -> None:
    """Find out which attention mechanism suits your resolution and your device.

    Measures FLOPs, throughput and memory of vision attention mechanisms. Start with

        attnbench run --res 224 --protocol quick
    """


def main() -> None:
    """Run the command line; a user's mistake ends with a sentence and exit code 2, never a traceback."""
    try:
        code: Any = group.main(prog_name="attnbench", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except AttnbenchError as error:
        click.echo(f"attnbench: {error}", err=True)
        code = 2
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        code = 130
    except BrokenPipeError:
        sys.stderr.close()
        code = 0
    sys.exit(code if isinstance(code, int) else 0)
