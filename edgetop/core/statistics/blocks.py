"""The block bootstrap: how far the mean of a series may be off when neighbours resemble each other."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, exp, log, log10, sqrt

import numpy as np

from edgetop.core.statistics.repetitions import Array

LEAST = 16
"""Fewer values hold no two blocks."""
QUIET_LAGS = 5
LONGEST = 1000
"""Values in a block at most: what changes more slowly is a trend, which no block shows."""


def mean_uncertainty(series: Sequence[float]) -> float | None:
    """Relative standard uncertainty of the mean of a stationary series; `None` below LEAST values or a mean of 0.

    The variance that resampling overlapping blocks would give is known in closed form (Künsch, "The jackknife and the
    bootstrap for general stationary observations", 1989): that of the block means, divided by the number of blocks.
    """
    values = np.asarray(series, dtype=np.float64)
    count = len(values)
    mean = float(values.mean()) if count else 0.0
    if count < LEAST or mean <= 0:
        return None
    length = block_length(values)
    sums = np.concatenate(([0.0], np.cumsum(values - mean)))
    block_means = (sums[length:] - sums[:-length]) / length
    return sqrt(float((block_means**2).mean()) * length / count) / mean


def block_length(values: Array) -> int:
    """Twice the lag after which correlations are noise, at least ∛n, at most a quarter of the series or LONGEST.

    Noise is below 2·√(log10 n / n) for five lags in a row (Politis and White, "Automatic block-length selection for the
    dependent bootstrap", 2004, section 3.2).
    """
    count: int = len(values)
    longest = max(1, min(LONGEST, count // 4))
    off = values - values.mean()
    variance = float((off**2).mean())
    lag = 0
    if variance > 0:
        noise = 2 * sqrt(log10(count) / count)
        quiet = 0
        for candidate in range(1, longest):
            correlation = float((off[:-candidate] * off[candidate:]).sum()) / (count * variance)
            quiet = quiet + 1 if abs(correlation) < noise else 0
            if quiet == QUIET_LAGS:
                break
            if quiet == 0:
                lag = candidate
    return min(longest, max(ceil(exp(log(count) / 3)), 2 * lag))
