"""Chart: one figure being drawn, grey but for its reference and the chosen; saved as PDF, SVG and PNG.

Text is as large as the style in use says (`attnbench.report.style.Look`), and labels are placed last, when the figure
has its final size. The caption belongs beside the figure and is not drawn.
"""

from __future__ import annotations

import io
import itertools
import math
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench import inert
from attnbench.report.names import display
from attnbench.report.style import CHOSEN, GREY, INK, METADATA, PALETTE, marker, new, small

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from attnbench.report.evidence import Estimate

End = tuple[str, float, float]  # mechanism, x, y
Beside = tuple[str, str, float, float]  # mechanism, text, x, y
KINDS = ("pdf", "svg", "png")
PANEL_WIDTH = 2.2  # inches: a narrower panel goes below the others
MOST_NAMES = 14  # of a panel that is laid out anew: beyond, only what has a colour is named beside it
CHARACTERS_PER_INCH = 13  # of a title in bold at 8 points
SIDE = 0.5  # inches of the ticks and the label beside a panel


def _side(turn: int) -> str:
    """How a text is aligned that stands in a direction from its point."""
    return "center" if turn in (90, 270) else "left" if turn < 90 or turn > 270 else "right"


# Where a label may stand beside its point, in pixels, the nearest first; a far one gets a leader.
NEAR: tuple[tuple[float, float, str], ...] = (
    (6, 0, "left"), (-6, 0, "right"), (0, 9, "center"), (0, -10, "center"),
    (6, 9, "left"), (-6, 9, "right"), (6, -9, "left"), (-6, -9, "right"),
)  # fmt: skip
TURNS = (0, 45, 90, 135, 180, 225, 270, 315, 20, 160, 200, 340)  # degrees
FAR = tuple(
    (radius * math.cos(math.radians(turn)), radius * math.sin(math.radians(turn)), _side(turn))
    for radius, turn in itertools.product(range(20, 420, 10), TURNS)
)


def tall(names: int, least: float) -> float:
    """Height in inches of a figure with so many names at the ends of its lines."""
    return max(least, names * 0.11 + 1.6)


class Chart:
    """A figure with its name, title and caption.

    Every mechanism is grey but for the reference (ink) and the at most `CHOSEN` that `choose` names.
    """

    def __init__(
        self,
        name: str,
        title: str,
        *,
        size: tuple[float, float],
        panels: tuple[int, int] = (1, 1),
        share_y: bool = False,
        room: float = 0.0,
    ) -> None:
        self.name, self.title, self.caption = name, title, ""
        self.has_data = True  # whether these runs have a part in it: a published figure may stand alone
        self.figure = new(*size)
        self.axes: list[Axes] = list(self.figure.subplots(*panels, squeeze=False, sharey=share_y).flat)
        self._colors: dict[str, str] = {}
        self._svg, self._placed = "", False
        self._ends: list[tuple[Axes, list[End]]] = []  # names at the ends of lines
        self._beside: list[tuple[Axes, list[Beside]]] = []  # names beside points
        self._empty: list[Axes] = []
        self._room(room)

    def _room(self, share: float) -> None:
        """Leave a share of the width free at the right, for names at the ends of lines."""
        engine = self.figure.get_layout_engine()
        if share and engine is not None:
            engine.set(rect=(0, 0, 1 - share, 1))  # type: ignore[call-arg]  # the constrained engine takes it

    @property
    def svg(self) -> str:
        """The figure as it was saved as SVG; empty before."""
        return self._svg

    def reflow(self, width: float) -> None:
        """Lay the panels out anew in a figure of so many inches, with no more panels beside each other than fit.

        Long titles and labels of axes are broken into lines. Call it before `save`, which places the labels.
        """
        from matplotlib.gridspec import GridSpec

        self._drop_empty()
        shown = [axes for axes in self.axes if axes.get_visible()]
        columns = max(1, min(len(shown), int(width / PANEL_WIDTH)))
        rows = -(-len(shown) // columns)
        self._shorten()
        self.figure.set_size_inches(width, rows * max(self._height(axes, width / columns) for axes in shown))
        grid = GridSpec(rows, columns, figure=self.figure)
        longest = max((len(name) for _, items in self._ends for name in map(_name, items)), default=0)
        room = min(0.4, (0.58 * small() / 72 * longest + 0.2) / width) if longest else 0.0
        self._room(room)
        characters = int((width * (1 - room) / columns - SIDE) * CHARACTERS_PER_INCH)
        for place, axes in enumerate(shown):
            axes.set_subplotspec(grid[place // columns, place % columns])
            axes.set_title(textwrap.fill(axes.get_title(loc="left"), characters))
            axes.set_xlabel(textwrap.fill(axes.get_xlabel(), characters))
            if place % columns == 0 and len(axes.get_yticks()):  # what stood beside the first panel stands here too
                axes.tick_params(labelleft=True)
                axes.set_ylabel(axes.get_ylabel() or shown[0].get_ylabel())

    def _height(self, axes: Axes, width: float) -> float:
        """A panel's height in inches: of a golden rectangle, or what the names at its sides need."""
        line = 1.35 * small() / 72
        names = len(axes.get_yticks()) if axes.yaxis.get_inverted() else 0
        at_ends = max((len(items) for at, items in self._ends if at is axes), default=0)
        return max(0.62 * width, max(names, at_ends) * line + 0.6)

    def _drop_empty(self) -> None:
        """Leave out the panels that only say why they are empty, unless all do."""
        if len(self._empty) < len(self.axes):
            for axes in self._empty:
                axes.set_visible(False)

    def _shorten(self) -> None:
        """In a crowd, name what has a colour; the caption lists grey lines in their order and grey points by number.

        The caption then holds every name.
        """
        for place, (axes, ends) in enumerate(self._ends):
            if len(ends) > MOST_NAMES:
                grey = sorted((e for e in ends if not self.stands_out(e[0])), key=lambda e: -e[2])
                self._ends[place] = axes, [e for e in ends if self.stands_out(e[0])]
                self.caption += f" In grey, from above at the right end: {', '.join(map(_name, grey))}."
        numbers: dict[str, int] = {}
        for place, (axes, items) in enumerate(self._beside):
            if len(items) > MOST_NAMES:
                short = [
                    (m, text if self.stands_out(m) else str(numbers.setdefault(text, len(numbers) + 1)), x, y)
                    for m, text, x, y in items
                ]
                self._beside[place] = axes, short
        if numbers:
            self.caption += f" {', '.join(f'{n} {display(text)}' for text, n in numbers.items())}."

    def choose(self, reference: str, names: Iterable[str]) -> None:
        """Give the reference the ink and the first names a colour each; what is named later stays grey."""
        others = [name for name in dict.fromkeys(names) if name != reference][:CHOSEN]
        self._colors = {reference: INK, **dict(zip(others, PALETTE, strict=False))}

    def color(self, mechanism: str) -> str:
        """The colour of a mechanism in this chart."""
        return self._colors.get(mechanism, GREY)

    def stands_out(self, mechanism: str) -> bool:
        """Whether a mechanism is the reference or chosen."""
        return mechanism in self._colors

    def point(self, axes: Axes, x: float, y: Estimate, mechanism: str, *, hollow: bool = False) -> None:
        """A measured point with its interval."""
        color, above = self.color(mechanism), int(self.stands_out(mechanism))
        if y.low is not None and y.high is not None:
            ends: dict[str, Any] = {"linewidth": 1.1, "marker": "_", "markersize": 4, "zorder": 2 + above}
            axes.plot([x, x], [y.low, y.high], color=color, **ends)
        fill = "none" if hollow else color
        shape = marker(mechanism)
        axes.plot([x], [y.value], shape, color=color, markerfacecolor=fill, zorder=3 + above)

    def line(self, axes: Axes, xs: Sequence[float], ys: Sequence[float], mechanism: str) -> None:
        """The line through a mechanism's points."""
        above = self.stands_out(mechanism)
        axes.plot(xs, ys, color=self.color(mechanism), linewidth=1.6 if above else 0.7, zorder=2 if above else 1)

    def cross(self, axes: Axes, x: float, mechanism: str, row: int = 0) -> None:
        """A cell without numbers: a cross at the upper edge, one row a mechanism."""
        axes.plot(
            [x],
            [0.98 - 0.045 * row],
            marker="x",
            color=self.color(mechanism),
            markersize=6,
            markeredgewidth=1.8,
            transform=axes.get_xaxis_transform(),
            linestyle="none",
            clip_on=False,
            zorder=4,
        )

    def barh(self, axes: Axes, place: float, x: Estimate, mechanism: str, height: float = 0.7) -> None:
        """A horizontal bar from zero with its interval."""
        axes.barh([place], [x.value], height=height, color=self.color(mechanism), alpha=0.85, zorder=1)
        if x.low is not None and x.high is not None:
            axes.plot([x.low, x.high], [place, place], color=INK, linewidth=1.2, marker="|", markersize=4)

    def end_labels(self, axes: Axes, items: Sequence[End]) -> None:
        """Write (mechanism, x, y) names right of the axes, pushed apart, each with a leader."""
        if items:
            self._ends.append((axes, list(items)))

    def _write_ends(self, axes: Axes, items: Sequence[End]) -> None:
        box = axes.get_window_extent()
        gap = 1.1 * small() * self.figure.dpi / 72
        gap = min(gap, box.height / max(len(items) - 1, 1))  # they stay beside the axes however many they are
        want = [(float(axes.transData.transform((x, y))[1]), name, x, y) for name, x, y in items]
        want.sort(key=lambda w: (w[0], w[1]))
        places: list[float] = []
        for at, *_ in want:
            places.append(max(at, places[-1] + gap) if places else max(at, box.y0))
        over = places[-1] - (box.y1)
        if over > 0:
            top = box.y1
            for i in reversed(range(len(places))):
                places[i] = min(places[i], top)
                top = places[i] - gap
        for (_, name, x, y), at in zip(want, places, strict=True):
            note = axes.annotate(
                display(name),
                (x, y),
                xytext=(1.04, (at - box.y0) / box.height),
                textcoords="axes fraction",
                va="center",
                fontsize=small(),
                color=self.color(name) if self.stands_out(name) else INK,
                in_layout=False,
                annotation_clip=False,
                arrowprops={
                    "arrowstyle": "-",
                    "color": self.color(name),
                    "linewidth": 0.8,
                    "alpha": 0.8,
                    "shrinkA": 0,
                    "shrinkB": 3,
                    "relpos": (0, 0.5),
                },
            )
            note.set_in_layout(False)

    def labels(self, axes: Axes, items: Sequence[Beside]) -> None:
        """Write (mechanism, text, x, y) beside points where they cover neither each other nor a point."""
        self._beside.append((axes, list(items)))

    def _write_beside(self, axes: Axes, items: Sequence[Beside]) -> None:
        renderer = self.figure.canvas.get_renderer()  # type: ignore[attr-defined]  # the Agg canvas has one
        spots = [tuple(map(float, axes.transData.transform((x, y)))) for *_, x, y in items]
        taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in spots]
        box = axes.get_window_extent()
        for (mechanism, text, *_), (px, py) in zip(items, spots, strict=True):
            note = axes.annotate(
                display(text),
                items[spots.index((px, py))][2:],
                xytext=(0, 0),
                textcoords="offset points",
                fontsize=small(),
                va="center",
            )
            size = note.get_window_extent(renderer)
            note.remove()
            best: tuple[float, float, str] | None = None
            for dx, dy, side in (*NEAR, *FAR):
                left = px + dx - {"left": 0.0, "right": size.width, "center": size.width / 2}[side]
                cover = (left - 2, py + dy - size.height / 2, left + size.width + 2, py + dy + size.height / 2)
                inside = cover[0] >= box.x0 and cover[2] <= box.x1 and cover[1] >= box.y0 and cover[3] <= box.y1
                if inside and not any(_meet(cover, t) for t in taken):
                    taken.append(cover)
                    best = (dx, dy, side)
                    break
            if best is None:  # every place is taken: over its point rather than without a name
                best = NEAR[0]
            dx, dy, side = best
            x, y = items[spots.index((px, py))][2:]
            points = 72 / self.figure.dpi
            far = abs(dx) + abs(dy) > 16
            note = axes.annotate(
                display(text),
                (x, y),
                xytext=(dx * points, dy * points),
                textcoords="offset points",
                fontsize=small(),
                ha=side,
                va="center",
                color=self.color(mechanism) if self.stands_out(mechanism) else INK,
                arrowprops={
                    "arrowstyle": "-",
                    "color": self.color(mechanism),
                    "linewidth": 0.6,
                    "shrinkA": 0,
                    "shrinkB": 3,
                }
                if far
                else None,
            )
            note.set_in_layout(False)

    def place(self) -> None:
        """Settle where the panels stand, then write the labels, once."""
        if self._placed:
            return
        self._make_inert()
        self.figure.draw_without_rendering()
        self.figure.set_layout_engine("none")
        for axes, ends in self._ends:
            spec = axes.get_subplotspec()
            if spec is None or spec.is_last_col():  # beside each other, the panels share the names of the last
                self._write_ends(axes, ends)
        for axes, items in self._beside:
            self._write_beside(axes, items)
        self._make_inert()
        self._placed = True

    def _make_inert(self) -> None:
        """Make every text that was drawn, names at ticks included, one that no format reads as more than text."""
        from matplotlib.text import Text
        from matplotlib.ticker import FixedFormatter

        for axes in self.figure.axes:
            for axis in (axes.xaxis, axes.yaxis):
                formatter = axis.get_major_formatter()
                if isinstance(formatter, FixedFormatter):
                    formatter.seq = [inert.plain(text) for text in formatter.seq]
        for text in self.figure.findobj(Text):
            if isinstance(text, Text) and not text.get_text().isprintable():
                text.set_text(inert.plain(text.get_text(), lines=True))

    def empty(self, axes: Axes, why: str) -> None:
        """Say in the panel why nothing is drawn."""
        self._empty.append(axes)
        axes.grid(visible=False)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.text(0.5, 0.5, why, transform=axes.transAxes, ha="center", va="center", wrap=True)

    def save(self, folder: Path, kinds: Sequence[str] | None = None) -> list[Path]:
        """Write NAME.pdf, NAME.svg and NAME.png, or the named kinds alone."""
        self.place()
        written = self.paths(folder, kinds)
        for path in written:
            held, kind = io.BytesIO(), path.suffix[1:]
            self.figure.savefig(held, format=kind, metadata=METADATA[kind])
            data = held.getvalue()
            if kind == "svg":
                self._svg = data.decode().replace(" \n", "\n")
                data = self._svg.encode()
            path.write_bytes(data)
        return written

    def paths(self, folder: Path, kinds: Sequence[str] | None = None) -> list[Path]:
        """The files that `save` writes."""
        return [folder / f"{self.name}.{kind}" for kind in (KINDS if kinds is None else kinds)]

    def read_back(self, folder: Path) -> None:
        """Take `svg` from the file that another process saved."""
        self._svg = (folder / f"{self.name}.svg").read_bytes().decode()


def tick(value: float) -> str:
    """A tick's label without an exponent."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def log_axes(axes: Axes) -> None:
    """Logarithmic both ways, with ticks at 1, 2 and 5 and room for labels."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    from attnbench.report.log_scale import LogScale

    axes.set_xscale(LogScale(axes.xaxis))
    axes.set_yscale(LogScale(axes.yaxis))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(FuncFormatter(lambda v, _: tick(v)))
        axis.set_minor_formatter(NullFormatter())
    axes.margins(0.16)


def _name(end: End) -> str:
    return display(end[0])


def _meet(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
