"""`attnbench report`: tables, figures and one page from run folders; or chosen figures for a paper or a talk."""

from __future__ import annotations

import re
from pathlib import Path

import click

from attnbench import inert, inputs
from attnbench.commands.completions import OF_MECHANISMS
from attnbench.commands.parameters import path_of
from attnbench.errors import AttnbenchError

FIGURES = (
    "front", "resolution", "bars", "flops", "scaling", "kernels", "roofline", "fig2", "fig3", "fig4", "fig5", "fig6",
)  # fmt: skip
INCHES = {"in": 1.0, "cm": 1 / 2.54, "mm": 1 / 25.4, "pt": 1 / 72.27}  # pt: TeX's
NARROWEST, WIDEST = 2.0, 20.0


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=path_of("RUN"))
@click.option("--out", default=Path("reports"), show_default=True, type=path_of("--out"), help="Output folder.")
@click.option(
    "--only", metavar="LIST", shell_complete=OF_MECHANISMS, help="Only these mechanisms or variants, e.g. hilo,msa."
)
@click.option("--res", metavar="LIST", help="Only these resolutions, e.g. 512,512x384.")
@click.option("--figure", metavar="LIST", help=f"Only these figures, as PDF and SVG: {', '.join(FIGURES)}.")
@click.option("--style", type=click.Choice(["paper", "talk"]), help="How large text and lines are. [paper]")
@click.option("--width", metavar="LENGTH", help="Of a figure: 3.3in, 84mm, 240pt. [3.3in for a paper, 5in for a talk]")
def command(
    runs: tuple[Path, ...],
    out: Path,
    only: str | None,
    res: str | None,
    figure: str | None,
    style: str | None,
    width: str | None,
) -> None:
    """Draw the tables and figures of the papers next to what RUN... measured, and one HTML page.

    Nothing is measured and no GPU is needed. Start with OUT/index.html. What an earlier report wrote in OUT, and this
    one does not, is removed, unless somebody has changed it.

    With any of --only, --res, --figure, --style, --width: no page, but the figures at the width that they will be
    printed at (text of 7 to 9 points), a text file with the caption of each, and LaTeX tables (booktabs, siunitx).
    """
    if any(given is not None for given in (only, res, figure, style, width)):
        for path in _for_a_paper(runs, out, only, res, figure, style, width):
            click.echo(inert.terminal(str(path)))
        return
    from attnbench.report import write

    written = write(runs, out, say=lambda line: click.echo(inert.terminal(line), err=True))
    click.echo(inert.terminal(str(written[0])))
    click.echo(f"wrote {len(written) - 1} more files with tables and figures", err=True)


def _for_a_paper(
    runs: tuple[Path, ...],
    out: Path,
    only: str | None,
    res: str | None,
    figure: str | None,
    style: str | None,
    width: str | None,
) -> list[Path]:
    from attnbench.planning.sizes import resolutions
    from attnbench.registry.variant import split_list
    from attnbench.report.paper import Choice, write

    names = tuple(split_list(figure)) if figure else FIGURES[:3]
    for name in names:
        if name not in FIGURES:
            raise AttnbenchError(f"--figure must be one of {', '.join(FIGURES)}; got {inputs.brief(name)}")
    choice = Choice(
        only=tuple(split_list(only)) if only else (),
        res=resolutions(res) if res else (),
        figures=names,
        style=style or "paper",
        width=_inches(width) if width else 0.0,
    )
    return write(runs, out, choice)


def _inches(text: str) -> float:
    """Read `3.3in`, `84mm`, `8.4cm` or `240pt`."""
    found = re.fullmatch(r"\s*([\d.]+)\s*(in|cm|mm|pt)\s*", text[:20])
    value = (inputs.parse_number(found[1]) or 0.0) * INCHES[found[2]] if found else 0.0
    if not NARROWEST <= value <= WIDEST:
        raise AttnbenchError(
            f"--width must be {NARROWEST:g}in to {WIDEST:g}in, in units of in, cm, mm or pt; got {inputs.brief(text)}"
        )
    return value
