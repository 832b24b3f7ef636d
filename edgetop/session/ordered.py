"""Whole numbers as they came, of which any stretch can be had sorted at once."""

from __future__ import annotations

from array import array
from bisect import insort
from collections.abc import Iterable, Sequence

LEAF = 4096
"""So many numbers in a row are kept sorted too ..."""
FAN = 16
"""... and so many of these rows merged, and so on: a stretch of millions is made of some dozens of pieces."""


class Ordered:
    """A row of whole numbers that only grows."""

    def __init__(self) -> None:
        self._values = array("q")
        self._tail: list[int] = []
        """Those behind the last sorted row of LEAF, ascending."""
        self._levels: list[list[array[int]]] = []
        """Sorted blocks of LEAF, LEAF·FAN, LEAF·FAN² ... numbers, each in the order of the row."""

    def __len__(self) -> int:
        return len(self._values)

    def extend(self, values: Iterable[int]) -> None:
        """Append numbers."""
        for value in values:
            self._values.append(value)
            insort(self._tail, value)
            if len(self._tail) == LEAF:
                self._add(0, array("q", self._tail))
                self._tail = []

    def pieces(self, begin: int, end: int) -> list[Sequence[int]]:
        """Ascending sequences that together hold the numbers from index `begin` to before index `end`."""
        pieces: list[Sequence[int]] = []
        loose = array("q")
        at = begin
        while at < end:
            block = self._tail if at + len(self._tail) == end == len(self) else self._block_at(at, end)
            if block is not None:
                pieces.append(block)
                at += len(block)
            else:
                edge = min(end, (at // LEAF + 1) * LEAF)
                loose.extend(self._values[at:edge])
                at = edge
        if loose:
            pieces.append(sorted(loose))
        return pieces

    def _block_at(self, begin: int, end: int) -> array[int] | None:
        """The largest block that begins at an index and ends no later than another."""
        size: int = LEAF * FAN ** (len(self._levels) - 1)
        for blocks in reversed(self._levels):
            index, beside = divmod(begin, size)
            if not beside and begin + size <= end and index < len(blocks):
                return blocks[index]
            size //= FAN
        return None

    def _add(self, level: int, block: array[int]) -> None:
        if level == len(self._levels):
            self._levels.append([])
        blocks = self._levels[level]
        blocks.append(block)
        if len(blocks) % FAN == 0:
            merged = array("q")
            for each in blocks[-FAN:]:
                merged.extend(each)
            self._add(level + 1, array("q", sorted(merged)))
