"""Student's t distribution, for small numbers of repetitions."""

from __future__ import annotations

from functools import lru_cache
from math import exp, inf, lgamma, pi, sqrt
from statistics import NormalDist

_NORMAL = NormalDist()
_NORMAL_FROM = 1000.0
"""With so many degrees of freedom, the normal distribution differs by less than a thousandth of a probability."""
_STEPS_MOST = 50
_CLOSE = 1e-9
_FRACTION_STEPS_MOST = 500
_FRACTION_CLOSE = 1e-15
_NEVER_ZERO = 1e-300


def two_sided_p(t: float, freedom: float) -> float:
    """Chance that |T| is at least |t|, for T of `freedom` >= 1 degrees of freedom; `inf` is the normal distribution.

    It is the regularized incomplete beta function I_x(ν/2, 1/2) at x = ν/(ν + t²) (Abramowitz and Stegun, 26.7.1).
    """
    if freedom >= _NORMAL_FROM:
        return 2 * _NORMAL.cdf(-abs(t))
    a, b = freedom / 2, 0.5
    x, rest = freedom / (freedom + t * t), t * t / (freedom + t * t)
    if x == 0:
        return 0.0
    scale: float = _constant(freedom) * x**a * rest**b
    # The fraction converges quickly on this side of the mean; on the other, I_x(a, b) = 1 - I_{1-x}(b, a) (8.17.4).
    if x < (a + 1) / (a + b + 2):
        return scale / (a * _beta_fraction(x, a, b))
    return 1 - scale / (b * _beta_fraction(rest, b, a))


def _beta_fraction(x: float, a: float, b: float) -> float:
    """1 + d1/(1 + d2/(1 + ...)) of x^a·(1-x)^b / (a·B(a, b)·I_x(a, b)) (DLMF 8.17.22), from the front by Lentz."""
    value = numerators = 1.0
    denominators = 0.0
    for step in range(1, _FRACTION_STEPS_MOST):
        m = step // 2
        if step % 2:
            d = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            d = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        denominators = 1 / (1 + d * denominators or _NEVER_ZERO)
        numerators = 1 + d / numerators or _NEVER_ZERO
        value *= numerators * denominators
        if abs(numerators * denominators - 1) < _FRACTION_CLOSE:
            break
    return value


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
    """Γ((ν+1)/2) / (√π·Γ(ν/2)), which is 1 / B(ν/2, 1/2)."""
    return exp(lgamma((freedom + 1) / 2) - lgamma(freedom / 2)) / sqrt(pi)


def pooled_freedom(first: tuple[float, float], second: tuple[float, float]) -> float:
    """Degrees of freedom of √(u1² + u2²), by Welch and Satterthwaite (GUM, JCGM 100:2008, G.4.1).

    Each is an uncertainty and its degrees of freedom, `inf` for one that is judged and not counted.
    """
    total = first[0] ** 2 + second[0] ** 2
    share = first[0] ** 4 / first[1] + second[0] ** 4 / second[1]
    return total**2 / share if share > 0 else inf
