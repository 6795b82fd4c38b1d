"""`attnbench spectrum`: the frequencies in the outputs of HiLo's two branches."""

from __future__ import annotations

from pathlib import Path

import click

from attnbench.errors import AttnbenchError


@click.command("spectrum")
@click.option("--backbone", default="litv2_s", show_default=True, help="A LITv2, or a variant of one.")
@click.option("--weights", type=click.Path(path_type=Path), help="A checkpoint; without one the weights are random.")
@click.option(
    "--image", "images", multiple=True, type=click.Path(path_type=Path), help="A PNG or JPEG file; may be repeated."
)
@click.option("--res", default="224", show_default=True, help="Pixels: 224 or 512x384 (height x width).")
@click.option("--layer", type=int, help="Which HiLo layer of the third stage, from 1; by default the last.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of random weights.")
@click.option("--plugin", "plugins", multiple=True, type=click.Path(), help="A Python file that declares mechanisms.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder; a run's own serves its report.")
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

    The images are synthetic scenes unless --image names yours. OUT gets spectrum.json and fig5-spectrum as PNG,
    SVG and PDF; where OUT is a run folder, `attnbench report OUT` draws it among that run's figures.
    """
    from attnbench import registry
    from attnbench.commands.options import resolutions
    from attnbench.studies import spectrum

    found = resolutions(res)
    if len(found) != 1:
        raise AttnbenchError(f"a spectrum is taken at one resolution; got {res!r}; run the command once for each")
    for problem in registry.load(plugins).problems:
        click.echo(f"warning: {problem}", err=True)
    data = spectrum.measure(backbone, resolution=found[0], weights=weights, images=images, layer=layer, seed=seed)
    for path in spectrum.write(data, out):
        click.echo(path)
    click.echo(data["caption"], err=True)
