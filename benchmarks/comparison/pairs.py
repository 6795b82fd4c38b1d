"""Pairs of arms of one run: the speed ratio of each with its interval, their geometric mean, and a Markdown table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from attnbench.analysis.contrasts import Contrast, contrasts
from attnbench.planning.cell import Cell
from attnbench.results.record import Record
from attnbench.results.store import Run, read_rounds

MIB = 1 << 20


@dataclass(frozen=True)
class Pair:
    """One of our arms against the other one, at one size.

    Attributes:
        cell: of our arm.
        contrast: our speed over the other's; None where the two share no round.
        ours, other: the records; None where there is none yet.
    """

    cell: Cell
    contrast: Contrast | None
    ours: Record | None
    other: Record | None

    @property
    def condition(self) -> tuple[int, int, int, str]:
        """Height and width in pixels, images in a batch, our kernel and runtime."""
        return self.cell.res_h, self.cell.res_w, self.cell.batch, self.cell.execution


def pairs(measured: Run, others: Mapping[str, str]) -> Iterator[Pair]:
    """Every pair of a run, in the order of its plan.

    Args:
        measured: the run.
        others: our variants -> the variants that they are compared with. Several of our kernels and runtimes may meet
            one arm, the other's `eager`.
    """
    rounds = read_rounds(measured.folder)
    records = {record.cell.id: record for record in measured.records}
    found = {(cell.group, cell.variant): cell for cell in measured.cells if cell.execution == "eager"}
    for cell in measured.cells:
        other = found.get((cell.group, others.get(cell.variant, "")))
        if other is not None:
            contrast = contrasts(rounds.get(cell.group, []), [cell.id], other.id).get(cell.id)
            yield Pair(cell, contrast, records.get(cell.id), records.get(other.id))


def geometric_mean(found: Sequence[Contrast]) -> Contrast:
    """The mean of log ratios of disjoint pairs of arms, whose errors are independent.

    Welch and Satterthwaite's degrees of freedom.

    Raises:
        ValueError: no ratios.
    """
    if not found:
        raise ValueError("a geometric mean needs at least one ratio; got none")
    square = math.fsum(c.error**2 for c in found)
    scale = math.fsum(c.error**4 / c.df for c in found if c.df > 0)
    return Contrast(
        log_ratio=math.fsum(c.log_ratio for c in found) / len(found),
        error=math.sqrt(square) / len(found),
        df=square**2 / scale if scale and math.isfinite(square) else min(c.df for c in found),
        rounds=min(c.rounds for c in found),
        processes=min(c.processes for c in found),
        units=min(c.units for c in found),
    )


def shown(contrast: Contrast) -> str:
    """`1.52 [1.47, 1.58]`."""
    interval = contrast.interval()
    return f"{interval.estimate:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def label(condition: tuple[int, int, int, str]) -> str:
    """`224 px, batch 8`, with the kernel and runtime where they are not eager."""
    height, width, batch, execution = condition
    size = f"{height}" if height == width else f"{height}x{width}"
    return f"{size} px, batch {batch}" + ("" if execution == "eager" else f", {execution}")


def table(found: Sequence[Pair]) -> list[str]:
    """Lines of a Markdown table: a row for each of our variants, a column for each condition, the geometric means.

    A cell without a ratio names the outcome of the arm that has none.
    """
    conditions = list(dict.fromkeys(pair.condition for pair in found))
    at = {(pair.cell.variant, pair.condition): pair for pair in found}
    lines = ["| layer | " + " | ".join(map(label, conditions)) + " |", "|---" * (len(conditions) + 1) + "|"]
    for variant in dict.fromkeys(pair.cell.variant for pair in found):
        cells = [_cell(at.get((variant, condition))) for condition in conditions]
        lines.append(f"| `{variant}` | " + " | ".join(cells) + " |")
    means = []
    for condition in conditions:
        ratios = [pair.contrast for pair in found if pair.condition == condition and pair.contrast]
        means.append(shown(geometric_mean(ratios)) if ratios else "-")
    return [*lines, "| geometric mean | " + " | ".join(means) + " |"]


def _cell(pair: Pair | None) -> str:
    if pair is None:
        return "-"
    if pair.contrast is not None:
        return shown(pair.contrast)
    for record in (pair.ours, pair.other):
        if record is not None and record.outcome != "ok":
            return record.outcome
    return "-"


def memory(record: Record | None) -> str:
    """The peak of one call above weights and input in MiB, or a dash."""
    value = record.values.get("peak_growth_bytes") if record else None
    return f"{value / MIB:.0f}" if isinstance(value, int | float) else "-"
