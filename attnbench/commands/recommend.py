"""`attnbench recommend`: the fastest mechanisms for a size and a device, with ties and memory, from run folders."""

from __future__ import annotations

import json
from pathlib import Path

import click

from attnbench import inert, inputs
from attnbench.commands.completions import OF_RUNTIMES
from attnbench.commands.parameters import path_of, whole_number

KINDS = ("attention", "gate", "convolution", "pooling", "fourier", "state-space", "all")


@click.command()
@click.argument("runs", nargs=-1, metavar="[RUN...]", type=path_of("RUN"))
@click.option("--res", required=True, help="Pixels: 512 or 512x384 (height x width).")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--batch", type=whole_number("--batch"), help="Images. [8 on a CPU, 64 on a GPU; models: 1]")
@click.option("--pass", "pass_", type=click.Choice(["forward", "train"]), default="forward", show_default=True)
@click.option("--memory", metavar="SIZE", help="Memory that one call may take, e.g. 4GiB.")
@click.option("--precision", type=click.Choice(["fp32", "tf32", "bf16", "fp16"]), help="Only this precision. [any]")
@click.option("--kind", type=click.Choice(KINDS), help="Of token mixing. [attention; all for backbones]")
@click.option(
    "--scope",
    type=click.Choice(["layer", "backbone", "models"]),
    default="layer",
    show_default=True,
    help="models: classifiers by published top-1 and measured latency.",
)
@click.option(
    "--reach", type=click.Choice(["global", "local", "sparse"]), help="Of a token, in one layer: exactly this. [any]"
)
@click.option("--min-reach", type=click.Choice(["global", "sparse", "local"]), help="At least this far. [any]")
@click.option("--max-ms", metavar="MS", help="Milliseconds that a batch may take.")
@click.option("--runtime", metavar="NAME", shell_complete=OF_RUNTIMES, help="Only this runtime. [any]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a machine to stdout.")
@click.option("--dim", type=whole_number("--dim"), default=768, show_default=True, help="Channels of a layer.")
@click.option("--heads", type=whole_number("--heads"), default=12, show_default=True, help="Attention heads.")
def command(
    runs: tuple[Path, ...],
    res: str,
    device: str,
    batch: int | None,
    pass_: str,
    memory: str | None,
    precision: str | None,
    kind: str | None,
    scope: str,
    reach: str | None,
    min_reach: str | None,
    max_ms: str | None,
    runtime: str | None,
    as_json: bool,
    dim: int,
    heads: int,
) -> None:
    """Rank the mechanisms of a kind by speed, with ties and memory, from RUN... [reports/runs/*].

    Where nothing was measured, the answer says so and gives the command that measures it.
    """
    from attnbench.errors import AttnbenchError
    from attnbench.planning.sizes import resolutions, size_bytes
    from attnbench.report import models, recommend
    from attnbench.report.evidence import gather, stored
    from attnbench.report.terminal import open_console, print_words

    sizes = resolutions(res)
    if len(sizes) != 1:
        raise AttnbenchError(f"--res must be one resolution; got {inputs.brief(res)}; run the command once for each")
    unanswered = {"--memory": memory, "--kind": kind, "--reach": reach, "--min-reach": min_reach}
    if scope == "models" and (given := [name for name, value in unanswered.items() if value]):
        raise AttnbenchError(
            f"--scope models answers by accuracy and latency alone; got {', '.join(given)}; leave it out"
        )
    usual = 1 if scope == "models" else 8 if device.startswith("cpu") else 64
    question = recommend.Question(
        res=sizes[0], device=device, batch=batch or usual, pass_=pass_, dim=dim,
        heads=heads, memory=size_bytes(memory) if memory else 0, precision=precision or "",
        kind=kind or (recommend.ATTENTION if scope == "layer" else recommend.ANY), scope=scope, reach=reach or "",
        min_reach=min_reach or "", runtime=runtime or "",
        max_ms=inputs.positive("--max-ms", max_ms, most=1e9) if max_ms else 0.0,
    )  # fmt: skip
    evidence = gather(runs or stored())
    for line in evidence.problems:
        click.echo(f"warning: {inert.terminal(line)}", err=True)
    answers, console = models if scope == "models" else recommend, open_console()
    for answer in answers.recommend(evidence, question):
        if as_json:
            click.echo(json.dumps(answers.as_dict(answer)))
            continue
        for line in answers.words(answer):
            print_words(console, line)
