"""`attnbench selftest`: the smallest difference that this machine can detect now."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from attnbench import inert, inputs
from attnbench.commands.parameters import path_of, whole_number
from attnbench.planning.protocol import LEAST_RUNS, MOST_ROUNDS
from attnbench.planning.sweep import MOST_THREADS

MOST_RUNS = 1000


@click.command("selftest")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1.")
@click.option("--protocol", default="quick", show_default=True, help="The protocol to test.")
@click.option(
    "--trials",
    type=whole_number("--trials", 2, MOST_ROUNDS),
    default=10,
    show_default=True,
    help="Comparisons of identical arms.",
)
@click.option(
    "--runs",
    type=whole_number("--runs", LEAST_RUNS, MOST_RUNS),
    help="Also run seven layers so often: later intervals of this protocol include what runs differ by.",
)
@click.option("--rounds", type=whole_number("--rounds", 2, MOST_ROUNDS), help="Rounds, instead of the protocol's.")
@click.option(
    "--threads", type=whole_number("--threads", most=MOST_THREADS), help="CPU threads. [all that this process may use]"
)
@click.option("--allocator", default="pinned", show_default=True, help="pinned, system, tcmalloc, jemalloc.")
@click.option(
    "--seed",
    type=whole_number("--seed", 0, inputs.MOST_SEED),
    default=0,
    show_default=True,
    help="Random seed for inputs and order.",
)
@click.option("--out", type=path_of("--out"), help="The JSON file to write. [runs/selftest-TIME.json]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON to stdout.")
def command(
    device: str, protocol: str, trials: int, runs: int | None, rounds: int | None, threads: int | None,
    allocator: str, seed: int, out: Path | None, as_json: bool,
) -> int:  # fmt: skip
    """Measure identical layers, doubled work, a known allocation and a known delay.

    Prints the smallest difference that this machine can detect now, and stores the result; `attnbench show FILE`
    prints it again. Takes about a minute on two cores; each of --runs takes as long as a run of seven layers.
    """
    from attnbench.selftest import stored
    from attnbench.selftest.repeated import measure_between_runs
    from attnbench.selftest.sensitivity import measure_sensitivity

    overrides: tuple[tuple[str, object], ...] = (("looks", (rounds,)),) if rounds else ()
    result = measure_sensitivity(
        device=device,
        protocol=protocol,
        trials=trials,
        threads=(threads,) if threads else (),
        allocator=allocator,
        overrides=overrides,
        seed=seed,
        progress=lambda text: click.echo(text, err=True),
    )
    between = None
    if runs:
        between = measure_between_runs(
            runs, device=device, protocol=protocol, threads=(threads,) if threads else (), allocator=allocator,
            overrides=overrides, seed=seed, progress=lambda text: click.echo(text, err=True),
        )  # fmt: skip
    data = stored.describe(
        result, device=device, protocol=protocol, allocator=allocator, overrides=overrides, between=between
    )
    path = out or stored.default_file()
    stored.save(data, path)
    if as_json:
        click.echo(json.dumps(data, allow_nan=False))
        return 0
    print_result(data)
    click.echo(f"stored in {inert.terminal(str(path))}")
    return 0


def print_result(data: Mapping[str, Any]) -> None:
    """Print a self-test as `stored.load` gives it."""
    from attnbench.report.terminal import open_console, print_words
    from attnbench.selftest import stored

    console = open_console()
    *labelled, sentence = stored.lines(data)
    for line in labelled:
        print_words(console, line, hang=stored.HANG)
    print_words(console, sentence)
