"""`attnbench protocols`: what each part of the authors' measuring procedure changes."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from attnbench import inputs
from attnbench.commands.parameters import path_of, whole_number
from attnbench.errors import AttnbenchError
from attnbench.planning.protocol import MOST_ROUNDS
from attnbench.planning.sweep import MOST_THREADS


@click.command("protocols")
@click.option("--mechanism", "-m", metavar="LIST", help="Layers: hilo,msa,'hilo[alpha=0.5]'. [the paper's fourteen]")
@click.option("--reference", default="msa", show_default=True, help="The arm that ratios refer to.")
@click.option("--res", default="224", show_default=True, help="Pixels: 224 or 512x384 (height x width).")
@click.option("--batch", type=whole_number("--batch"), help="Images per batch. [1 on a CPU, 64 on a GPU]")
@click.option(
    "--paper-batch", type=whole_number("--paper-batch"), help="The authors' batch (theirs: 64). [that of --batch]"
)
@click.option("--dim", type=whole_number("--dim"), default=768, show_default=True, help="Channels of a layer.")
@click.option("--heads", type=whole_number("--heads"), default=12, show_default=True, help="Attention heads.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1.")
@click.option(
    "--threads", type=whole_number("--threads", most=MOST_THREADS), help="CPU threads. [all that this process may use]"
)
@click.option("--protocol", default="quick", show_default=True, help="Our procedure.")
@click.option(
    "--rounds",
    type=whole_number("--rounds", 2, MOST_ROUNDS),
    help="Rounds of our procedure, instead of the protocol's.",
)
@click.option(
    "--processes", type=whole_number("--processes", most=MOST_ROUNDS), help="Timing processes of our procedure."
)
@click.option(
    "--block", type=whole_number("--block"), default=30, show_default=True, help="Calls of the authors' block."
)
@click.option("--departure", metavar="LIST", help="no-warm-up,allocator,...: only these, and both procedures. [all]")
@click.option(
    "--seed", type=whole_number("--seed", 0, inputs.MOST_SEED), default=0, show_default=True, help="Random seed."
)
@click.option("--plugin", "plugins", multiple=True, metavar="[NS=]PATH", help="A file with mechanisms; repeatable.")
@click.option("--out", type=path_of("--out"), help="The folder to write. [runs/protocols-REQUEST]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON to stdout.")
def command(out: Path | None, as_json: bool, **given: Any) -> int:
    """Measure the same layers by the authors' procedure, by ours, and by every single departure between them.

    Shows how far each moves the speed ratios to the reference and their ranking. Writes protocols.json, protocols.md,
    CSV files and one run folder for each procedure. If it is interrupted, the same command resumes it.
    """
    request = _request(given)
    from attnbench.execution.runner import Interrupted
    from attnbench.studies import protocols, protocols_tables

    folder, again = out or request.folder, shlex.join(["attnbench", *sys.argv[1:]])
    try:
        data = protocols.measure(
            request, folder, progress=lambda text: click.echo(text, err=True), command=again
        )  # fmt: skip
    except Interrupted:
        click.echo(f"interrupted; what is measured is in {folder}; resume with:\n  {again}", err=True)
        return 130
    protocols_tables.write(data, folder)
    if as_json:
        click.echo(json.dumps(data, allow_nan=False))
    else:
        _print(data)
        click.echo(f"folder: {folder}")
    return 0


def _request(given: Mapping[str, Any]) -> Any:
    from attnbench.commands.options import words
    from attnbench.planning.sizes import resolutions
    from attnbench.studies.protocols import Request

    sizes = resolutions(given["res"])
    if len(sizes) != 1:
        raise AttnbenchError(
            f"--res must be one resolution; got {inputs.brief(given['res'])}; run the command once for each"
        )
    gpu = not given["device"].startswith("cpu")
    numbers = {"looks": (given["rounds"],) if given["rounds"] else None, "processes": given["processes"]}
    arms: dict[str, Any] = {"mechanism": words(given["mechanism"])} if given["mechanism"] else {}
    same = ("reference", "dim", "heads", "device", "protocol", "block", "seed", "plugins")
    return Request(
        **{name: given[name] for name in same},
        **arms,
        departures=words(given["departure"]) if given["departure"] else (),
        res=sizes[0],
        batch=given["batch"] or (64 if gpu else 1),
        paper_batch=given["paper_batch"] or 0,
        threads=(given["threads"],) if given["threads"] else (),
        overrides=tuple((key, value) for key, value in numbers.items() if value is not None),
    )


def _print(data: Mapping[str, Any]) -> None:
    from attnbench.report.terminal import open_console, print_words, rich_tables
    from attnbench.studies.protocols_tables import conclusion, tables

    console = open_console()
    departures, ratios, _ = tables(data)
    for source in (departures, ratios):
        for table in rich_tables(source, console.width):
            console.print(table)
        for note in (source.caption, *source.notes):
            print_words(console, note, "dim")
        console.print()
    print_words(console, conclusion(data))
