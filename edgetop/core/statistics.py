"""Percentiles, Student's t, Welch, Holm, Pareto; without NumPy.

A percentile is what NumPy and spreadsheets call so by default (Hyndman and Fan, "Sample quantiles in statistical
packages", 1996, type 7), so that a reader who computes the figure again from the file gets the same one.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate
from math import comb, exp, expm1, hypot, inf, isinf, lgamma, pi, sqrt
from statistics import NormalDist, fmean
from typing import NamedTuple, overload


def percentile(ordered: Sequence[float], percent: float) -> float | None:
    """The value that `percent` per cent of `ordered` (ascending) lie below; `None` if it is empty."""
    if not ordered:
        return None
    rank, share = _position(len(ordered), percent)
    low = ordered[rank]
    return low + (ordered[rank + 1] - low) * share if share else float(low)


class Counted(Sequence[int]):
    """Ascending whole numbers, each length of a run of equal ones kept instead of the run."""

    def __init__(self) -> None:
        self._values = array("q")
        self._up_to = array("q")
        """How many are no greater than each of the values."""

    def with_more(self, values: Iterable[int]) -> Counted:
        """Another one, with more numbers."""
        counts = Counter(values)
        before = 0
        for value, up_to in zip(self._values, self._up_to, strict=True):
            counts[value] += up_to - before
            before = up_to
        merged = Counted()
        merged._values = array("q", sorted(counts))
        merged._up_to = array("q", accumulate(counts[value] for value in merged._values))
        return merged

    def __len__(self) -> int:
        return self._up_to[-1] if self._up_to else 0

    @overload
    def __getitem__(self, rank: int) -> int: ...

    @overload
    def __getitem__(self, rank: slice) -> Sequence[int]: ...

    def __getitem__(self, rank: int | slice) -> int | Sequence[int]:
        if isinstance(rank, slice):
            return [self[each] for each in range(*rank.indices(len(self)))]
        return self._values[bisect_right(self._up_to, rank if rank >= 0 else len(self) + rank)]


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


def wilson_interval(right: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share, after Wilson 1927: within 0 and 1, and not empty where all or none are right."""
    z = quantile(CONFIDENCE, inf)
    share, weight = right / count, z * z / count
    middle, reach = (share + weight / 2) / (1 + weight), z * sqrt(share * (1 - share) / count + weight / count / 4)
    return max(0.0, middle - reach / (1 + weight)), min(1.0, middle + reach / (1 + weight))


class Decay(NamedTuple):
    """value = end + step * exp(-t / constant), by least squares."""

    error: float
    """Sum of the squares of what it leaves."""
    constant: float
    end: float
    step: float


def decay(points: Sequence[tuple[float, float]], constant: float) -> Decay:
    """For a given constant, by a straight line over the exponential; before t = 0 the value is that of t = 0."""
    shape = [exp(-max(0.0, t) / constant) for t, _ in points]
    values = [value for _, value in points]
    x, y = fmean(shape), fmean(values)
    spread = sum((each - x) ** 2 for each in shape)
    step = sum((a - x) * (b - y) for a, b in zip(shape, values, strict=True)) / spread if spread > 0 else 0.0
    end = y - step * x
    return Decay(sum((b - end - step * a) ** 2 for a, b in zip(shape, values, strict=True)), constant, end, step)


def mcnemar_p(won: int, lost: int) -> float:
    """How likely so uneven a split of pairs that differ is by chance, to both sides: McNemar's exact test (1947)."""
    count = won + lost
    as_uneven = sum(comb(count, number) for number in range(min(won, lost) + 1))
    return min(1.0, float(Fraction(2 * as_uneven, 2**count)))


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


LARGEST = 100.0
"""Logarithms beyond it are cut there: the per cent would have more than 40 digits."""

CONFIDENCE = 0.95


class Difference(NamedTuple):
    """log a - log b with its standard uncertainty, and how likely so large a one is by chance."""

    log_ratio: float
    u: float
    reach: float
    """Half the 95 % interval of `log_ratio`."""
    p_value: float

    @property
    def percent(self) -> float:
        """The change from b to a."""
        return _percent(self.log_ratio)

    def interval(self, reach: float | None = None) -> tuple[float, float]:
        """The change in per cent at both ends of the interval, or of another one."""
        half = self.reach if reach is None else reach
        return _percent(self.log_ratio - half), _percent(self.log_ratio + half)


def _percent(log_ratio: float) -> float:
    return 100 * expm1(max(-LARGEST, min(LARGEST, log_ratio)))


def welch_difference(log_ratio: float, first: tuple[float, float], second: tuple[float, float]) -> Difference:
    """Of two values; each side is its relative standard uncertainty, above 0, and the degrees of freedom of that.

    With more repetitions on one side than on the other, the fewer ones' degrees of freedom count: those of Welch and
    Satterthwaite call up to 13 % of equal pairs different for three skewed repetitions against twenty.
    """
    u = hypot(first[0], second[0])
    judged = isinf(first[1]) or isinf(second[1])
    freedom = pooled_freedom(first, second) if judged or first[1] == second[1] else min(first[1], second[1])
    return Difference(log_ratio, u, u * quantile(CONFIDENCE, freedom), two_sided_p(log_ratio / u, freedom))
