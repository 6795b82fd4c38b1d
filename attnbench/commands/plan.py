"""`attnbench plan`: the cells of a sweep, which are declined and why, and an estimate of the time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import click

from attnbench.commands import options

if TYPE_CHECKING:
    from attnbench.execution.rates import Rate
    from attnbench.planning.cell import Cell
    from attnbench.planning.remaining import Remaining
    from attnbench.planning.sweep import Plan, Sweep
    from attnbench.registry import Registry


@click.command("plan")
@options.sweep_options
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON to stdout.")
@click.option("--all", "every_cell", is_flag=True, help="A row for every cell.")
def command(as_json: bool, every_cell: bool, **given: Any) -> int:
    """Show the cells of a sweep, which are declined and why, and the estimated time. Nothing is measured."""
    return show_plan(options.read_sweep(given), as_json=as_json, every_cell=every_cell)


def show_plan(sweep: Sweep, *, as_json: bool, every_cell: bool = False) -> int:
    """Print the plan of `sweep` as tables or as JSON; returns the exit code 0."""
    from rich.console import Console

    from attnbench.execution import runner
    from attnbench.execution.progress import duration
    from attnbench.execution.rates import describe
    from attnbench.report import terminal

    planned, known = runner.make_plan(sweep)
    rates = known_rates(planned, may_probe=planned.sweep.device)
    remaining = time_left(planned, known, rates)
    within_s = remaining.protocol.within_s
    total, (least, most) = min(remaining.total_s, within_s), remaining.range_s
    at = describe(rates, {cell.id: cell.device for cell in planned.cells})
    if as_json:
        cells = [
            {**c.as_dict(), "id": c.id, "declined": planned.declined.get(c.id), "isolated": c.id in planned.isolated}
            for c in planned.cells
        ]
        text = {"hash": planned.hash, "cells": cells, "notes": list(planned.notes), "estimated_s": round(total, 1),
                "estimated_range_s": [round(least, 1), round(most, 1)], "estimated_at": at}  # fmt: skip
        text |= {"within_s": within_s} if remaining.protocol.screens else {}
        click.echo(json.dumps({**text, "problems": known.problems}))
        return 0
    console, errors = terminal.open_console(), Console(stderr=True)
    for problem in known.problems:
        terminal.print_words(errors, f"warning: {problem}", "yellow")
    terminal.print_words(console, headline(planned), lines=True)
    for table in terminal.plan_tables(planned, every_cell=every_cell):
        console.print(table)
    if remaining.protocol.screens:
        terminal.print_words(console, budget_sentence(least, within_s))
        return 0
    span = "" if least == most else f" ({duration(least)} to {duration(most)}, as precision needs rounds)"
    terminal.print_words(console, f"about {duration(total)}{span}")
    terminal.print_words(console, f"estimated from the mechanisms' formulas{f' at {at}' if at else ''}")
    terminal.print_words(console, "the run updates the estimate")
    return 0


def budget_sentence(first_s: float, within_s: float) -> str:
    """What a budget of `within_s` seconds permits, where trials and two processes of every arm take `first_s`."""
    from attnbench.execution.progress import duration

    every = f"trials and two processes of every arm take about {duration(first_s)} (estimated)"
    if first_s > within_s:
        return f"{every}, more than the {duration(within_s)} of --within: some cells will have fewer rounds, or none"
    return f"{every}; up to {duration(within_s - first_s)} more of --within go to the arms that may lead"


def headline(planned: Plan) -> str:
    """The first line of a plan: every axis with its values, defaults included, and the notes below it."""
    s = planned.sweep

    def each(values: Iterable[object]) -> str:
        return ",".join(str(x) for x in dict.fromkeys(values))

    cells = planned.cells
    layers = [c for c in cells if c.scope == "layer"]
    variants = len({c.variant for c in cells})
    words = [
        f"plan {planned.hash}: cells {len(cells)}; variants {variants}",
        f"res {each(f'{c.res_h}x{c.res_w}' for c in cells)}",
        f"batch {each(c.batch for c in cells)}",
    ]
    if layers:
        words += [
            f"dim {each(c.dim for c in layers)}",
            f"heads {each(c.heads for c in layers)}",
            f"stride {each(c.stride for c in layers)}",
        ]
    words += [
        *([f"zip {each(s.zip)}"] if s.zip else []),
        f"device {each(c.device for c in cells)}",
        f"precision {each(c.precision for c in cells)}",
        f"pass {each(c.pass_ for c in cells)}",
        f"kernel {each(c.kernel for c in cells)}",
        f"runtime {each(c.runtime for c in cells)}",
        *([f"graphs {each('yes' if c.graphs else 'no' for c in cells)}"] if any(c.graphs for c in cells) else []),
        f"threads {each(c.threads for c in cells)}",
        f"allocator {each(c.allocator for c in cells)}",
        f"protocol {s.protocol}",
        f"reference {s.reference}",
    ]
    return "; ".join(words) + "".join(f"\n{note}" for note in planned.notes)


def known_rates(planned: Plan, *, may_probe: Iterable[str] = ("cpu",)) -> dict[str, Rate]:
    """What the time of the cells that are not declined is estimated by; `may_probe`: as of `rates_of`."""
    from attnbench.execution.rates import rates_of

    return rates_of([c for c in planned.cells if c.id not in planned.declined], may_probe=may_probe)


def time_left(planned: Plan, known: Registry, rates: Mapping[str, Rate] | None = None) -> Remaining:
    """The remaining seconds of a run of this plan, before anything is measured; `rates`: by default `known_rates`."""
    from attnbench.planning import protocol
    from attnbench.planning.remaining import Remaining

    numbers = protocol.get(planned.sweep.protocol, planned.sweep.overrides)
    calls_s = estimate_calls(planned.cells, known, known_rates(planned) if rates is None else rates)
    return Remaining(calls_s, numbers, planned.cells, planned.sweep.measure, planned.isolated)


def estimate_calls(cells: Iterable[Cell], known: Registry, rates: Mapping[str, Rate]) -> dict[str, float]:
    """Estimate the seconds of one call, by the id of each cell that has a rate.

    A library's model has no formula; its multiply-accumulates are those that timm published, where it did.
    """
    from attnbench.planning.duration import call_s
    from attnbench.published import timm
    from attnbench.report.survival_sources import timm_name

    seconds: dict[str, float] = {}
    for cell in cells:
        if cell.id not in rates:
            continue
        try:
            macs: float | None = known.macs(cell.mechanism, cell.size)
        except ValueError:  # a plugin's formula; the estimate does without it
            macs = None
        if macs is None and cell.scope == "backbone":
            macs = timm.macs(timm_name(cell.mechanism), cell.res_h * cell.res_w)
        seconds[cell.id] = call_s(macs, cell, rates[cell.id].macs_per_s)
    return seconds
