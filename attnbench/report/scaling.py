"""How time and memory grow with tokens, and from where on a mechanism beats the reference."""

from __future__ import annotations

import math
from collections.abc import Sequence

from attnbench.analysis import statistics
from attnbench.report.chart import Chart, log_axes, tall
from attnbench.report.evidence import Estimate, Evidence, Point, conditions, groups
from attnbench.report.grouping import GROUP, MEMORY, SPEED, eager, fastest, left_out, suffix, tokens, usual_range
from attnbench.report.names import display
from attnbench.report.numbers import number
from attnbench.report.style import INK
from attnbench.report.tables import Column, Table, Value


def _by_size(evidence: Evidence) -> list[dict[str, list[Point]]]:
    """Per condition and variant its measured points by number of tokens, where at least one has two sizes."""
    found = []
    for points in groups(eager(evidence, "layer"), *GROUP).values():
        lines = {
            variant: sorted(_sizes_once([p for p in ps if p.get(SPEED)]), key=tokens)
            for (variant,), ps in groups(points, "variant").items()
        }
        if any(len(line) > 1 for line in lines.values()):
            found.append(dict(sorted(lines.items())))
    return found


def _sizes_once(points: Sequence[Point]) -> list[Point]:
    return list({tokens(p): p for p in reversed(points)}.values())


def scaling_table(evidence: Evidence) -> Table:
    """How time and memory grow with tokens, and from where a mechanism beats MSA."""
    rows: list[tuple[Value, ...]] = []
    marks = []
    for lines in _by_size(evidence):
        for variant, line in lines.items():
            if not line:
                continue
            sizes = f"{tokens(line[0])} to {tokens(line[-1])}" if len(line) > 1 else f"{tokens(line[0])} only"
            rows.append(
                (
                    f"{line[0].machine}: {conditions(line[0].cell)}",
                    variant,
                    sizes,
                    exponent(line, SPEED),
                    exponent(line, MEMORY),
                    beats_from(line),
                )
            )
            marks.append(line[0].cell.mechanism)
    return Table(
        name="scaling",
        title="Growth with the number of tokens",
        caption="Exponents b of time and peak memory as tokens^b over the measured sizes (least squares on "
        "logarithms, 95 % interval where three sizes "
        "or more were measured); peak memory includes weights and input. The last column: tokens from which on "
        "the speed ratio's interval lies above 1 "
        "at every measured size, with the crossing between two sizes interpolated.",
        columns=(
            Column("condition", "condition"),
            Column("variant", "variant"),
            Column("tokens", "tokens"),
            Column("time", "exponent of time", digits=3),
            Column("memory", "exponent of memory", digits=3),
            Column("beats", "faster than the reference from"),
        ),
        rows=tuple(rows),
        marks=tuple(marks),
    )


def exponent(line: Sequence[Point], quantity: str) -> Estimate | None:
    """The exponent with its interval; of time for throughput."""
    found = [(float(tokens(p)), e.value) for p in line if (e := p.get(quantity)) and e.value > 0]
    if len(found) < 2:
        return None
    ys = [1 / y if quantity == SPEED else y for _, y in found]
    fit = statistics.power_law([x for x, _ in found], ys)
    if not math.isfinite(fit.low):
        return Estimate(fit.estimate)
    return Estimate(fit.estimate, fit.low, fit.high)


def beats_from(line: Sequence[Point]) -> str:
    """From how many tokens on a mechanism beats the reference, in words."""
    found = [(tokens(p), r) for p in line if (r := p.get("ratio_to_reference")) and r.low is not None]
    if not found:
        return "no ratio measured"
    if line[0].reference == line[0].cell.variant:
        return "the reference"
    place = len(found)
    while place and (found[place - 1][1].low or 0) > 1:
        place -= 1
    if place == len(found):
        return "not within these sizes"
    if place == 0:
        return f"all sizes ({found[0][0]} tokens and up)"
    (n0, r0), (n1, r1) = found[place - 1], found[place]
    if r0.value >= 1:
        return f"{n1} tokens"
    share = -math.log(r0.value) / (math.log(r1.value) - math.log(r0.value))
    return f"about {math.exp(math.log(n0) + share * math.log(n1 / n0)):.0f} tokens"


def scaling_charts(evidence: Evidence) -> list[Chart]:
    """The speed ratio over tokens."""
    charts = []
    for number_, lines in enumerate(_by_size(evidence), 1):
        chart = Chart(
            f"scaling{suffix(number_)}",
            "Who is faster from how many tokens on",
            size=(8.6, tall(len(lines), 5.2)),
            room=0.17,
        )
        (axes,) = chart.axes
        some = next(p for line in lines.values() for p in line)
        chart.choose(some.reference, fastest([line[-1] for line in lines.values() if line]))
        ratios = [r.value for line in lines.values() for p in line if (r := p.get("ratio_to_reference"))]
        usual, beyond = usual_range([*ratios, 1.0]), []
        ends = []
        for line in lines.values():
            found = [(tokens(p), r, p) for p in line if (r := p.get("ratio_to_reference"))]
            if not found:
                continue
            name = line[0].cell.mechanism
            if not all(usual[0] <= r.value <= usual[1] for _, r, _ in found):
                beyond.append(f"{line[0].cell.variant} (up to {number(max(r.value for _, r, _ in found), 3)})")
                continue
            if len(found) > 1:
                chart.line(axes, [n for n, _, _ in found], [r.value for _, r, _ in found], name)
            for n, r, _ in found:
                chart.point(axes, n, r, name)
            ends.append((name, float(found[-1][0]), found[-1][1].value))
        chart.caption = (
            f"{some.machine}: {conditions(some.cell)}, eager kernel. Speed over "
            f"{some.reference or 'the reference'}; above 1 is faster. Lines at points are intervals.{left_out(beyond)}"
        )
        if ends:
            axes.axhline(1, color=INK, linewidth=0.8)
            log_axes(axes)
            _token_ticks(axes, sorted({tokens(p) for line in lines.values() for p in line}))
            axes.set_xlabel("tokens")
            axes.set_ylabel(f"speed / speed of {display(some.reference or 'the reference')}")
            chart.end_labels(axes, ends)
        else:
            chart.empty(axes, "no ratio to a reference was measured")
        charts.append(chart)
    return charts


def _token_ticks(axes: object, tokens: Sequence[int]) -> None:
    from matplotlib.axes import Axes
    from matplotlib.ticker import FixedLocator, FuncFormatter

    assert isinstance(axes, Axes)
    axes.margins(0.05)
    axes.xaxis.set_major_locator(FixedLocator(list(tokens)))
    axes.xaxis.set_minor_locator(FixedLocator([]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.0f}"))
