"""`attnbench selftest`: the smallest difference that this machine can detect now."""

from __future__ import annotations

import json
from dataclasses import asdict

import click


@click.command("selftest")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1.")
@click.option("--protocol", default="quick", show_default=True, help="The protocol to test.")
@click.option(
    "--trials", type=click.IntRange(min=2), default=20, show_default=True, help="Comparisons of identical arms."
)
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads. [all that this process may use]")
@click.option("--allocator", default="pinned", show_default=True, help="pinned, system, tcmalloc, jemalloc.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON to stdout.")
def command(device: str, protocol: str, trials: int, threads: int | None, allocator: str, as_json: bool) -> int:
    """Measure identical layers, doubled work, a known allocation and a known delay.

    Prints the smallest difference that this machine can detect now.
    """
    from attnbench.selftest.sensitivity import measure_sensitivity

    result = measure_sensitivity(
        device=device,
        protocol=protocol,
        trials=trials,
        threads=(threads,) if threads else (),
        allocator=allocator,
        progress=lambda text: click.echo(text, err=True),
    )
    if as_json:
        click.echo(json.dumps({**asdict(result), "resolvable": result.resolvable}))
        return 0
    click.echo(
        f"identical arms   {result.excluding} of {result.trials} intervals exclude 1 "
        f"(rate {result.rate.estimate:.1%}, 95 % interval {result.rate.low:.1%} to {result.rate.high:.1%}; nominal 5 %)"
    )
    click.echo(f"                 median half-width {result.half_width:.2%}")
    click.echo(
        f"doubled work     ratio {result.twice.estimate:.3f} [{result.twice.low:.3f}, {result.twice.high:.3f}], "
        "truth 0.500; "
        f"{result.twice_hits} of {result.trials} intervals contain it"
    )
    click.echo(
        f"known allocation {result.allocation[0] / 2**20:.1f} MiB measured of {result.allocation[1] / 2**20:.1f}"
    )
    click.echo(f"known delay      {result.delay[0] * 1e3:.2f} ms measured of {result.delay[1] * 1e3:.2f}")
    click.echo(f"interleaving     a layer alone takes {result.alone:.2f} times its time among larger layers")
    click.echo(result.sentence(protocol, device))
    return 0
