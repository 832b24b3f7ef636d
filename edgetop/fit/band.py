"""Bands of predictions: a value and how far off it may be, by a factor.

Speeds and energies are products of positive factors, so their errors are relative: a band reaches from `value / f` to
`value * f`. It is meant to hold in 8 cases of 10; sigma is the standard deviation of the logarithm of the error.
"""

from __future__ import annotations

from math import exp

from edgetop.core.energy.figure import Figure

HOLDS = 0.80
"""How often the truth is to lie within a band."""
REACH = 1.2816
"""Quantile of the normal distribution at 0.90, which leaves one case of ten below the band and one above it."""


def banded(value: float, sigma: float) -> Figure:
    """`value` with a band that holds in 8 cases of 10 when the logarithm of its error has the deviation `sigma`."""
    factor = exp(REACH * sigma)
    return Figure(value=value, low=value / factor, high=value * factor, u_systematic=value * sigma, u_random=0.0)


def sigma_of(figure: Figure) -> float:
    """The relative deviation of a figure, such as `banded` was given."""
    return (figure.u_systematic**2 + figure.u_random**2) ** 0.5 / figure.value if figure.value else 0.0
