"""Several questions asked of the same two runs, with one chance of a false alarm for all of them together."""

from __future__ import annotations

from collections.abc import Mapping


def adjusted(p_values: Mapping[str, float], shares: Mapping[str, float]) -> dict[str, float]:
    """P-values that hold for all questions together, by Holm's method with shares.

    Where no adjusted one at or below α is taken for chance, the chance of any false alarm is at most α, whatever the
    questions have to do with each other (Holm, "A simple sequentially rejective multiple test procedure", 1979,
    section 4). A question with a larger share needs less to be answered.
    """
    left = sum(shares[name] for name in p_values)
    result: dict[str, float] = {}
    largest = 0.0
    for name in sorted(p_values, key=lambda name: p_values[name] / shares[name]):
        largest = max(largest, min(1.0, p_values[name] * left / shares[name]))
        result[name] = largest
        left -= shares[name]
    return result
