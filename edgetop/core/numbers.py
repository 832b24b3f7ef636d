"""Columns of numbers that only grow and take little memory.

What a sensor reads differs little from one reading to the next and has few digits, so that a block of some thousand
readings packs to a fifth of its size and less. Unpacked, they are bit for bit what they were.
"""

from __future__ import annotations

import zlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate
from math import isnan, nan
from operator import eq, sub
from typing import Any, Final, Generic, TypeVar, overload

from msgspec import Struct

BLOCK: Final = 1024
"""Numbers that are packed together."""

DIGITS_MOST: Final = 9
"""Behind the decimal point; numbers with more are packed as they are."""

WIDTHS: Final = (("B", 2**8), ("H", 2**16), ("I", 2**32), ("q", 2**63))

AT_ONCE: Final = 2**18
"""Numbers that are added together are packed where there are so many: that takes longer than to read them."""

OPENED: Final = 128
"""Blocks of all columns that stay unpacked, since who asks for one number asks for its neighbours."""


def small(counts: Iterable[int]) -> array[int]:
    """Numbers from 0 in an array of the least width."""
    kept = counts if isinstance(counts, list) else array("q", counts)
    most = max(kept, default=0)
    return array(next(code for code, end in WIDTHS if most < end), kept)


class _Whole(Struct, frozen=True, array_like=True, eq=False):
    """Whole numbers, packed: how far they are above the least of them, or their differences are."""

    typecode: str
    data: bytes
    least: int
    first: int | None
    """The first number, where differences are packed."""

    def values(self) -> list[int]:
        """The numbers."""
        least = self.least
        values = [value + least for value in array(self.typecode, zlib.decompress(self.data))]
        return values if self.first is None else list(accumulate(values, initial=self.first))


def _whole(values: Sequence[int]) -> _Whole:
    first: int | None = None
    differences = list(map(sub, values[1:], values))
    if differences and max(differences) - min(differences) < max(values) - min(values):
        first, values = values[0], differences
    least = min(values)
    packed = small([value - least for value in values])
    return _Whole(packed.typecode, zlib.compress(packed), least, first)


class _Block(Struct, frozen=True, array_like=True, eq=False):
    """A block of an array, packed."""

    typecode: str
    data: _Whole | bytes
    digits: int = 0
    """Behind the decimal point, as far as that is known."""
    missing: int = 0
    """What stands for NaN."""

    def unpack(self) -> array[Any]:
        """The numbers."""
        if isinstance(self.data, bytes):
            return array(self.typecode, zlib.decompress(self.data))
        if self.typecode == "q":
            return array("q", self.data.values())
        missing, scale = self.missing, 10**self.digits
        return array("d", [nan if value == missing else value / scale for value in self.data.values()])


def _block(values: array[Any], digits: int) -> _Block:
    """`digits` are those to try first."""
    if values.typecode == "d":
        found = _block_of_digits(values, digits)
        if found is not None:
            return found
    elif -LARGEST < min(values) <= max(values) < LARGEST:
        return _Block("q", _whole(values))
    return _Block(values.typecode, zlib.compress(values))


def _block_of_digits(values: array[float], digits: int) -> _Block | None:
    known: Sequence[float] = values
    if isnan(sum(values)):
        known = [value for value in values if not isnan(value)]
    if not known or not -LARGEST < 10**DIGITS_MOST * min(known) <= 10**DIGITS_MOST * max(known) < LARGEST:
        return None
    for each in sorted(range(DIGITS_MOST + 1), key=lambda each: (each != digits, each)):
        scale = 10**each
        if round(known[0] * scale) / scale != known[0] or round(known[-1] * scale) / scale != known[-1]:
            continue
        whole = [round(value * scale) for value in known]
        missing = min(whole) - 1
        if len(known) < len(values):
            next_whole = iter(whole).__next__
            whole = [missing if isnan(value) else next_whole() for value in values]
        block = _Block("d", _whole(whole), each, missing)
        if block.unpack().tobytes() == values.tobytes():
            return block
    return None


class PackedNumbers(Struct, frozen=True, array_like=True):
    """`Numbers`, to be kept in a file of this machine."""

    typecode: str
    blocks: list[_Block]
    firsts: bytes
    tail: bytes


LARGEST: Final = 2**53
"""Beyond it a double has gaps between whole numbers."""


@lru_cache(maxsize=OPENED)
def _unpacked(block: _Block) -> array[Any]:
    return block.unpack()


Number = TypeVar("Number", int, float)


class Numbers(Sequence[Number], Generic[Number]):
    """As an array of type `q` or `d` to which is only added; of what is there only the last number can be changed.

    All but the last thousands are packed. A slice is an array.
    """

    __slots__ = ("_blocks", "_firsts", "_packed", "_tail", "typecode")

    def __init__(self, typecode: str, values: Iterable[Number] = ()) -> None:
        self.typecode = typecode
        self._blocks: list[_Block] = []
        self._firsts: array[Any] = array(typecode)
        """The first number of each block."""
        self._packed = 0
        """So many are in the blocks."""
        self._tail: array[Any] = array(typecode)
        self.extend(values)

    def __len__(self) -> int:
        return self._packed + len(self._tail)

    def append(self, value: Number) -> None:
        """Add a number at the end."""
        self._tail.append(value)
        if len(self._tail) >= 2 * BLOCK:
            self._pack()

    def extend(self, values: Iterable[Number]) -> None:
        """Add numbers at the end."""
        self._tail.extend(values)
        if len(self._tail) >= AT_ONCE:
            self._pack()

    def _pack(self) -> None:
        at = 0
        while len(self._tail) - at >= 2 * BLOCK:
            block = self._tail[at : at + BLOCK]
            self._firsts.append(block[0])
            self._blocks.append(_block(block, self._blocks[-1].digits if self._blocks else 0))
            at += BLOCK
        if at:
            self._tail = self._tail[at:]
            self._packed += at

    def packed(self) -> PackedNumbers:
        """The numbers as they are in memory."""
        return PackedNumbers(self.typecode, self._blocks, self._firsts.tobytes(), self._tail.tobytes())

    @classmethod
    def of(cls, packed: PackedNumbers) -> Numbers[Number]:
        """The numbers that were packed."""
        numbers: Numbers[Number] = cls(packed.typecode)
        numbers._blocks, numbers._packed = packed.blocks, BLOCK * len(packed.blocks)
        numbers._firsts.frombytes(packed.firsts)
        numbers._tail.frombytes(packed.tail)
        return numbers

    @overload
    def __getitem__(self, index: int) -> Number: ...

    @overload
    def __getitem__(self, index: slice) -> array[Number]: ...

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            begin, end, step = index.indices(len(self))
            return self._part(begin, end) if step == 1 else self[:][index]
        at = index - self._packed if index >= 0 else index + len(self._tail)
        if at >= 0:
            return self._tail[at]
        if index < 0:
            index += len(self)
        if index < 0:
            raise IndexError("no number has this index")
        return _unpacked(self._blocks[index // BLOCK])[index % BLOCK]

    def _part(self, begin: int, end: int) -> array[Any]:
        if begin >= self._packed:
            return self._tail[begin - self._packed : max(0, end - self._packed)]
        found: array[Any] = array(self.typecode)
        for number in range(begin // BLOCK, -(-min(end, self._packed) // BLOCK)):
            base = number * BLOCK
            found += _unpacked(self._blocks[number])[max(0, begin - base) : max(0, end - base)]
        if end > self._packed:
            found += self._tail[: end - self._packed]
        return found

    def __setitem__(self, index: int, value: Number) -> None:
        """Change the last number. Raises IndexError for another one."""
        if index not in {-1, len(self) - 1} or not self._tail:
            raise IndexError("only the last number can be changed")
        self._tail[-1] = value

    def __iter__(self) -> Iterator[Number]:
        for begin in range(0, len(self), BLOCK):
            yield from self[begin : begin + BLOCK]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence | array) and len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Numbers({self.typecode!r}, {list(self)})"

    def first(self, count: int) -> Numbers[Number]:
        """Another column with the first so many numbers, which shares what is packed."""
        whole = min(max(0, count - 1) // BLOCK, len(self._blocks))
        other: Numbers[Number] = Numbers(self.typecode)
        other._blocks, other._firsts = self._blocks[:whole], self._firsts[:whole]
        other._packed = whole * BLOCK
        other._tail = self[other._packed : count]
        return other

    def bisect_left(self, value: float) -> int:
        """How many of ascending numbers are less than `value`."""
        if not self._blocks or self._tail[0] < value:
            return self._packed + bisect_left(self._tail, value)
        number = max(0, bisect_left(self._firsts, value) - 1)
        return number * BLOCK + bisect_left(_unpacked(self._blocks[number]), value)

    def bisect_right(self, value: float) -> int:
        """How many of ascending numbers are no greater than `value`."""
        if not self._blocks or self._tail[0] <= value:
            return self._packed + bisect_right(self._tail, value)
        number = max(0, bisect_right(self._firsts, value) - 1)
        return number * BLOCK + bisect_right(_unpacked(self._blocks[number]), value)
