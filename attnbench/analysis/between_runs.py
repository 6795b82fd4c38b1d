"""Several runs of the same layers -> what runs differ by beyond what any of them sees, and intervals that include it.

An interval rests on the rounds of one run, so what lasts as long as the run is outside it: the clock of a hot machine,
what other virtual machines of the host do. Repeats at that level are the only evidence of it (Kalibera and Jones
2013, Rigorous benchmarking in reasonable time, ISMM). They are made once (`attnbench selftest --runs`), and later
runs of the machine take the result into their errors.

Estimate. Of each layer, the variance of its log ratio over the runs less the mean of the squared errors that the runs
claim: the excess. The layers' mean excess lends every layer as many degrees of freedom as an arm's variance borrows in
a run (`contrasts.moderated`), and the mean of what the layers then have serves every layer that was not among them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from attnbench.analysis.contrasts import PRIOR_DF, Contrast
from attnbench.analysis.statistics import Difference
from attnbench.planning.protocol import LEAST_RUNS
from attnbench.results.events import BetweenRuns
from attnbench.results.record import Record

Estimate = tuple[float, float]  # a log and the standard error that its run claims


class RunSpread(NamedTuple):
    """What runs add to the error of one arm: standard deviations of its log ratio and log time, and their df."""

    ratio_sd: float = 0.0
    time_sd: float = 0.0
    df: float = math.inf


def estimate(
    ratios: Mapping[str, Sequence[Estimate]], times: Mapping[str, Sequence[Estimate]], *, key: tuple[str | int, ...],
    measured: str,
) -> BetweenRuns:  # fmt: skip
    """What the runs differ by beyond their claims.

    Args:
        ratios: the log speed ratio to the reference with its error, one a run, by mechanism.
        times: the same of the log time; the reference is among them.
        key: as of `BetweenRuns`.
        measured: when, ISO 8601.

    Raises:
        ValueError: fewer than `LEAST_RUNS` runs, or layers of unequally many.
    """
    runs = {len(of_layer) for of_layer in (*ratios.values(), *times.values())}
    if len(runs) != 1 or min(runs) < LEAST_RUNS:
        raise ValueError(f"at least {LEAST_RUNS} runs of the same layers are needed; got {sorted(runs)}")
    (ratio_sd, other_ratio_sd), (time_sd, other_time_sd) = _components(ratios), _components(times)
    return BetweenRuns(
        key=key, runs=min(runs), measured=measured, ratio_sd=ratio_sd, time_sd=time_sd,
        other_ratio_sd=other_ratio_sd, other_time_sd=other_time_sd,
    )  # fmt: skip


def _components(layers: Mapping[str, Sequence[Estimate]]) -> tuple[dict[str, float], float]:
    """The standard deviation between runs of each layer, and that of a layer that is not among them."""
    excess = {}
    for name, of_layer in layers.items():
        logs, errors = np.array(of_layer, dtype=np.float64).T
        excess[name] = float(logs.var(ddof=1) - (errors**2).mean())
    df = len(next(iter(layers.values()))) - 1
    common = max(0.0, float(np.mean(list(excess.values()))))
    own = {name: max(0.0, (PRIOR_DF * common + df * value) / (PRIOR_DF + df)) for name, value in excess.items()}
    return {name: math.sqrt(value) for name, value in own.items()}, math.sqrt(float(np.mean(list(own.values()))))


def spread_of(known: BetweenRuns | None, mechanism: str, *, layer: bool = True, reference: bool = False) -> RunSpread:
    """What runs add to the error of an arm of this mechanism; nothing where nothing is known.

    Args:
        known: of the machine, device and protocol.
        mechanism: its name.
        layer: whether the arm is a layer alone; a whole model is none of the layers, whatever its name.
        reference: the arm is what ratios refer to: its own ratio is 1 in every run.
    """
    if known is None:
        return RunSpread()
    name = mechanism if layer else ""
    ratio_sd = 0.0 if reference else known.ratio_sd.get(name, known.other_ratio_sd)
    return RunSpread(ratio_sd, known.time_sd.get(name, known.other_time_sd), known.runs - 1.0)


def spread_in(values: Mapping[str, float | int]) -> RunSpread:
    """The same from a record's values."""
    if "run_df" not in values:
        return RunSpread()
    return RunSpread(values.get("run_ratio_sd", 0.0), values.get("run_time_sd", 0.0), values["run_df"])


def spreads(records: Iterable[Record]) -> Mapping[str, RunSpread]:
    """The same of every record, by cell id; a cell without one has nothing."""
    return defaultdict(RunSpread, {record.cell.id: spread_in(record.values) for record in records})


def between(one: RunSpread, other: RunSpread) -> tuple[float, float]:
    """The standard deviation between runs of the log ratio of two arms of one run, and its degrees of freedom.

    The larger of the two to the reference: what moves an arm against the reference moves it against most others, and
    of two that it moves alike the ratio moves less.
    """
    sd, df = max((one.ratio_sd, one.df), (other.ratio_sd, other.df))
    return sd, df


def widened(found: Contrast, sd: float, df: float) -> Contrast:
    """The contrast with what runs differ by in its error; as it is where they do not, or it has no error."""
    error, total = _sum(found.error, found.df, sd, df)
    return replace(found, error=error, df=total)


def widened_difference(found: Difference, sd: float, df: float) -> Difference:
    """The same of a difference of two runs; `sd`: of both together."""
    error, total = _sum(found.error, found.df, sd, df)
    return Difference(found.estimate, error, total)


def _sum(error: float, error_df: float, sd: float, sd_df: float) -> tuple[float, float]:
    """Two independent standard errors as one, with Satterthwaite's degrees of freedom."""
    if not math.isfinite(error) or sd <= 0:
        return error, error_df
    scale = error**4 / error_df + sd**4 / sd_df
    return math.hypot(error, sd), (error**2 + sd**2) ** 2 / scale if scale else math.inf
