"""Means over repetitions, with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from math import hypot, sqrt
from statistics import fmean, stdev

from msgspec import Struct

from edgetop.core.energy.figures import Figure
from edgetop.core.statistics.student import quantile

CONFIDENCE = 0.95
COVERAGE_FACTOR = 2.0
"""Of a sensor's own uncertainty, as everywhere else (GUM, JCGM 100:2008, 6.2)."""


class Interval(Struct, frozen=True, kw_only=True):
    """A mean over repetitions."""

    mean: float
    deviation: float | None
    """Standard deviation of one repetition (n - 1); `None` for a single one."""
    low: float | None
    """95 % interval of the mean by Student's t; `None` for a single repetition."""
    high: float | None


def interval_of(values: Sequence[float]) -> Interval:
    """Mean, standard deviation and the 95 % interval of the mean of at least one value above 0, by Student's t."""
    mean = fmean(values)
    if len(values) < 2:
        return Interval(mean=mean, deviation=None, low=None, high=None)
    deviation = stdev(values)
    reach = quantile(CONFIDENCE, len(values) - 1) * deviation / sqrt(len(values))
    return Interval(mean=mean, deviation=deviation, low=max(0.0, mean - reach), high=mean + reach)


def combined(figures: Sequence[Figure]) -> Figure:
    """The mean of the same figure of at least one repetition.

    What the sensor gets wrong in the same way each time stays; the rest falls with the square root of their number, and
    is taken from their scatter where that says more than the sensor does.
    """
    value = fmean(figure.value for figure in figures)
    systematic = fmean(figure.u_systematic for figure in figures)
    random = sqrt(sum(figure.u_random**2 for figure in figures)) / len(figures)
    factor = COVERAGE_FACTOR
    if len(figures) > 1:
        scatter = stdev(figure.value for figure in figures) / sqrt(len(figures))
        if scatter > random:
            random, factor = scatter, quantile(CONFIDENCE, len(figures) - 1)
    return _figure(value, systematic, random, reach=hypot(COVERAGE_FACTOR * systematic, factor * random))


def per_token(energies_j: Sequence[Figure], tokens: int) -> Figure:
    """The energy of turns that follow each other, by the same sensor, over their tokens."""
    value = sum(figure.value for figure in energies_j) / tokens
    systematic = sum(figure.u_systematic for figure in energies_j) / tokens
    random = sqrt(sum(figure.u_random**2 for figure in energies_j)) / tokens
    return _figure(value, systematic, random, reach=COVERAGE_FACTOR * hypot(systematic, random))


def _figure(value: float, systematic: float, random: float, *, reach: float) -> Figure:
    return Figure(value=value, low=value - reach, high=value + reach, u_systematic=systematic, u_random=random)
