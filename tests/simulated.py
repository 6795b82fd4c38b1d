"""Invented rounds whose truth is known: log ratios of two identical arms, by process."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def processes(
    seed: int, trials: int, *, k: int = 4, n: int = 4, process_sd: float = 0.0, round_sd: float = 1.0
) -> Iterator[np.ndarray]:
    """Normal log ratios [k, n] with a persistent bias of each process."""
    rng = np.random.default_rng(seed)
    for _ in range(trials):
        yield 0.01 * (round_sd * rng.standard_normal((k, n)) + process_sd * rng.standard_normal((k, 1)))


def disturbed(seed: int, trials: int, disturbance: str, *, k: int = 4, n: int = 4) -> Iterator[np.ndarray]:
    """Log ratios [k, n] of two identical arms, timed in random order in each round of a disturbed process.

    A process has 2 n turns, one after the other. `drift` is a random walk over the turns of all processes with
    steps twice the noise, `spikes` stretch one turn in eight by half on average, and `ramp` starts each process
    60 % slow and fades over its first rounds.
    """
    rng = np.random.default_rng(seed)
    for _ in range(trials):
        log_time = 0.01 * rng.standard_normal((k, n, 2))  # by slot: who runs first, who second
        if disturbance == "drift":
            log_time += np.cumsum(0.02 * rng.standard_normal(k * n * 2)).reshape(k, n, 2)
        elif disturbance == "spikes":
            log_time += np.where(rng.random((k, n, 2)) < 0.125, np.log1p(rng.exponential(0.5, (k, n, 2))), 0.0)
        elif disturbance == "ramp":
            log_time += np.log1p(0.6 * np.exp(-np.arange(2 * n) / 2)).reshape(1, n, 2)
        else:
            raise ValueError(f"disturbance must be drift, spikes or ramp; got {disturbance!r}")
        yield np.where(rng.random((k, n)) < 0.5, 1, -1) * (log_time[..., 1] - log_time[..., 0])
