"""Bootstrap over repetitions, pairs and blocks; with NumPy.

Differences in per cent are what people compare, so everything is done with logarithms: a difference is log a - log b,
and the spread is relative. A resample says how often each repetition was drawn; sums over all of them are then
one product of matrices, which makes two hundred sessions comparable in a moment.

Repetitions are drawn again with replacement, the value is computed again, and what counts is by how many of its own
standard uncertainties it lies off (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 12). With
few repetitions that keeps the error rates which the percentile bootstrap does not: at ten repetitions the percentiles
call 8 % of equal pairs different where 5 % are allowed, at three 22 % (`benchmarks/comparison.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import ceil, exp, inf, isfinite, log, log10, pi, sqrt
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from edgetop.core.statistics import CONFIDENCE, Difference, quantile, two_sided_p

Array = NDArray[np.float64]
How = Literal["ratio", "mean", "median", "pooled"]
"""The value is a ratio of totals, the mean or the median of the repetitions, or a percentile of all that lies in them,
for which the mean of the repetitions' logarithms stands."""

SPREAD_LEAST = 1e-4
"""Repetitions that are alike to the last digit were rounded; this much relative spread is always left."""

_LOWEST = -1 + 1e-12
"""Of a ratio, less 1, in a resample: rounding must not make it 0 where repetitions are worlds apart."""

MEDIAN_SPREAD = sqrt(pi / 2)
"""The median of a normal sample varies so many times as much as its mean (asymptotically)."""


class Draws(NamedTuple):
    """Resamples: which repetitions were drawn, and how often each one was; one resample a column of both."""

    drawn: NDArray[np.intp]
    counts: Array

    @classmethod
    def all_once(cls, count: int) -> Draws:
        """The repetitions themselves."""
        return cls(np.arange(count, dtype=np.intp)[:, None], np.ones((count, 1)))

    def sums(self, rows: Array) -> Array:
        """Of each row of values, one for each repetition, the sum in each resample."""
        # Not `@`: its threads would spin for the cores that a model decodes on, and take ten times as long there.
        summed: Array = np.einsum("rc,cb->rb", rows, self.counts)
        return summed


class Estimate(NamedTuple):
    """Logarithms of values and their standard uncertainties, one for each resample."""

    log_value: Array
    u: Array


class Repetitions:
    """Positive values of one figure, with what each weighs in a ratio of totals."""

    def __init__(self, values: Sequence[float], weights: Sequence[float] = (), how: How = "mean") -> None:
        """Raises ValueError unless all values are finite and above 0 and there is a weight for each, or none."""
        if not values or not all(isfinite(value) and value > 0 for value in values):
            raise ValueError("repetitions must be finite and above 0")
        if weights and (len(weights) != len(values) or not all(isfinite(each) and each > 0 for each in weights)):
            raise ValueError("there must be a weight above 0 for each repetition")
        self.values: Array = np.asarray(values, dtype=np.float64)
        weighing = np.asarray(weights or [1.0] * len(values), dtype=np.float64)
        self.weights: Array = weighing / weighing.mean()
        self.how: How = how
        self.total = float((self.values * self.weights).mean())
        """The ratio of totals."""

    def __len__(self) -> int:
        return len(self.values)

    def estimate(self, draws: Draws | None = None) -> Estimate:
        """Of the repetitions themselves, or of resamples."""
        draws = draws or Draws.all_once(len(self))
        if self.how in {"median", "pooled"}:
            return _of_logarithms(np.log(self.values), self.how, draws)
        off, weights = self.values / self.total - 1, self.weights
        products = np.stack([weights, weights * off, (weights * off) ** 2, weights**2 * off, weights**2])
        sums = draws.sums(products)
        ratio = np.maximum(sums[1] / sums[0], _LOWEST)
        squares = sums[2] - 2 * ratio * sums[3] + ratio**2 * sums[4]
        scale = (1 + ratio) * sums[0] / len(self)
        return Estimate(log(self.total) + np.log1p(ratio), _uncertainty(squares / scale**2, len(self)))


class PairedRepetitions:
    """Two runs of the same repetitions in the same order, such as two models that were asked the same questions.

    What makes one repetition harder than another is alike in both and cancels.
    """

    def __init__(self, first: Repetitions, second: Repetitions) -> None:
        """Raises ValueError unless both have the same number of repetitions."""
        if len(first) != len(second):
            raise ValueError("pairs need as many repetitions on both sides")
        self._first, self._second = first, second

    def __len__(self) -> int:
        return len(self._first)

    @property
    def correlation(self) -> float:
        """How much of what varies on one side varies on the other too, from -1 to 1; 0 where nothing varies."""
        first, second = (np.log(side.values) for side in (self._first, self._second))
        spreads = float(first.std() * second.std())
        return float(((first - first.mean()) * (second - second.mean())).mean()) / spreads if spreads > 0 else 0.0

    def estimate(self, draws: Draws | None = None) -> Estimate:
        """Of log first - log second, for the repetitions themselves or for resamples."""
        draws = draws or Draws.all_once(len(self))
        one, other = self._first, self._second
        if one.how in {"median", "pooled"}:
            # The median of pairs, not the difference of two medians: the turns in the middle are the same two turns in
            # both, so that their difference would rest on them alone.
            return _of_logarithms(np.log(one.values / other.values), one.how, draws)
        offs = [side.values / side.total - 1 for side in (one, other)]
        sides = [one.weights, one.weights * offs[0], other.weights, other.weights * offs[1]]
        products = [first * second for place, first in enumerate(sides) for second in sides[place:]]
        sums = draws.sums(np.stack([*sides, *products]))
        ratios = np.maximum(sums[1] / sums[0], _LOWEST), np.maximum(sums[3] / sums[2], _LOWEST)
        scales = (1 + ratios[0]) * sums[0] / len(self), (1 + ratios[1]) * sums[2] / len(self)
        own = sums[4], sums[5], sums[8]
        across = sums[6], sums[7], sums[9], sums[10]
        others = sums[11], sums[12], sums[13]
        squares = (
            (own[2] - 2 * ratios[0] * own[1] + ratios[0] ** 2 * own[0]) / scales[0] ** 2
            + (others[2] - 2 * ratios[1] * others[1] + ratios[1] ** 2 * others[0]) / scales[1] ** 2
            - 2
            * (across[3] - ratios[1] * across[2] - ratios[0] * across[1] + ratios[0] * ratios[1] * across[0])
            / (scales[0] * scales[1])
        )
        log_ratio = log(one.total / other.total) + np.log1p(ratios[0]) - np.log1p(ratios[1])
        return Estimate(log_ratio, _uncertainty(squares, len(self)))


def _of_logarithms(logs: Array, how: How, draws: Draws) -> Estimate:
    """The median or the mean of logarithms."""
    count = len(logs)
    middle = float(logs.mean())
    sums = draws.sums(np.stack([logs - middle, (logs - middle) ** 2]))
    u = _uncertainty(sums[1] - sums[0] ** 2 / count, count)
    if how == "median":
        return Estimate(np.median(logs[draws.drawn], axis=0), u * MEDIAN_SPREAD)
    return Estimate(middle + sums[0] / count, u)


def _uncertainty(squares: Array, count: int) -> Array:
    """Standard uncertainty of a mean, from the sum of its squared deviations."""
    u: Array = np.sqrt(np.maximum(squares, 0.0) / (count * max(1, count - 1)) + SPREAD_LEAST**2)
    return u


BLOCKS_MIN = 16
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
    if count < BLOCKS_MIN or mean <= 0:
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


RESAMPLED_MIN = 6
"""With fewer repetitions too many resamples are one repetition several times, and Student's t is the better judge."""

RESAMPLED_MAX = 100
"""Beyond, Student's t says the same for less work."""

RESAMPLES = 2000


class Resampled(NamedTuple):
    """Resamples of an estimate."""

    estimate: Estimate
    resamples: Estimate


class Estimated(Protocol):
    """What can be resampled: repetitions, or pairs of them."""

    def __len__(self) -> int: ...

    def estimate(self, draws: Draws | None = None) -> Estimate:
        """The value, or those of resamples."""


def resampled(repetitions: Estimated, seed: int) -> Resampled:
    """Resamples of repetitions, RESAMPLED_MIN to RESAMPLED_MAX of them; the same ones for the same seed."""
    return Resampled(repetitions.estimate(), repetitions.estimate(_draws(len(repetitions), seed)))


def difference(first: Resampled, second: Resampled) -> Difference:
    """Of two results that were resampled with different seeds."""
    log_ratio = float(first.estimate.log_value[0] - second.estimate.log_value[0])
    u = float(np.hypot(first.estimate.u[0], second.estimate.u[0]))
    off = (first.resamples.log_value - second.resamples.log_value) - log_ratio
    return _studentised(log_ratio, u, np.abs(off) / np.hypot(first.resamples.u, second.resamples.u))


def from_zero(one: Resampled) -> Difference:
    """Of a single value from 1, whose logarithm is 0, or of pairs, whose value is a difference already."""
    log_ratio, u = float(one.estimate.log_value[0]), float(one.estimate.u[0])
    return _studentised(log_ratio, u, np.abs(one.resamples.log_value - log_ratio) / one.resamples.u)


def _studentised(log_ratio: float, u: float, distances: Array) -> Difference:
    # Never surer than the normal distribution: resamples of repetitions that are all alike lie at no distance at all.
    by_chance = (1 + int((distances >= abs(log_ratio) / u).sum())) / (1 + len(distances))
    rank = ceil(CONFIDENCE * len(distances)) - 1
    factor = max(float(np.partition(distances, rank)[rank]), quantile(CONFIDENCE, inf))
    return Difference(log_ratio, u, u * factor, max(by_chance, two_sided_p(log_ratio / u, inf)))


@lru_cache(maxsize=6)
def _draws(count: int, seed: int) -> Draws:
    index = np.random.default_rng((seed, count)).integers(0, count, (count, RESAMPLES), dtype=np.intp)
    places = index * RESAMPLES + np.arange(RESAMPLES, dtype=np.intp)
    counts = np.bincount(places.ravel(), minlength=RESAMPLES * count).reshape(count, RESAMPLES)
    return Draws(index, counts.astype(np.float64))
