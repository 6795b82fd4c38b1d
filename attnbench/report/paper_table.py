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
from attnbench.report.numbers import decimals, is_unresolved, number

PACKAGES = (
    r"% needs \usepackage{booktabs} and \usepackage{siunitx}, version 3; \usepackage[T1]{fontenc} for names"
    "\n"
    r"% such as Nystr\"omformer"
)


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
            r"\sisetup{uncertainty-mode=separate, text-series-to-math=true, reset-text-series=false,",
            r"  table-align-uncertainty=true}",
            rf"\begin{{tabular}}{{l{''.join(map(_format, written))}}}",
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
    whole = [e.value for e in found if e and not e.at_least and not _unresolved(e)]
    best = (min if least else max)(whole, default=None)
    return [_cell(e, e is not None and e.value == best and len(whole) > 1) for e in found]


def _cell(e: Estimate | None, best: bool) -> str:
    if e is None:
        return "{--}"
    if e.at_least:
        return rf"{{$\ge$ {number(e.value, 3)}}}"
    if _unresolved(e):
        return "{unresolved}"
    return rf"\bfseries {_number(e)}" if best else _number(e)


def _unresolved(e: Estimate) -> bool:
    return e.low is not None and e.high is not None and is_unresolved(e.low, e.high)


def _number(e: Estimate) -> str:
    r"""`1.535 \pm 0.045`: the uncertainty with two significant digits, the value with its decimals."""
    half = (e.high - e.low) / 2 if e.low is not None and e.high is not None else 0.0
    if not half:
        return number(e.value, 3)
    places = max(0, decimals(half, 2))
    return rf"{e.value:.{places}f} \pm {half:.{places}f}"


def _format(cells: Sequence[str]) -> str:
    """The column of siunitx: as many digits before and after the point, and of the uncertainty, as any cell has."""
    plain = [c.removeprefix(r"\bfseries ").split(r" \pm ") for c in cells if not c.startswith("{")]
    if not plain:
        return "c"

    def most(texts: Sequence[str], after: bool) -> int:
        return max((len((t + ".").split(".")[after]) for t in texts), default=0)

    values, halves = [c[0] for c in plain], [c[1] for c in plain if len(c) > 1]
    digits = max((len(h.replace(".", "").lstrip("0")) for h in halves), default=0)
    uncertainty = f"({digits})" if halves else ""
    return rf"S[table-format={most(values, False)}.{most(values, True)}{uncertainty}]"
