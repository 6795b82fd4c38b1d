"""Invented rounds of identical arms, whose true contrast is 0, under disturbances of known kind. No clock, no torch.

The noise of one turn has standard deviation 1 % of the time; the other figures refer to it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from attnbench.analysis.screening import standing
from attnbench.results.events import ArmTurn, Round

Floats = NDArray[np.float64]
NOISE = 0.01  # standard deviation of a turn's log time


@dataclass(frozen=True)
class Scenario:
    """What disturbs the turns.

    Attributes:
        process_sd: standard deviation between processes of an arm's log time, over that between its turns.
        spikes: share of the turns that another program stretches, by half on average.
        correlation: of an arm's successive rounds, from one process into the next.
        drift: standard deviation of a whole round's log time, the same for all arms.
        run_sd: standard deviation of an arm's log time between whole runs, which no run can see.
    """

    process_sd: float = 0.0
    spikes: float = 0.0
    correlation: float = 0.0
    drift: float = 0.05
    run_sd: float = 0.0


SCENARIOS: Mapping[str, Scenario] = {
    "normal": Scenario(),
    "processes half": Scenario(process_sd=0.5),
    "processes equal": Scenario(process_sd=1.0),
    "spikes": Scenario(spikes=0.125),
    "spikes, processes equal": Scenario(spikes=0.125, process_sd=1.0),
    "rounds correlated 0.5": Scenario(correlation=0.5),
    "whole run 0.3": Scenario(run_sd=0.3),
}


def runs(
    scenario: Scenario, trials: int, *, arms: int, processes: int, rounds: int, reference_turns: int = 1, seed: int = 0,
    isolated: int = 0, turns_alone: int = 1,
) -> Iterator[list[Round]]:  # fmt: skip
    """Runs of `arms` identical arms "0" (the reference), "1", ...; `rounds` rounds in each process.

    The last `isolated` arms, and a copy of the reference, have processes of their own with `turns_alone` turns a round:
    drift and disturbances of their rounds are then their own.
    """
    rng = np.random.default_rng(seed)
    apart = ["0", *map(str, range(arms - isolated, arms))] if isolated else []
    for _ in range(trials):
        logs = _arms(scenario, rng, arms - isolated, processes * rounds, rounds)
        alone = [_arms(scenario, rng, 1, processes * rounds, rounds) for _ in apart]
        yield [
            Round(
                group="g",
                process=number // rounds,
                round=number,
                turns=_turns(scenario, rng, logs[number], reference_turns),
                alone=tuple(
                    replace(turn, cell=cell)
                    for cell, own in zip(apart, alone, strict=True)
                    for turn in _turns(scenario, rng, own[number], turns_alone)
                ),
                seconds=1.0,
            )
            for number in range(processes * rounds)
        ]


SPREAD = (0.0, 0.02, 0.015, 0.01, 0.0, -0.005, -0.01, -0.02, -0.05, -0.1)
"""Log speeds of ten arms over the first one's, the reference; a turn's noise is about as large as their distances."""


def screened_runs(
    scenario: Scenario, trials: int, *, speeds: Sequence[float], rounds: int, looks: Sequence[int], level: float,
    seed: int = 2,
) -> Iterator[tuple[list[Round], set[str]]]:  # fmt: skip
    """Runs of arms of these log speeds over the first one's, as a budget of wall time makes them, and who was left out.

    Each ends at a look at which its leaders are separated, or at a number of processes drawn evenly from 2 to the last
    look's, where its time is spent. `rounds`: in each process. `level`: of a look.
    """
    rng, arms = np.random.default_rng(seed), [str(n) for n in range(len(speeds))]
    most, turns = looks[-1] // rounds, max(1, round(math.sqrt(len(speeds) - 1)))
    for whole in runs(
        scenario, trials, arms=len(arms), processes=most, rounds=rounds, reference_turns=turns, seed=seed
    ):
        kept: list[Round] = []
        resting: set[str] = set()
        for r in whole[: int(rng.integers(2, most + 1)) * rounds]:
            mine = (t for t in r.turns if t.cell not in resting)
            calls = ((t, math.exp(-speeds[int(t.cell)])) for t in mine)
            kept.append(replace(r, turns=tuple(replace(t, calls_s=(t.calls_s[0] * times,)) for t, times in calls)))
            if len(kept) in looks:
                now = standing(kept, arms, level)
                resting |= now.behind - {"0"}
                if now.separated:
                    break
        yield kept, resting


def _arms(scenario: Scenario, rng: np.random.Generator, arms: int, total: int, each: int) -> Floats:
    """What an arm's turns of one round share, [rounds, arms], in units of a turn's noise."""
    shared = np.repeat(scenario.process_sd * rng.standard_normal((total // each, arms)), each, axis=0)
    shared += scenario.run_sd * rng.standard_normal(arms)
    shared += scenario.drift / NOISE * rng.standard_normal((total, 1))
    if scenario.correlation:
        shared += _autoregressive(rng, scenario.correlation, total, arms)
    return shared


def _autoregressive(rng: np.random.Generator, rho: float, total: int, arms: int) -> Floats:
    noise = rng.standard_normal((total, arms))
    for number in range(1, total):
        noise[number] = rho * noise[number - 1] + math.sqrt(1 - rho * rho) * noise[number]
    return noise


def _turns(scenario: Scenario, rng: np.random.Generator, shared: Floats, reference_turns: int) -> tuple[ArmTurn, ...]:
    """One turn of each arm, of the first `reference_turns`; noise of its own unless the rounds carry it all."""
    which = [0] * reference_turns + list(range(1, len(shared)))
    own = 0.0 if scenario.correlation else 1.0
    logs = NOISE * (shared[which] + own * rng.standard_normal(len(which)))
    hit = rng.random(len(which)) < scenario.spikes
    logs = logs + np.where(hit, np.log1p(rng.exponential(0.5, len(which))), 0.0)
    return tuple(
        ArmTurn(cell=str(arm), calls_s=(math.exp(log),)) for arm, log in zip(which, logs.tolist(), strict=True)
    )
