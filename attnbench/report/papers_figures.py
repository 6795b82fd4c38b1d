"""The papers' figures that have published or computed numbers of their own: 2, 4, 5 and 6."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from attnbench import published
from attnbench.published import arithmetic as by
from attnbench.published.partners import LAYERS
from attnbench.report.chart import Chart, tick
from attnbench.report.evidence import Estimate, Evidence, Point, groups
from attnbench.report.matching import BATCH, has_layer_size, is_on, partners, ran_as_published, same_variant
from attnbench.report.style import INK, PALETTE, small

SIDES = tuple(range(224, 1025, 32))
DIM, HEADS = 384, 12
# name, its label, colour, dashes, and by how many points the label is moved up, away from its neighbour's
BRANCHES: tuple[tuple[str, str, str, tuple[float, ...], float], ...] = (
    ("msa", "MSA", INK, (), 0),
    ("hilo", "HiLo", PALETTE[0], (), 3),
    ("Hi-Fi", "Hi-Fi", PALETTE[1], (4, 1.5), -2),
    ("Lo-Fi", "Lo-Fi", PALETTE[2], (1, 1.2), -2),
)


def complexity(evidence: Evidence) -> Chart:
    """Figure 2: MACs by the closed formulas over resolution, window and alpha, and what was counted."""
    from attnbench.report.log_scale import LogScale

    chart = Chart("fig2-complexity", "Figure 2: what a layer costs by its formula", size=(11.5, 4.0), panels=(1, 3))
    chart.caption = (
        f"Multiply-accumulates per image by closed formula at dim {DIM}, {HEADS} heads, stride 16. Left: window "
        "2, half of the heads in each "
        "branch. Middle: HiLo whole, by window, at three resolutions (no padding counted). Right: HiLo by alpha "
        "at 224x224. "
        "Crosses are counts of these runs at the same setting, where there are any."
    )
    chart.has_data = "hilo" in evidence.by_mechanism
    first, second, third = chart.axes
    for key, name, color, dashes, up in BRANCHES:
        ys = [_cost(key, (side // 16) ** 2) / 1e9 for side in SIDES]
        (line,) = first.plot(SIDES, ys, color=color)
        if dashes:
            line.set_dashes(dashes)
        first.annotate(name, (SIDES[-1], ys[-1]), xytext=(4, up), textcoords="offset points", va="center", color=color)
    first.set_yscale(LogScale(first.yaxis))
    first.set_xlim(200, 1180)
    _plain(first)
    first.set_title("over resolution")
    first.set_xlabel("resolution (pixels)")
    first.set_ylabel("MACs (G)")
    for side, color, shape in ((224, PALETTE[0], "o"), (512, PALETTE[1], "s"), (1024, PALETTE[2], "^")):
        n, windows = (side // 16) ** 2, range(2, 8)
        ys = [by.hilo(n, DIM, HEADS, s, 0.5) / by.hilo(n, DIM, HEADS, 2, 0.5) for s in windows]
        second.plot(list(windows), ys, color=color, marker=shape)
        second.annotate(f"{side}", (7, ys[-1]), xytext=(5, 0), textcoords="offset points", va="center", color=color)
    second.set_ylim(bottom=0)
    second.set_xlim(1.7, 7.9)
    second.set_title("over the window")
    second.set_xlabel("window (tokens)")
    second.set_ylabel("MACs, relative to window 2")
    alphas = [i / HEADS for i in range(HEADS + 1)]
    ys = [by.hilo(196, DIM, HEADS, 2, a + 1e-9) / 1e6 for a in alphas]
    third.plot(alphas, ys, color=PALETTE[0], marker="o")
    for p in evidence.points:
        macs = p.get("macs")
        settings = dict(p.cell.settings)
        if (
            macs
            and p.cell.mechanism == "hilo"
            and p.cell.dim == DIM
            and p.cell.heads == HEADS
            and p.cell.grid == (14, 14)
            and settings.get("window_size") == 2
            and isinstance(settings.get("alpha"), int | float)
        ):
            third.plot([float(settings["alpha"])], [macs.value / 1e6], "x", color=INK, markersize=8)
    third.set_ylim(bottom=0)
    third.set_title("over alpha")
    third.set_xlabel("alpha (share of heads in Lo-Fi)")
    third.set_ylabel("MACs (M)")
    return chart


def _cost(key: str, n: int) -> float:
    if key == "msa":
        return by.msa(n, DIM)
    fine, coarse = by.hifi(n, DIM), by.lofi(n, DIM)
    return {"hilo": fine + coarse, "Hi-Fi": fine, "Lo-Fi": coarse}[key]


def _plain(axes: object) -> None:
    from matplotlib.axes import Axes
    from matplotlib.ticker import FuncFormatter

    assert isinstance(axes, Axes)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: tick(y)))


def alpha(evidence: Evidence) -> Chart:
    """Figure 4: LITv2-S over alpha: published MACs and accuracy, our counts and speed."""
    chart = Chart(
        "fig4-alpha", "Figure 4: the share of low-frequency heads in LITv2-S", size=(11.5, 3.8), panels=(1, 3)
    )
    chart.caption = (
        "LITv2-S at 224x224. Hollow: published (the alpha table of its repository). Filled: these runs. "
        "Accuracy is as published; none is measured. "
        "The published MACs of alpha 1 lie below what the model can reach (see the errata)."
    )
    chart.choose("", ["litv2_s"])
    rows = published.read("alpha")
    xs = [float(r["alpha"]) for r in rows]
    macs, top, speed = chart.axes
    for axes, key, label in ((macs, "flops_g", "MACs (G)"), (top, "top1_pct", "top-1 as published (%)")):
        axes.plot(
            xs,
            [float(r[key]) for r in rows],
            color=INK,
            marker="o",
            markerfacecolor="none",
            dashes=(4, 1.5),
            label="published",
        )
        axes.set_title(label)
        axes.set_xlabel("alpha")
    for a in xs:
        for p in partners(evidence, ("backbone", (f"litv2_s[alpha={a}]",)), (224, 224)):
            counted = p.get("macs")
            if counted:
                chart.point(macs, a, counted.over(1e9), "litv2_s")
                break
    chart.has_data = bool(evidence.by_mechanism.get("litv2_s"))
    found = [(a, p, e) for a in xs for p, e in _fastest(evidence, f"litv2_s[alpha={a}]")]
    for a, _, e in found:
        chart.point(speed, a, e, "litv2_s")
    speed.set_title("throughput (img/s)")
    speed.set_xlabel("alpha")
    if found:
        speed.set_ylim(0, 1.1 * max(e.high or e.value for _, _, e in found))
        machine = found[0][1]
        speed.set_title(f"throughput (img/s), batch {machine.cell.batch}")
        chart.caption += f" Speed on {machine.machine}."
    else:
        chart.empty(speed, "no speed of LITv2-S over alpha\nin these runs")
    return chart


def _fastest(evidence: Evidence, variant: str) -> list[tuple[Point, Estimate]]:
    """The speed of a backbone in fp32, on a GPU where there is one, at the published batch where it was measured."""
    found = [
        (p, e)
        for p in partners(evidence, ("backbone", (variant,)), (224, 224))
        if p.cell.pass_ == "forward"
        and ran_as_published(p.cell)
        and p.cell.precision == "fp32"
        and (e := p.get("throughput_img_per_s"))
    ]
    return sorted(found, key=lambda x: (x[0].device_kind != "gpu", x[0].cell.batch != BATCH, x[0].machine))[:1]


def bars(evidence: Evidence) -> list[Chart]:
    """Figure 6: single layers on a CPU and a GPU, published and measured."""
    chart = Chart("fig6-layers", "Figure 6: single layers on a CPU and a GPU", size=(11.5, 6.6), panels=(2, 2))
    chart.choose("msa", ["hilo"])
    rows = published.read("layer_benchmark")
    columns = (
        ("cpu", "throughput_cpu_img_per_s", "Core i9-10900X"),
        ("gpu", "throughput_rtx3090_img_per_s", "RTX 3090"),
    )
    captions = []
    for place, (kind, key, device) in enumerate(columns):
        above, below = chart.axes[place], chart.axes[place + 2]
        ordered = sorted(rows, key=lambda r: -float(r["throughput_cpu_img_per_s"]))
        names = [r["mechanism"] for r in ordered]
        for i, row in enumerate(ordered):
            chart.barh(
                above,
                i,
                Estimate(float(row[key])),
                LAYERS[row["mechanism"]][1][0],
            )
        _named_bars(above, names, f"published: {device}")
        found, some = _layer_speeds(evidence, kind)
        if not some:
            chart.empty(below, f"no {kind.upper()} in these runs\nmeasured layers at 14x14 tokens")
            below.set_title("these runs")
            continue
        group = some[0]
        for i, name in enumerate(names):
            point = found.get(LAYERS[name][1][0])
            speed = point.get("throughput_img_per_s") if point else None
            if point and speed:
                chart.barh(below, i, speed, point.cell.mechanism)
            else:
                why = point.outcome if point else "not in these runs"
                below.text(0, i, f" {why}", va="center", fontsize=small())
        _named_bars(below, names, f"these runs: {group.machine}")
        captions.append(f"{group.machine}: batch {group.cell.batch}, {group.cell.precision}, eager kernel")
    chart.caption = (
        "Images per second at 14x14 tokens, dim 768, 12 heads; both in the order of the published CPU speeds. "
        "Published at batch 64. "
        + (
            f"Measured on {'; '.join(captions)}; lines are intervals."
            if captions
            else "These runs measured no layer at this size."
        )
    )
    chart.has_data = bool(captions)
    return [chart]


def _named_bars(axes: object, names: Sequence[str], title: str) -> None:
    from matplotlib.axes import Axes

    assert isinstance(axes, Axes)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(left=0)
    axes.grid(visible=False, axis="y")
    axes.set_title(textwrap.fill(title, 52))
    axes.set_xlabel("img/s")


def _layer_speeds(evidence: Evidence, kind: str) -> tuple[dict[str, Point], list[Point]]:
    """The layers at the published size on one device of a kind, by mechanism; the group nearest to the papers'."""
    timed = [
        p
        for p in evidence.points
        if p.cell.scope == "layer"
        and (p.cell.res_h, p.cell.res_w) == (224, 224)
        and has_layer_size(p.cell)
        and is_on(p, kind)
        and p.cell.pass_ == "forward"
        and ran_as_published(p.cell)
    ]
    best: list[Point] = []
    for found in groups(timed, "machine", "device", "precision", "batch", "threads", "allocator").values():
        if any(p.ok for p in found) and (not best or _nearness(found) > _nearness(best)):
            best = found
    by_name: dict[str, Point] = {}
    for name in (v[0] for _, v in LAYERS.values()):
        match = [p for p in best if same_variant(p.cell, name)]
        if match:
            by_name[name] = match[0]
    return by_name, best[:1]


def _nearness(found: Sequence[Point]) -> tuple[int, int, bool]:
    return sum(p.ok for p in found), int(found[0].cell.batch == BATCH), found[0].cell.precision == "fp32"
