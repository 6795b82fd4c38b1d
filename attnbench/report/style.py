"""How charts look: one colour, marker and dash for a mechanism everywhere, and files that are the same twice."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours, distinguishable with every common colour blindness; the yellow is left out (too pale).
PALETTE = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")
INK, GRID = "#1f2328", "#d0d7de"  # the page puts its own theme's colours in their place
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
DASHES = ((), (4, 1.5), (1, 1.2), (6, 1.5, 1, 1.5))

# Fixed places, so that a mechanism looks the same in every report; others follow from their name.
_PLACES = {
    "msa": (-1, 0, 0), "hilo": (0, 0, 0), "sra": (1, 0, 0), "window": (2, 0, 0), "shifted_window": (2, 1, 1),
    "cswin": (3, 0, 0), "dat": (4, 0, 0), "performer": (5, 0, 0), "linformer": (5, 1, 1), "focal": (6, 0, 0),
    "xca": (1, 2, 1), "quadtree": (6, 2, 1), "van": (4, 2, 1), "hornet": (3, 2, 1), "linear_sra": (1, 3, 2),
    "twins_lsa": (2, 3, 2), "twins_gsa": (1, 4, 3), "tmsa": (2, 5, 3), "lightvit": (0, 2, 1),
    "litv1_s": (-1, 0, 0), "litv1_m": (-1, 2, 1), "litv1_b": (-1, 3, 2),
    "litv2_s": (0, 0, 0), "litv2_m": (0, 2, 1), "litv2_b": (0, 3, 2),
}  # fmt: skip


class Look(NamedTuple):
    """Of one mechanism."""

    color: str
    marker: str
    dashes: tuple[float, ...]


def look(mechanism: str) -> Look:
    """The colour, marker and dash of a mechanism."""
    if mechanism in _PLACES:
        color, marker, dash = _PLACES[mechanism]
    else:
        digest = hashlib.sha256(mechanism.encode()).digest()
        color, marker, dash = digest[0] % len(PALETTE), 5 + digest[1] % 3, 1 + digest[2] % 3
    return Look(INK if color < 0 else PALETTE[color], MARKERS[marker], DASHES[dash])


@contextmanager
def charts() -> Iterator[None]:
    """Matplotlib without a display and with our settings; the caller's settings are untouched."""
    import matplotlib

    settings = {
            "svg.hashsalt": "attnbench", "svg.fonttype": "none", "pdf.fonttype": 42, "font.family": "DejaVu Sans",
            "font.size": 9, "axes.titlesize": 10, "axes.titleweight": "bold", "axes.titlelocation": "left",
            "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
            "grid.color": GRID, "grid.linewidth": 0.6, "text.color": INK, "axes.edgecolor": INK,
            "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK, "lines.linewidth": 1.4,
            "lines.markersize": 4.5, "legend.frameon": False, "figure.dpi": 100, "savefig.dpi": 150,
            "text.parse_math": False, "path.simplify": False,
    }  # fmt: skip
    with matplotlib.rc_context(settings), warnings.catch_warnings():  # type: ignore[arg-type]  # the keys are rcParams'
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # a foreign name: boxes in PNG and PDF
        yield


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
