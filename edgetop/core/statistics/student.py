"""Student's t distribution, for small numbers of repetitions."""

from __future__ import annotations

from functools import lru_cache
from math import atan2, cos, exp, inf, lgamma, pi, sqrt
from statistics import NormalDist

_NORMAL = NormalDist()
_NORMAL_FROM = 1000.0
"""With so many degrees of freedom, the normal distribution differs by less than a thousandth of a probability."""
_PANELS = 100
_STEPS_MOST = 50
_CLOSE = 1e-9


def two_sided_p(t: float, freedom: float) -> float:
    """Chance that |T| is at least |t|, for T of `freedom` >= 1 degrees of freedom; `inf` is the normal distribution.

    With T = √ν·tan θ its density becomes cos^(ν-1) θ · Γ((ν+1)/2) / (√π·Γ(ν/2)), smooth and bounded, and Simpson's rule
    integrates it from |t| to infinity.
    """
    if freedom >= _NORMAL_FROM:
        return 2 * _NORMAL.cdf(-abs(t))
    begin = atan2(abs(t), sqrt(freedom))
    width = (pi / 2 - begin) / _PANELS
    total = 0.0
    for panel in range(_PANELS + 1):
        weight = 1 if panel in {0, _PANELS} else 4 if panel % 2 else 2
        total += weight * max(0.0, cos(begin + panel * width)) ** (freedom - 1)
    return min(1.0, 2 * _constant(freedom) * total * width / 3)


@lru_cache(maxsize=1024)
def quantile(confidence: float, freedom: float) -> float:
    """The t that |T| stays below with this confidence, 0 < confidence < 1."""
    t = _NORMAL.inv_cdf((1 + confidence) / 2)
    if freedom >= _NORMAL_FROM:
        return t
    # Newton's method: the chance is convex in t and the normal quantile lies below the one sought, so that it rises to
    # it without overshooting.
    for _ in range(_STEPS_MOST):
        density = _constant(freedom) / sqrt(freedom) * (1 + t * t / freedom) ** (-(freedom + 1) / 2)
        step = (two_sided_p(t, freedom) - (1 - confidence)) / (2 * density)
        t += step
        if abs(step) < _CLOSE * t:
            break
    return t


def _constant(freedom: float) -> float:
    """Γ((ν+1)/2) / (√π·Γ(ν/2))."""
    return exp(lgamma((freedom + 1) / 2) - lgamma(freedom / 2)) / sqrt(pi)


def pooled_freedom(first: tuple[float, float], second: tuple[float, float]) -> float:
    """Degrees of freedom of √(u1² + u2²), by Welch and Satterthwaite (GUM, JCGM 100:2008, G.4.1).

    Each is an uncertainty and its degrees of freedom, `inf` for one that is judged and not counted.
    """
    total = first[0] ** 2 + second[0] ** 2
    share = first[0] ** 4 / first[1] + second[0] ** 4 / second[1]
    return total**2 / share if share > 0 else inf
