"""What the shell completes after an option: mechanisms, backbones, suites, protocols, devices, runtimes. No torch.

A value is a comma-separated list; its last item is completed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def items(names: Callable[[], Iterable[str]]) -> Complete:
    """Complete the last item of a list by those names."""

    def complete(_context: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
        before, comma, last = typed.rpartition(",")
        return [CompletionItem(f"{before}{comma}{name}") for name in names() if name.startswith(last)]

    return complete


def mechanisms() -> list[str]:
    """The built-in layers."""
    from attnbench.registry.defaults import declared_names

    return declared_names(layers=True)


def models() -> list[str]:
    """The built-in backbones and task models."""
    from attnbench.registry.defaults import declared_names

    return declared_names(layers=False)


def suites() -> list[str]:
    """The suites of published tables."""
    from attnbench.published.suites import SUITES

    return list(SUITES)


def protocols() -> list[str]:
    """The named protocols."""
    from attnbench.planning.protocol import PROTOCOLS

    return list(PROTOCOLS)


def devices() -> list[str]:
    """The kinds of device, and `all`."""
    from attnbench.machine.devices import kinds

    return [*kinds(), "all"]


def runtimes() -> list[str]:
    """The built-in runtimes."""
    from attnbench.runtimes import BUILTIN

    return list(BUILTIN)


OF_MECHANISMS, OF_RUNTIMES = items(mechanisms), items(runtimes)
BY_OPTION: dict[str, Complete] = {  # of those that describe a sweep
    "mechanism": OF_MECHANISMS,
    "reference": OF_MECHANISMS,
    "backbone": items(models),
    "task": items(models),
    "suite": items(suites),
    "protocol": items(protocols),
    "device": items(devices),
    "runtime": OF_RUNTIMES,
}
