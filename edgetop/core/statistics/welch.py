"""Welch's comparison of two values whose uncertainties are known, not their repetitions."""

from __future__ import annotations

from math import hypot, isinf

from edgetop.core.statistics.bootstrap import CONFIDENCE, Difference
from edgetop.core.statistics.student import pooled_freedom, quantile, two_sided_p


def welch_difference(log_ratio: float, first: tuple[float, float], second: tuple[float, float]) -> Difference:
    """Of two values; each side is its relative standard uncertainty, above 0, and the degrees of freedom of that.

    With more repetitions on one side than on the other, the fewer ones' degrees of freedom count: those of Welch and
    Satterthwaite call up to 13 % of equal pairs different for three skewed repetitions against twenty.
    """
    u = hypot(first[0], second[0])
    judged = isinf(first[1]) or isinf(second[1])
    freedom = pooled_freedom(first, second) if judged or first[1] == second[1] else min(first[1], second[1])
    return Difference(log_ratio, u, u * quantile(CONFIDENCE, freedom), two_sided_p(log_ratio / u, freedom))
