"""`attnbench spectrum`: the Fourier spectrum of the outputs of HiLo's two branches."""

from __future__ import annotations

from pathlib import Path

import click

from attnbench import inert, inputs
from attnbench.commands.parameters import path_of, whole_number
from attnbench.errors import AttnbenchError


@click.command("spectrum")
@click.option("--backbone", default="litv2_s", show_default=True, help="A LITv2 model or variant.")
@click.option("--weights", type=path_of("--weights"), help="A checkpoint file. [random weights]")
@click.option("--image", "images", multiple=True, type=path_of("--image"), help="A PNG or JPEG file; repeatable.")
@click.option("--res", default="224", show_default=True, help="Pixels: 224 or 512x384 (height x width).")
@click.option(
    "--layer", type=whole_number("--layer"), help="Number of the HiLo layer in the third stage, from 1. [the last]"
)
@click.option(
    "--seed",
    default=0,
    show_default=True,
    type=whole_number("--seed", 0, inputs.MOST_SEED),
    help="Random seed for the weights.",
)
@click.option("--plugin", "plugins", multiple=True, metavar="[NS=]PATH", help="A file with mechanisms; repeatable.")
@click.option("--out", required=True, type=path_of("--out"), help="The folder to write; may be a run folder.")
def command(
    backbone: str,
    weights: Path | None,
    images: tuple[Path, ...],
    res: str,
    layer: int | None,
    seed: int,
    plugins: tuple[str, ...],
    out: Path,
) -> None:
    """Draw the Fourier spectrum of the outputs of Hi-Fi and Lo-Fi inside a backbone.

    The images are synthetic unless --image is given. Writes spectrum.json, and fig5-spectrum as PNG, SVG and PDF,
    to OUT. If OUT is a run folder, `attnbench report OUT` includes the figure.
    """
    from rich.console import Console

    from attnbench import registry
    from attnbench.planning.sizes import resolutions
    from attnbench.report.terminal import print_words
    from attnbench.studies import spectrum

    sizes = resolutions(res)
    if len(sizes) != 1:
        raise AttnbenchError(f"--res must be one resolution; got {inputs.brief(res)}; run the command once for each")
    for problem in registry.load(plugins).problems:
        click.echo(f"warning: {inert.terminal(problem)}", err=True)
    data = spectrum.measure(backbone, resolution=sizes[0], weights=weights, images=images, layer=layer, seed=seed)
    for path in spectrum.write(data, out):
        click.echo(inert.terminal(str(path)))
    print_words(Console(stderr=True), data["caption"])
