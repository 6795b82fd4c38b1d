"""`attnbench selftest`: what this machine can resolve right now."""

from __future__ import annotations

import json
from dataclasses import asdict

import click


@click.command("selftest")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1.")
@click.option("--protocol", default="quick", show_default=True, help="The protocol to try.")
@click.option(
    "--trials", type=click.IntRange(min=2), default=20, show_default=True, help="Comparisons of identical arms."
)
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads. [all that may be used]")
@click.option("--allocator", default="pinned", show_default=True, help="pinned, system, tcmalloc, jemalloc.")
@click.option("--json", "as_json", is_flag=True, help="As JSON on stdout.")
def command(device: str, protocol: str, trials: int, threads: int | None, allocator: str, as_json: bool) -> int:
    """Time identical layers, doubled work, a known allocation and a known delay; say what can be resolved."""
    from attnbench.selftest import sensitivity

    found = sensitivity.selftest(
        device=device,
        protocol=protocol,
        trials=trials,
        threads=(threads,) if threads else (),
        allocator=allocator,
        tell=lambda text: click.echo(text, err=True),
    )
    if as_json:
        click.echo(json.dumps({**asdict(found), "resolvable": found.resolvable}))
        return 0
    click.echo(
        f"identical arms   {found.excluding} of {found.trials} intervals exclude 1 "
        f"(rate {found.rate.estimate:.1%}, 95 % interval {found.rate.low:.1%} to {found.rate.high:.1%}; nominal 5 %)"
    )
    click.echo(f"                 median half-width {found.half_width:.2%}")
    click.echo(
        f"doubled work     ratio {found.twice.estimate:.3f} [{found.twice.low:.3f}, {found.twice.high:.3f}], "
        "truth 0.500; "
        f"{found.twice_hits} of {found.trials} intervals contain it"
    )
    click.echo(f"known allocation {found.allocation[0] / 2**20:.1f} MiB found of {found.allocation[1] / 2**20:.1f}")
    click.echo(f"known delay      {found.delay[0] * 1e3:.2f} ms found of {found.delay[1] * 1e3:.2f}")
    click.echo(f"interleaving     a layer alone takes {found.alone:.2f} of its time among larger ones")
    click.echo(found.sentence(protocol, device))
    return 0
