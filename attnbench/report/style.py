"""How charts look: grey, with a few chosen in colour, shapes for kinds, and files that are the same twice."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from attnbench.report.mixing import mixing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours, distinguishable with every common colour blindness; the yellow is left out (too pale).
PALETTE = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")
INK, GRID = "#1f2328", "#d0d7de"
GREY = "#8c959f"
CHOSEN = 5  # how many may have a colour of their own

# A declared kind, and for attention its reach, is a shape: colour tells the chosen from the others.
MARKERS = {
    "attention, global": "o", "attention, sparse": "D", "attention, local": "s", "gate": "^", "convolution": "v",
    "pooling": ">", "fourier": "P", "state-space": "<",
}  # fmt: skip


def marker(mechanism: str) -> str:
    """The shape of a mechanism's marks, by what it is declared to be."""
    kind, extent = mixing(mechanism)
    return MARKERS.get(f"{kind}, {extent}", MARKERS.get(kind, "o"))


@dataclass(frozen=True, kw_only=True)
class Look:
    """How large text and lines are drawn.

    Attributes:
        text: points of axis labels and titles; `small`: of ticks and names. Both hold at the figure's own width.
        line: points of a line; `mark`: of a point.
        width: inches of a figure; 0: each has the width that it was made for.
    """

    text: float = 9.0
    small: float = 8.0
    line: float = 1.4
    mark: float = 4.5
    width: float = 0.0


REPORT = Look()
LOOKS: Mapping[str, Look] = {
    "paper": Look(text=8.0, small=7.0, line=1.0, mark=3.5, width=3.3),
    "talk": Look(text=9.0, small=8.0, line=1.8, mark=5.5, width=5.0),
}


@contextmanager
def charts(look: Look = REPORT) -> Iterator[None]:
    """Matplotlib without a display and with our settings; the caller's settings are untouched."""
    import matplotlib

    settings = {
            "svg.hashsalt": "attnbench", "svg.fonttype": "none", "pdf.fonttype": 42, "font.family": "DejaVu Sans",
            "font.size": look.text, "axes.titlesize": look.text, "axes.labelsize": look.text,
            "xtick.labelsize": look.small, "ytick.labelsize": look.small, "legend.fontsize": look.small,
            "axes.titleweight": "bold", "axes.titlelocation": "left",
            "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
            "grid.color": GRID, "grid.linewidth": 0.6, "text.color": INK, "axes.edgecolor": INK,
            "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK, "lines.linewidth": look.line,
            "lines.markersize": look.mark, "legend.frameon": False, "figure.dpi": 100, "savefig.dpi": 150,
            "text.parse_math": False, "path.simplify": False,
    }  # fmt: skip
    with matplotlib.rc_context(settings), warnings.catch_warnings():  # type: ignore[arg-type]  # the keys are rcParams'
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # a foreign name: boxes in PNG and PDF
        yield


SMALL: Final = "legend.fontsize"  # no figure has a legend: the setting carries the size of names beside marks


def small() -> float:
    """Points of the smaller text of the look in use."""
    import matplotlib
    from matplotlib.font_manager import FontProperties

    return float(FontProperties(size=matplotlib.rcParams[SMALL]).get_size_in_points())


def new(width: float, height: float) -> Figure:
    """An empty figure outside pyplot's global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


METADATA: dict[str, dict[str, None]] = {
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
}
