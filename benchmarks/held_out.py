"""Whether intervals hold on real rounds: some processes of a stored run predict the others.

    python benchmarks/held_out.py [RUN ...] [--splits 60]

The processes of a comparison group are divided at random. From one part comes each arm's log speed ratio with its error
and degrees of freedom, as the tool computes them; the other part gives the ratio to be met, with an error of its own.
The interval of the difference (Welch's degrees of freedom) should contain 0 in 95 of 100 cases. Each line says so with
moderated variances and without them, and how wide the moderated intervals are beside the others.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from attnbench.analysis import contrasts as estimator
from attnbench.analysis.statistics import student_quantile
from attnbench.results.events import Round
from attnbench.results.store import open_run, read_rounds

SIZES = (4, 6, 8)  # processes that predict
LEAST_HELD = 4  # processes that are predicted


def differences(fit: Sequence[Round], held: Sequence[Round], arms: Sequence[str], base: str) -> Iterator[list[float]]:
    """For each arm: whether the interval contains the held-out ratio, and the half-width that predicted it."""
    ours, theirs = estimator.contrasts(fit, arms, base), estimator.contrasts(held, arms, base)
    for arm in ours.keys() & theirs.keys():
        a, b = ours[arm], theirs[arm]
        square = a.error**2 + b.error**2
        df = square**2 / (a.error**4 / a.df + b.error**4 / b.df)
        inside = abs(a.log_ratio - b.log_ratio) <= student_quantile(0.975, df) * square**0.5
        yield [float(inside), student_quantile(0.975, a.df) * a.error]


def judge(rounds: Sequence[Round], arms: Sequence[str], base: str, size: int, splits: int) -> np.ndarray:
    """Over random divisions: [cases, (inside, half-width) moderated, then without]."""
    rng, found = random.Random(0), []
    processes = sorted({r.process for r in rounds})
    moderated = estimator.MODERATED
    for _ in range(splits):
        chosen = set(rng.sample(processes, size))
        fit, held = ([r for r in rounds if (r.process in chosen) is part] for part in (True, False))
        try:
            with_it = list(differences(fit, held, arms, base))
            estimator.MODERATED = 10**9
            without = list(differences(fit, held, arms, base))
        finally:
            estimator.MODERATED = moderated
        found += [[*x, *y] for x, y in zip(with_it, without, strict=True)]
    return np.array(found)


def main() -> None:
    """Print a line for each group and number of predicting processes."""
    options = argparse.ArgumentParser()
    default = sorted(Path(__file__).parents[1].glob("reports/runs/*"))
    options.add_argument("runs", nargs="*", type=Path, default=default)
    options.add_argument("--splits", type=int, default=60, help="random divisions of each group")
    given = options.parse_args()
    print("| run | group | arms | processes | predicted by | moderated | without | width |")
    print("|---|---|---|---|---|---|---|---|")
    for folder in given.runs:
        records = open_run(folder).records
        for group, rounds in read_rounds(folder).items():
            arms = [r.cell.id for r in records if r.cell.group == group and r.outcome == "ok"]
            base = next((r.cell for r in records if r.cell.group == group and r.cell.variant == "msa"), None)
            processes = len({r.process for r in rounds})
            if base is None or len(arms) < estimator.MODERATED:
                continue
            for size in (n for n in SIZES if processes - n >= LEAST_HELD):
                found = judge(rounds, arms, base.id, size, given.splits)
                inside, width, plain, plain_width = found.mean(axis=0)
                place = f"{base.res_h} px, batch {base.batch}"
                print(
                    f"| {folder.name} | {place} | {len(arms)} | {processes} | {size} | {inside:.1%} | {plain:.1%} "
                    f"| {width / plain_width:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
