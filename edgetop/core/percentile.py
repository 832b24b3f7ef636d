"""Percentiles of sorted numbers, by linear interpolation between the two closest ranks.

This is the definition that NumPy and spreadsheets use by default (Hyndman and Fan, "Sample quantiles in statistical
packages", 1996, type 7), so that a reader who computes the figure again from the file gets the same one.
"""

from __future__ import annotations

from collections.abc import Sequence


def percentile(ordered: Sequence[float], percent: float) -> float | None:
    """The value that `percent` per cent of `ordered` (ascending) lie below; `None` if it is empty."""
    return percentile_of_two(ordered, (), percent)


def percentile_of_two(first: Sequence[float], second: Sequence[float], percent: float) -> float | None:
    """The percentile of the union of two ascending sequences, without merging them; `None` if both are empty.

    A session pools the gaps of all its turns this way: those of ended turns are sorted once, those of the running turn
    change with every token.
    """
    count = len(first) + len(second)
    if count == 0:
        return None
    position = (count - 1) * percent / 100
    rank = min(int(position), count - 1)
    low = _ranked(first, second, rank)
    if rank == position:
        return float(low)
    high = _ranked(first, second, rank + 1)
    return low + (high - low) * (position - rank)


def _ranked(first: Sequence[float], second: Sequence[float], rank: int) -> float:
    """The element that stands at `rank`, from 0, when both sequences are merged."""
    if not second:
        return first[rank]
    # `low` counts the elements of `first` that come before the rank: it is the smallest number for which the next
    # element of `first` is not smaller than the last one then taken from `second`.
    low, high = max(0, rank - len(second)), min(rank, len(first))
    while low < high:
        middle = (low + high) // 2
        if first[middle] < second[rank - middle - 1]:
            low = middle + 1
        else:
            high = middle
    taken = rank - low
    if low == len(first):
        return second[taken]
    if taken == len(second):
        return first[low]
    return min(first[low], second[taken])
