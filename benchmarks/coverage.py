"""How often the intervals contain the truth, and how wide they are: invented rounds through the tool's own functions.

    python benchmarks/coverage.py [--trials 300] [--write]

Identical arms are timed under disturbances of known kind (attnbench/selftest/simulated.py). For each protocol and size
of the comparison group the table gives the share of intervals that contain 1, at a nominal 95 %, and in brackets their
mean half-width over that of the estimator used before November 2026: one turn of the reference a round, 3 x 4 or 4 x 4
processes x rounds, signed-rank or Student's interval by an F test, Bonferroni over three looks. --write puts the table
into docs/methods.md. No clock is read: the same seed gives the same table.

--repeated prints instead how often intervals hold under effects of the whole run: as a run alone gives them, and with
what ten runs of a self-test differed by, for layers that the self-test timed and for others.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np
from scipy import special

from attnbench.analysis.between_runs import Estimate, estimate, spread_of, widened
from attnbench.analysis.contrasts import contrasts
from attnbench.analysis.stopping import Rule
from attnbench.planning import protocol
from attnbench.results.events import Round
from attnbench.selftest.simulated import SCENARIOS, SPREAD, Scenario, runs, screened_runs

PAGE = Path(__file__).parents[1] / "docs" / "methods.md"
BEGIN, END = "<!-- coverage:begin -->", "<!-- coverage:end -->"
SIZES = (2, 4, 8, 39)  # arms of a comparison group, the reference included
FORMER = {"quick": (3, 4, 0.95), "standard": (4, 4, 1 - 0.05 / 3)}


@dataclass
class Tally:
    """Intervals so far: how many, how many contain 1, the sum of their half-widths of the log ratio."""

    total: int = 0
    hits: int = 0
    width: float = 0.0

    def add(self, low: float, high: float) -> None:
        """Count the interval from `low` to `high` of a log ratio."""
        self.total, self.hits = self.total + 1, self.hits + (low <= 0 <= high)
        self.width += (high - low) / 2


def present(scenario: Scenario, name: str, arms: int, trials: int, target: float) -> Tally:
    """The tool's own way: reference turns, the looks with their level, the contrasts of the group."""
    numbers = protocol.get(name).for_arms(arms)
    rule = Rule(looks=numbers.looks, target=target, budget_s=math.inf, level=numbers.level)
    most = numbers.looks[-1] // numbers.rounds_each
    turns = max(1, round(math.sqrt(arms - 1)))
    tally, others = Tally(), [str(n) for n in range(1, arms)]
    for run in runs(scenario, trials, arms=arms, processes=most, rounds=numbers.rounds_each, reference_turns=turns):
        for look in rule.looks:
            found = contrasts(run[:look], others, "0")
            intervals = [c.interval(rule.level_at_a_look) for c in found.values()]
            widest = max(i.half_width for i in intervals)
            if rule.decide(look, {"widest": widest}, 0.0).stop:
                break
        for interval in intervals:
            tally.add(math.log(interval.low), math.log(interval.high))
    return tally


def within(scenario: Scenario, trials: int) -> dict[str, Tally]:
    """Coverage under --within: of the arms that were left out because they are clearly behind, and of the others."""
    numbers = protocol.get("quick", [("within_s", 60.0)]).for_arms(len(SPREAD))
    level = Rule(looks=numbers.looks, target=math.inf, budget_s=math.inf, level=numbers.level).level_at_a_look
    tallies = {"left out": Tally(), "others": Tally()}
    for rounds, resting in screened_runs(
        scenario, trials, speeds=SPREAD, rounds=numbers.rounds_each, looks=numbers.looks, level=level
    ):
        for arm, found in contrasts(rounds, [str(n) for n in range(len(SPREAD))], "0").items():
            interval, truth = found.interval(level), SPREAD[int(arm)]
            tally = tallies["left out" if arm in resting else "others"]
            tally.add(math.log(interval.low) - truth, math.log(interval.high) - truth)
    return tallies


def repeated(scenario: Scenario, self_tests: int, *, tested: int = 10, later: int = 10) -> dict[str, Tally]:
    """Coverage of `later` runs after each of so many self-tests of `tested` runs: six layers, and two others."""
    layers, others = [str(n) for n in range(1, 7)], ["7", "8"]
    numbers = protocol.get("standard").for_arms(7)
    count = self_tests * (tested + later)
    made = runs(scenario, count, arms=9, processes=numbers.processes, rounds=numbers.rounds_each, reference_turns=2)
    tallies = {"a run alone": Tally(), "layers of the self-test": Tally(), "other layers": Tally()}
    for _ in range(self_tests):
        logs: dict[str, list[Estimate]] = {arm: [] for arm in layers}
        for run in islice(made, tested):
            for arm, found in contrasts(run, layers, "0").items():
                logs[arm].append((found.log_ratio, found.error))
        known = estimate(logs, logs, key=(), measured="")
        for run in islice(made, later):
            for arm, found in {**contrasts(run, layers, "0"), **contrasts(run, others, "0")}.items():
                spread = spread_of(known, arm)
                with_runs = widened(found, spread.ratio_sd, spread.df)
                for name, contrast in (("a run alone", found), (_kind(arm in layers), with_runs)):
                    ends = contrast.interval(numbers.level)
                    tallies[name].add(math.log(ends.low), math.log(ends.high))
    return tallies


def _kind(tested: bool) -> str:
    return "layers of the self-test" if tested else "other layers"


def former(scenario: Scenario, name: str, trials: int) -> Tally:
    """The estimator of before, of one arm and one turn of the reference a round, at its first look."""
    k, n, level = FORMER[name]
    tally = Tally()
    for run in runs(scenario, trials, arms=2, processes=k, rounds=n, seed=1):
        tally.add(*_former_interval(np.array(list(_ratios(run))).reshape(k, n), level))
    return tally


def _ratios(run: Sequence[Round]) -> Iterator[float]:
    for r in run:
        base, mine = r.log_time("0"), r.log_time("1")
        assert base is not None
        assert mine is not None
        yield base - mine


def _former_interval(data: np.ndarray, level: float) -> tuple[float, float]:
    k, n = data.shape
    means = data.mean(1)
    between = n * means.var(ddof=1)
    within = ((data - means[:, None]) ** 2).sum() / (k * (n - 1))
    if special.fdtrc(k - 1, k * (n - 1), between / within) < 0.30:
        reach = special.stdtrit(k - 1, 0.5 + level / 2) * means.std(ddof=1) / math.sqrt(k)
        return float(means.mean() - reach), float(means.mean() + reach)
    x = data.ravel()
    i, j = np.triu_indices(len(x))
    walsh = np.sort((x[i] + x[j]) / 2)
    rank = int(np.searchsorted(2 * _signed_rank(len(x)), 1 - level + 1e-12, side="right"))
    return float(walsh[rank - 1]), float(walsh[len(walsh) - rank])


@cache
def _signed_rank(n: int) -> np.ndarray:
    """P(Wilcoxon's signed-rank statistic of n values <= s), s = 0, 1, ..."""
    chances = np.ones(1)
    for rank in range(1, n + 1):
        longer = np.zeros(len(chances) + rank)
        longer[: len(chances)] += chances / 2
        longer[rank:] += chances / 2
        chances = longer
    return np.cumsum(chances)


def table(trials: int) -> str:
    """Markdown: a row a scenario; per protocol and size, coverage and relative width."""
    columns = [(name, arms) for name in FORMER for arms in SIZES]
    lines = ["| disturbance | " + " | ".join(f"{name}, {arms} arms" for name, arms in columns) + " |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    for words, scenario in SCENARIOS.items():
        cells = []
        for name, arms in columns:
            before = former(scenario, name, 4 * trials)
            count = max(200, round(2 * trials / (arms - 1)))  # arms of one run err together
            now = present(scenario, name, arms, count, target=0.008)
            share = (now.width / now.total) / (before.width / before.total)
            cells.append(f"{100 * now.hits / now.total:.1f} ({share:.2f})")
        lines.append(f"| {words} | " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    return "\n".join(lines)


def within_table(trials: int) -> str:
    """Markdown: a row a scenario; coverage of the arms that were left out, and of the others."""
    lines = ["| disturbance | left out | others |", "|---|---|---|"]
    for words, scenario in SCENARIOS.items():
        found = within(scenario, trials)
        shares = [f"{100 * t.hits / t.total:.1f} of {t.total}" if t.total else "none" for t in found.values()]
        lines.append(f"| {words} | {shares[0]} | {shares[1]} |")
        print(lines[-1], flush=True)
    return "\n".join(lines)


def repeated_table(self_tests: int) -> str:
    """Markdown: a row a scenario and size of the run's effect; coverage, and the width over a run's alone."""
    lines = ["| disturbance | a run alone | layers of the self-test | other layers |", "|---|---|---|---|"]
    for words, scenario in SCENARIOS.items():
        for sd in (0.3, 0.5, 1.0) if scenario.run_sd else (0.0,):
            found = repeated(replace(scenario, run_sd=sd), self_tests)
            alone = found["a run alone"].width / found["a run alone"].total
            cells = [f"{100 * t.hits / t.total:.1f} ({t.width / t.total / alone:.2f})" for t in found.values()]
            lines.append(f"| {words.replace('0.3', str(sd))} | " + " | ".join(cells) + " |")
            print(lines[-1], flush=True)
    return "\n".join(lines)


def main() -> None:
    """Print the table; with --write, put it into docs/methods.md."""
    options = argparse.ArgumentParser()
    options.add_argument("--trials", type=int, default=300, help="about as many ratios a cell, or more")
    options.add_argument("--write", action="store_true", help="write the table into docs/methods.md")
    options.add_argument("--screened", action="store_true", help="the coverage under --within, instead")
    options.add_argument(
        "--repeated", action="store_true", help="the coverage after a self-test of several runs, instead"
    )
    given = options.parse_args()
    if given.repeated:
        repeated_table(given.trials)
        return
    if given.screened:
        within_table(given.trials)
        return
    made = table(given.trials)
    if given.write:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        after = rest.partition(END)[2]
        PAGE.write_text(f"{before}{BEGIN}\n{made}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
