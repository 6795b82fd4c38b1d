"""Closed formulas of the papers: multiply-accumulates of MSA and of HiLo's branches. N tokens, D channels, s window.

The papers' text lost its formulas; these are rebuilt from the layers and meet every published count (tests).
"""

from __future__ import annotations

from math import floor


def msa(n: int, d: int) -> float:
    """Standard attention: four projections and two products."""
    return 4 * n * d * d + 2 * n * n * d


def hifi(n: int, d: int, s: int = 2, share: float = 0.5) -> float:
    """The branch of windows with `share` of the channels: qkv, products inside s x s windows, projection."""
    c = d * share
    return n * d * 3 * c + 2 * n * s * s * c + n * c * c


def lofi(n: int, d: int, s: int = 2, share: float = 0.5) -> float:
    """The branch on the pooled map with `share` of the channels: q, kv of N/s^2 tokens, products, projection."""
    c, m = d * share, n / (s * s)
    return n * d * c + 2 * m * d * c + 2 * n * m * c + n * c * c


def hilo(n: int, d: int, heads: int, s: int, alpha: float) -> float:
    """Both branches; floor(heads alpha) heads are low-frequency."""
    low = floor(heads * alpha) / heads
    return hifi(n, d, s, 1 - low) + lofi(n, d, s, low)


def hilo_doubled(n: int, d: int, heads: int, s: int) -> float:
    """All heads in both branches, in place of a split."""
    return hilo(n, d, heads, s, 0.0) + hilo(n, d, heads, s, 1.0)


def hilo_params(d: int, heads: int, alpha: float) -> int:
    """Weights and biases of a HiLo layer."""
    low = d * floor(heads * alpha) // heads
    high = d - low
    fine = 3 * high * (d + 1) + high * (high + 1)
    coarse = low * (d + 1) + 2 * low * (d + 1) + low * (low + 1)
    return fine + coarse


def msa_params(d: int) -> int:
    """Weights and biases of standard attention."""
    return 4 * d * (d + 1)


def crossover(d: int, s: int) -> float:
    """Tokens at which both branches with half of the heads cost the same."""
    return (7 / 4 * d + s * s - (3 / 4 + 1 / (s * s)) * d) * s * s


def lightvit_global(n: int, d: int, t: int) -> float:
    """Aggregation and broadcast through t global tokens: two products each, both N t D."""
    return 4 * n * t * d
