"""Figure 5: the spectrum of HiLo's two branches, from a run folder's spectrum.json.

`attnbench spectrum` writes that file: `frequency` (cycles per token), `amplitude` (branch -> mean log amplitude
at each frequency), and, where wanted, `maps` (branch -> the centred two-dimensional log amplitude) and `caption`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from attnbench.errors import AttnbenchError
from attnbench.report.chart import Chart
from attnbench.report.evidence import Evidence
from attnbench.report.style import PALETTE
from attnbench.results.journal import read_json
from attnbench.results.lines import decode
from attnbench.results.store import Run

FILE = "spectrum.json"
TITLE = "Figure 5: the spectrum of HiLo's two branches"


def charts(evidence: Evidence) -> list[Chart]:
    """One chart for each run that holds a spectrum; one that says so where none does."""
    found = [(run, _read(run)) for run in evidence.runs if (run.folder / FILE).exists()]
    if not found:
        chart = Chart("fig5-spectrum", TITLE, size=(6.4, 2.2))
        chart.caption = (
            f"The papers print no numbers here. A run folder's {FILE}, which `attnbench spectrum` "
            "writes, fills this figure."
        )
        chart.has_data = False
        chart.empty(chart.axes[0], "these runs hold no spectrum")
        return [chart]
    return [_chart(number, run, data) for number, (run, data) in enumerate(found, 1)]


@dataclass(frozen=True, kw_only=True)
class _Spectrum:
    """What is read of spectrum.json."""

    frequency: tuple[float, ...]
    amplitude: Mapping[str, tuple[float, ...]]
    maps: Mapping[str, tuple[tuple[float, ...], ...]] = field(default_factory=dict)
    caption: str = ""


MOST_BRANCHES = 8  # of one figure
LARGEST = 1e9  # size of a log amplitude


def _read(run: Run) -> _Spectrum:
    path = run.folder / FILE
    try:
        data = decode(_Spectrum, read_json(path), "spectrum")
        sides = {len(rows) for rows in data.maps.values()} | {len(row) for rows in data.maps.values() for row in rows}
        lines = [data.frequency, *data.amplitude.values()]
        if not data.amplitude or len({len(line) for line in lines}) > 1 or not data.frequency or 0 in sides:
            raise ValueError("its lines are empty or of unequal length")
        if any(len({len(row) for row in rows}) > 1 for rows in data.maps.values()):
            raise ValueError("the rows of a map are of unequal length")
        if max(len(data.amplitude), len(data.maps)) > MOST_BRANCHES:
            raise ValueError(f"it has more than {MOST_BRANCHES} branches")
        if not all(
            abs(v) < LARGEST for line in (*lines, *(r for rows in data.maps.values() for r in rows)) for v in line
        ):
            raise ValueError(f"its values are not finite or not below {LARGEST:g}")
    except ValueError as error:
        raise AttnbenchError(
            f"a spectrum has frequency and amplitude; {path} is damaged ({error}); run `attnbench spectrum` again"
        ) from error
    return data


def _chart(number: int, run: Run, data: _Spectrum) -> Chart:
    maps = data.maps
    chart = Chart(
        "fig5-spectrum" if number == 1 else f"fig5-spectrum-{number}",
        TITLE,
        size=(5 + 3.2 * len(maps), 3.8),
        panels=(1, 1 + len(maps)),
    )
    chart.caption = data.caption or f"Log amplitude of the outputs of each branch, run {run.id}."
    axes = chart.axes[0]
    for place, (branch, amplitude) in enumerate(sorted(data.amplitude.items())):
        color = PALETTE[(place + 1) % len(PALETTE)]
        axes.plot(data.frequency, amplitude, color=color, marker="osD^"[place % 4])
        axes.annotate(
            branch,
            (data.frequency[-1], amplitude[-1]),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            annotation_clip=False,
        )
    axes.margins(x=0.16)
    axes.set_xlabel("frequency (cycles per token)")
    axes.set_ylabel("log amplitude")
    highest = max((v for rows in maps.values() for row in rows for v in row), default=1.0)
    lowest = min((v for rows in maps.values() for row in rows for v in row), default=0.0)
    for axes, (branch, rows) in zip(chart.axes[1:], sorted(maps.items()), strict=True):
        axes.imshow(rows, cmap="cividis", vmin=lowest, vmax=highest, interpolation="nearest")
        axes.set_title(f"{branch}, zero frequency in the centre")
        axes.grid(visible=False)
        axes.set_xticks([])
        axes.set_yticks([])
    return chart
