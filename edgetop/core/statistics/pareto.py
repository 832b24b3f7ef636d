"""The Pareto front: what nothing else beats in both of two figures."""

from __future__ import annotations

from collections.abc import Sequence


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points (gain, cost) that no other has at least the gain and at most the cost of, and one better.

    By falling gain; of equal points all are on the front.
    """
    order = sorted(range(len(points)), key=lambda index: (-points[index][0], points[index][1]))
    kept: list[int] = []
    for index in order:
        if not kept or points[index][1] < points[kept[-1]][1] or points[index] == points[kept[-1]]:
            kept.append(index)
    return kept
