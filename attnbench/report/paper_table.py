"""Measured cells -> a LaTeX table as a paper prints it: display names, ±, the best in bold, nothing internal.

The table is `table*`: it spans both columns of a two-column paper. It needs booktabs and siunitx (version 3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from attnbench import inert
from attnbench.report.evidence import Estimate, Point
from attnbench.report.grouping import MEMORY, SPEED, condition, size
from attnbench.report.names import display
from attnbench.report.siunitx import PACKAGES, SETUP, cell, column, unresolved


@dataclass(frozen=True)
class _Column:
    heading: str
    read: Callable[[Point], Estimate | None]
    least: bool  # whether less is better


def _latency(p: Point) -> Estimate | None:
    """Milliseconds of a batch."""
    found = p.get("latency_s")
    return found.over(1e-3) if found else None


def _scaled(quantity: str, by: float) -> Callable[[Point], Estimate | None]:
    def read(p: Point) -> Estimate | None:
        found = p.get(quantity)
        return found.over(by) if found else None

    return read


def latex(points: Sequence[Point]) -> str:
    """The table of one comparison: one condition and resolution, the fastest first.

    Args:
        points: of `grouping.comparable`.
    """
    ordered = sorted(points, key=lambda p: (-_speed(p), p.cell.variant))
    reference = display(next((p.reference for p in points if p.reference), "the reference"))
    columns = [
        _Column("latency (ms)", _latency, least=True),
        _Column(f"speed / {reference}", _scaled("ratio_to_reference", 1), least=False),
        _Column("memory (MiB)", _scaled(MEMORY, 2**20), least=True),
        _Column("MACs (G)", _scaled("macs", 1e9), least=True),
        _Column("params (M)", _scaled("params", 1e6), least=True),
    ]
    columns = [c for c in columns if any(c.read(p) for p in ordered)]
    written = [_written([c.read(p) for p in ordered], c.least) for c in columns]
    rows = [
        " & ".join([inert.latex(display(p.cell.variant)), *cells]) + r" \\"
        for p, cells in zip(ordered, zip(*written, strict=True), strict=True)
    ]
    first = ordered[0]
    caption = (
        f"Layers at {size(first)} pixels on {condition([ordered])}. ± is half of the interval; bold is the best of a "
        "column."
    )
    headings = " & ".join(["", *(f"{{{inert.latex(c.heading)}}}" for c in columns)])
    return "\n".join(
        [
            PACKAGES,
            r"\begin{table*}[t]",
            r"\centering\small",
            rf"\caption{{{inert.latex(caption)}}}",
            rf"\label{{tab:{first.cell.scope}-{size(first)}-batch{first.cell.batch}}}",
            SETUP,
            rf"\begin{{tabular}}{{l{''.join(map(column, written))}}}",
            r"\toprule",
            rf"{headings} \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table*}",
            "",
        ]
    )


def _speed(p: Point) -> float:
    found = p.get(SPEED)
    return found.value if found else 0.0


def _written(found: Sequence[Estimate | None], least: bool) -> list[str]:
    """The cells of a column for siunitx, the best in bold."""
    whole = [e.value for e in found if e and not e.at_least and not unresolved(e)]
    best = (min if least else max)(whole, default=None)
    return [cell(e, best=e is not None and e.value == best and len(whole) > 1) for e in found]
