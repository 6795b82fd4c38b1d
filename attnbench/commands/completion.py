"""`attnbench completion`: the script that completes commands and options in a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> int:
    """Print the completion script of a shell.

        eval "$(attnbench completion bash)"

    It completes commands, options, and the names of mechanisms, models, suites, protocols, devices and runtimes.
    """
    root = click.get_current_context().find_root().command
    completion = get_completion_class(shell)
    if completion is None:
        raise click.UsageError(f"shell must be bash, zsh or fish; got {shell}")
    click.echo(completion(root, {}, "attnbench", "_ATTNBENCH_COMPLETE").source())
    return 0
