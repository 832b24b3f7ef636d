"""Percentiles of sorted numbers, by linear interpolation between the two closest ranks.

This is the definition that NumPy and spreadsheets use by default (Hyndman and Fan, "Sample quantiles in statistical
packages", 1996, type 7), so that a reader who computes the figure again from the file gets the same one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence


def percentile(ordered: Sequence[float], percent: float) -> float | None:
    """The value that `percent` per cent of `ordered` (ascending) lie below; `None` if it is empty."""
    if not ordered:
        return None
    rank, share = _position(len(ordered), percent)
    low = ordered[rank]
    return low + (ordered[rank + 1] - low) * share if share else float(low)


def percentile_of_pieces(pieces: Sequence[Sequence[int]], percent: float) -> float | None:
    """The percentile of ascending sequences of whole numbers together, without merging them; `None` if all are empty.

    A session keeps the gaps between its tokens this way: sorted in pieces, so that those until any moment can be had.
    """
    filled = [piece for piece in pieces if piece]
    if len(filled) < 2:
        return percentile(filled[0] if filled else (), percent)
    rank, share = _position(sum(map(len, filled)), percent)
    low = _ranked(filled, rank)
    return low + (_next(filled, low, rank) - low) * share if share else float(low)


def _position(count: int, percent: float) -> tuple[int, float]:
    """The rank from 0 that the percentile lies at or above, and how far it is to the next one."""
    position = (count - 1) * percent / 100
    rank = min(int(position), count - 1)
    return rank, position - rank


def _ranked(pieces: Sequence[Sequence[int]], rank: int) -> int:
    """The element at `rank` of all pieces merged: the least value that more than `rank` of them do not exceed."""
    longest = max(pieces, key=len)
    others = sum(map(len, pieces)) - len(longest)
    # At most so many elements of the others stand before those of the longest piece.
    low = longest[rank - others] if rank >= others else min(piece[0] for piece in pieces)
    high = longest[rank] if rank < len(longest) else max(piece[-1] for piece in pieces)
    while low < high:
        middle = (low + high) // 2
        if sum(bisect_right(piece, middle) for piece in pieces) > rank:
            high = middle
        else:
            low = middle + 1
    return low


def _next(pieces: Sequence[Sequence[int]], value: int, rank: int) -> int:
    """The element at `rank` + 1, where `value` is the one at `rank`."""
    behind = [bisect_right(piece, value) for piece in pieces]
    if sum(behind) > rank + 1:
        return value
    return min(piece[index] for piece, index in zip(pieces, behind, strict=True) if index < len(piece))
