"""Beyond the papers: FLOPs against speed, the Pareto front, scaling, kernels and precisions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from attnbench import statistics
from attnbench.report.chart import Chart, tick
from attnbench.report.evidence import Estimate, Evidence, Point, conditions, groups
from attnbench.report.figures import tip
from attnbench.report.measured import kernel
from attnbench.report.style import INK
from attnbench.report.tables import Column, Table, Value, number

GROUP = ("machine", "device", "precision", "pass_", "batch", "dim", "heads", "stride", "threads", "allocator", "scope")
SPEED, MEMORY = "throughput_img_per_s", "peak_memory_bytes"


def _eager(evidence: Evidence, *scopes: str) -> list[Point]:
    return [p for p in evidence.points if p.cell.scope in scopes and p.cell.kernel == "eager" and not p.cell.compiled]


def _groups(evidence: Evidence, *need: str) -> list[list[Point]]:
    """Groups under one condition and resolution in which at least two variants have the quantities."""
    found = groups(_eager(evidence, "layer", "backbone", "task"), *GROUP, "res_h", "res_w").values()
    kept = [_once([p for p in ps if all(p.get(q) for q in need)]) for ps in found]
    return [ps for ps in kept if len(ps) > 1]


def _once(points: Sequence[Point]) -> list[Point]:
    """One point a variant: the first run's."""
    return list({p.cell.variant: p for p in reversed(points)}.values())[::-1]


def _where(p: Point) -> str:
    return f"{p.machine}: {p.cell.res_h}x{p.cell.res_w}, {conditions(p.cell)}"


def rank_correlation(points: Sequence[Point]) -> tuple[float, float]:
    """Spearman's rho and Kendall's tau of MACs and time per image."""
    macs = [_value(p, "macs") for p in points]
    times = [1 / _value(p, SPEED) for p in points]
    return _pearson(_ranks(macs), _ranks(times)), statistics.kendall_tau(macs, times)


def _value(p: Point, quantity: str) -> float:
    found = p.get(quantity)
    assert found is not None
    return found.value


def at_the_papers_size(evidence: Evidence, machine: str) -> list[Point]:
    """The largest group of layers at 224x224 in a forward pass on a machine that have MACs and a speed."""
    found = [
        ps
        for ps in _groups(evidence, "macs", SPEED)
        if (p := ps[0]).machine == machine
        and (p.cell.scope, p.cell.res_h, p.cell.res_w, p.cell.pass_) == ("layer", 224, 224, "forward")
    ]
    return max(found, key=lambda ps: (len(ps), ps[0].cell.precision == "fp32", ps[0].cell.batch == 64), default=[])


def speed(p: Point) -> float:
    """Images per second."""
    return _value(p, SPEED)


def macs(p: Point) -> float:
    """Multiply-accumulates per image."""
    return _value(p, "macs")


def _ranks(values: Sequence[float]) -> list[float]:
    return [sum(w < v for w in values) + (sum(w == v for w in values) + 1) / 2 for v in values]


def _pearson(x: Sequence[float], y: Sequence[float]) -> float:
    mx, my = sum(x) / len(x), sum(y) / len(y)
    top = sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True))
    under = math.sqrt(sum((a - mx) ** 2 for a in x) * sum((b - my) ** 2 for b in y))
    return top / under if under else math.nan


def flops_table(evidence: Evidence) -> Table:
    """How well MACs tell the speed, per condition."""
    rows: list[tuple[Value, ...]] = []
    for points in _groups(evidence, "macs", SPEED):
        rho, tau = rank_correlation(points)
        cheap = min(points, key=lambda p: _value(p, "macs"))
        fast = max(points, key=lambda p: _value(p, SPEED))
        rows.append(
            (
                _where(points[0]),
                Estimate(len(points)),
                Estimate(rho) if math.isfinite(rho) else None,
                Estimate(tau) if math.isfinite(tau) else None,
                cheap.cell.variant,
                fast.cell.variant,
            )
        )
    return Table(
        name="flops-against-speed",
        title="Do FLOPs tell the speed?",
        caption="Rank correlation of MACs with the time of an image, over the mechanisms measured under one "
        "condition: 1 means that fewer MACs always "
        "are faster, 0 that they tell nothing.",
        columns=(
            Column("condition", "condition"),
            Column("mechanisms", "variants", digits=9),
            Column("spearman", "Spearman's rho", digits=2),
            Column("kendall", "Kendall's tau", digits=2),
            Column("fewest", "fewest MACs"),
            Column("fastest", "fastest"),
        ),
        rows=tuple(rows),
    )


def _chosen(found: Sequence[list[Point]]) -> list[list[list[Point]]]:
    """Per condition up to three resolutions: the smallest, a middle one, the largest."""
    by_condition: dict[tuple[object, ...], list[list[Point]]] = {}
    for points in found:
        key = next(iter(groups(points, *GROUP)))
        by_condition.setdefault(key, []).append(points)
    return [
        [sizes[i] for i in sorted({0, len(sizes) // 2, len(sizes) - 1})]
        for sizes in (sorted(s, key=lambda ps: ps[0].cell.res_h * ps[0].cell.res_w) for s in by_condition.values())
    ]


def flops_charts(evidence: Evidence) -> list[Chart]:
    """MACs against throughput, with the rank correlation."""
    charts = []
    for number_, sizes in enumerate(_chosen(_groups(evidence, "macs", SPEED)), 1):
        chart = _panels(f"flops-speed{_suffix(number_)}", "FLOPs against measured speed", sizes)
        chart.caption = (
            f"{_condition(sizes)}. If FLOPs told the speed, the points would fall from the upper "
            "left to the lower right; rho is Spearman's rank correlation of MACs and time."
        )
        for axes, points in zip(chart.axes, sizes, strict=True):
            for p in points:
                speed = p.get(SPEED)
                if speed:
                    chart.point(axes, _value(p, "macs") / 1e9, speed, p.cell.mechanism, tip(p))
            rho, _ = rank_correlation(points)
            axes.set_title(f"{_size(points[0])}: rho {rho:.2f}, {len(points)} variants")
            axes.set_xlabel("MACs per image (G)")
            axes.set_ylabel("throughput (img/s)" if axes is chart.axes[0] else "")
            _logs(axes)
        for axes, points in zip(chart.axes, sizes, strict=True):
            chart.labels(
                axes, [(p.cell.mechanism, p.cell.variant, _value(p, "macs") / 1e9, _value(p, SPEED)) for p in points]
            )
        charts.append(chart)
    return charts


def front(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats in both speed and memory, the fastest first."""

    def beats(a: Point, b: Point) -> bool:
        better = _value(a, SPEED) >= _value(b, SPEED) and _value(a, MEMORY) <= _value(b, MEMORY)
        return better and (_value(a, SPEED), _value(a, MEMORY)) != (_value(b, SPEED), _value(b, MEMORY))

    best = [p for p in points if not any(beats(q, p) for q in points)]
    return sorted(best, key=lambda p: (-_value(p, SPEED), p.cell.variant))


def pareto_charts(evidence: Evidence) -> list[Chart]:
    """Memory against throughput and the front of the two."""
    charts = []
    for number_, sizes in enumerate(_chosen(_groups(evidence, SPEED, MEMORY)), 1):
        chart = _panels(f"pareto{_suffix(number_)}", "Speed and memory: the Pareto front", sizes)
        chart.caption = (
            f"{_condition(sizes)}. Filled points are on the front: nothing measured here is both "
            "faster and smaller. Upper left is better."
        )
        for axes, points in zip(chart.axes, sizes, strict=True):
            best = front(points)
            stairs = sorted((_value(p, MEMORY) / 2**20, _value(p, SPEED)) for p in best)
            axes.step(
                [x for x, _ in stairs],
                [y for _, y in stairs],
                where="post",
                color=INK,
                linewidth=0.9,
                alpha=0.6,
                zorder=0,
            )
            for p in points:
                speed = p.get(SPEED)
                if speed:
                    chart.point(axes, _value(p, MEMORY) / 2**20, speed, p.cell.mechanism, tip(p), hollow=p not in best)
            axes.set_title(f"{_size(points[0])}: {len(best)} of {len(points)} on the front")
            axes.set_xlabel("peak memory (MiB)")
            axes.set_ylabel("throughput (img/s)" if axes is chart.axes[0] else "")
            _logs(axes)
        for axes, points in zip(chart.axes, sizes, strict=True):
            chart.labels(
                axes, [(p.cell.mechanism, p.cell.variant, _value(p, MEMORY) / 2**20, _value(p, SPEED)) for p in points]
            )
        charts.append(chart)
    return charts


def pareto_table(evidence: Evidence) -> Table:
    """The members of every front."""
    rows: list[tuple[Value, ...]] = []
    marks = []
    for points in _groups(evidence, SPEED, MEMORY):
        for p in front(points):
            rows.append((_where(p), p.cell.variant, p.get(SPEED), p.get(MEMORY), p.get("ratio_to_reference")))
            marks.append(p.cell.mechanism)
    return Table(
        name="pareto",
        title="The Pareto front of speed and memory",
        caption="Per condition the variants that no other measured one beats in both, the fastest first.",
        columns=(
            Column("condition", "condition"),
            Column("variant", "variant"),
            Column(SPEED, "throughput", "img/s"),
            Column(MEMORY, "peak memory", "MiB", 2**20),
            Column("ratio", "speed ratio", "x", digits=3),
        ),
        rows=tuple(rows),
        marks=tuple(marks),
    )


def _by_size(evidence: Evidence) -> list[dict[str, list[Point]]]:
    """Per condition and variant its measured points by number of tokens, where at least one has two sizes."""
    found = []
    for points in groups(_eager(evidence, "layer"), *GROUP).values():
        lines = {
            variant: sorted(_sizes_once([p for p in ps if p.get(SPEED)]), key=_tokens)
            for (variant,), ps in groups(points, "variant").items()
        }
        if any(len(line) > 1 for line in lines.values()):
            found.append(dict(sorted(lines.items())))
    return found


def _sizes_once(points: Sequence[Point]) -> list[Point]:
    return list({_tokens(p): p for p in reversed(points)}.values())


def _tokens(p: Point) -> int:
    return p.cell.grid[0] * p.cell.grid[1]


def scaling_table(evidence: Evidence) -> Table:
    """How time and memory grow with tokens, and from where a mechanism beats MSA."""
    rows: list[tuple[Value, ...]] = []
    marks = []
    for lines in _by_size(evidence):
        for variant, line in lines.items():
            if not line:
                continue
            sizes = f"{_tokens(line[0])} to {_tokens(line[-1])}" if len(line) > 1 else f"{_tokens(line[0])} only"
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
    found = [(float(_tokens(p)), e.value) for p in line if (e := p.get(quantity)) and e.value > 0]
    if len(found) < 2:
        return None
    ys = [1 / y if quantity == SPEED else y for _, y in found]
    fit = statistics.power_law([x for x, _ in found], ys)
    if not math.isfinite(fit.low):
        return Estimate(fit.estimate)
    return Estimate(fit.estimate, fit.low, fit.high)


def beats_from(line: Sequence[Point]) -> str:
    """From how many tokens on a mechanism beats the reference, in words."""
    found = [(_tokens(p), r) for p in line if (r := p.get("ratio_to_reference")) and r.low is not None]
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
        chart = Chart(f"scaling{_suffix(number_)}", "Who is faster from how many tokens on", size=(8.6, 5.2), room=0.17)
        (axes,) = chart.axes
        some = next(p for line in lines.values() for p in line)
        ends = []
        for line in lines.values():
            found = [(_tokens(p), r, p) for p in line if (r := p.get("ratio_to_reference"))]
            if not found:
                continue
            name = line[0].cell.mechanism
            if len(found) > 1:
                chart.line(axes, [n for n, _, _ in found], [r.value for _, r, _ in found], name)
            for n, r, p in found:
                chart.point(axes, n, r, name, tip(p))
            ends.append((name, float(found[-1][0]), found[-1][1].value))
        chart.caption = (
            f"{some.machine}: {conditions(some.cell)}, eager kernel. Speed over "
            f"{some.reference or 'the reference'}; above 1 is faster. Lines at points are intervals."
        )
        if ends:
            axes.axhline(1, color=INK, linewidth=0.8)
            _logs(axes)
            _token_ticks(axes, sorted({_tokens(p) for line in lines.values() for p in line}))
            axes.set_xlabel("tokens")
            axes.set_ylabel(f"speed / speed of {some.reference or 'the reference'}")
            chart.end_labels(axes, ends)
        else:
            chart.empty(axes, "no ratio to a reference was measured")
        charts.append(chart)
    return charts


def kernels(evidence: Evidence) -> tuple[Table, list[Chart]]:
    """Every kernel, compilation and precision against eager fp32 of the same variant."""
    found = []
    keys = (
        "machine",
        "device",
        "pass_",
        "batch",
        "dim",
        "heads",
        "stride",
        "threads",
        "allocator",
        "scope",
        "res_h",
        "res_w",
        "variant",
    )
    for points in groups([p for p in evidence.points if p.get(SPEED)], *keys).values():
        base = next(
            (p for p in points if (p.cell.kernel, p.cell.compiled, p.cell.precision) == ("eager", False, "fp32")), None
        )
        others = [
            p for p in points if base and (p.cell.kernel, p.cell.compiled, p.cell.precision) != ("eager", False, "fp32")
        ]
        found += [(p, _over(p, base)) for p in others if base]
    rows: tuple[tuple[Value, ...], ...] = tuple(
        (
            _plain_where(p),
            p.cell.variant,
            p.cell.precision,
            kernel(p),
            ratio,
            p.get(SPEED),
            p.get(MEMORY),
            " ".join(p.flags),
        )
        for p, ratio in found
    )
    table = Table(
        name="kernels",
        title="Kernels and precisions",
        caption="Speed over the same variant with the eager kernel in fp32, under the same conditions. The "
        "interval comes from the two medians' intervals.",
        columns=(
            Column("condition", "condition"),
            Column("variant", "variant"),
            Column("precision", "precision"),
            Column("kernel", "kernel"),
            Column("ratio", "over eager fp32", "x", digits=3),
            Column(SPEED, "throughput", "img/s"),
            Column(MEMORY, "peak memory", "MiB", 2**20),
            Column("flags", "flags"),
        ),
        rows=rows,
        marks=tuple(p.cell.mechanism for p, _ in found),
    )
    return table, _kernel_charts(found)


def _plain_where(p: Point) -> str:
    return f"{p.machine}: {p.cell.res_h}x{p.cell.res_w}, batch {p.cell.batch}, {p.cell.pass_} pass"


def _over(p: Point, base: Point) -> Estimate:
    a, b = p.get(SPEED), base.get(SPEED)
    assert a is not None
    assert b is not None
    ratio = a.value / b.value
    if a.low is None or a.high is None or b.low is None or b.high is None or min(a.low, b.low) <= 0:
        return Estimate(ratio)
    reach = math.exp(math.hypot(math.log(a.high / a.low), math.log(b.high / b.low)) / 2)
    return Estimate(ratio, ratio / reach, ratio * reach)


def _kernel_charts(found: Sequence[tuple[Point, Estimate]]) -> list[Chart]:
    charts = []
    by_place: dict[str, list[tuple[Point, Estimate]]] = {}
    for p, ratio in found:
        by_place.setdefault(_plain_where(p), []).append((p, ratio))
    for number_, (where, some) in enumerate(by_place.items(), 1):
        variants = sorted({p.cell.variant for p, _ in some})
        ways = sorted({(p.cell.precision, kernel(p)) for p, _ in some})
        columns = min(3, len(ways))
        chart = Chart(
            f"kernels{_suffix(number_)}",
            "Kernels and precisions against eager fp32",
            panels=(-(-len(ways) // columns), columns),
            share_y=True,
            size=(2.4 + 3.1 * columns, 1.3 + (0.8 + 0.24 * len(variants)) * -(-len(ways) // columns)),
        )
        chart.caption = (
            f"{where}. Speed over the same variant in fp32 with the eager kernel; right of the line is faster."
        )
        for axes, (precision, name) in zip(chart.axes, ways, strict=False):
            for p, ratio in some:
                if (p.cell.precision, kernel(p)) == (precision, name):
                    chart.barh(
                        axes,
                        variants.index(p.cell.variant),
                        ratio,
                        p.cell.mechanism,
                        f"{tip(p)}; {number(ratio.value, 3)} x eager fp32",
                    )
            axes.axvline(1, color=INK, linewidth=0.8)
            axes.set_yticks(range(len(variants)), variants)
            axes.set_ylim(len(variants) - 0.4, -0.6)
            axes.set_xlim(left=0)
            axes.grid(visible=False, axis="y")
            axes.set_title(f"{precision}, {name}")
            axes.set_xlabel("speed over eager fp32")
        for axes in chart.axes[len(ways) :]:
            axes.set_visible(False)
        charts.append(chart)
    return charts


def _panels(name: str, title: str, sizes: Sequence[Sequence[Point]]) -> Chart:
    return Chart(name, title, size=(1.2 + 4.6 * len(sizes), 4.8), panels=(1, len(sizes)))


def _condition(sizes: Sequence[Sequence[Point]]) -> str:
    p = sizes[0][0]
    return f"{p.machine}: {conditions(p.cell)}, eager kernel"


def _size(p: Point) -> str:
    return f"{p.cell.res_h}x{p.cell.res_w}"


def _suffix(number_: int) -> str:
    return "" if number_ == 1 else f"-{number_}"


def _logs(axes: object) -> None:
    from matplotlib.axes import Axes
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    assert isinstance(axes, Axes)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(FuncFormatter(lambda v, _: tick(v)))
        axis.set_minor_formatter(NullFormatter())
    axes.margins(0.16)


def _token_ticks(axes: object, tokens: Sequence[int]) -> None:
    from matplotlib.axes import Axes
    from matplotlib.ticker import FixedLocator, FuncFormatter

    assert isinstance(axes, Axes)
    axes.margins(0.05)
    axes.xaxis.set_major_locator(FixedLocator(list(tokens)))
    axes.xaxis.set_minor_locator(FixedLocator([]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.0f}"))
