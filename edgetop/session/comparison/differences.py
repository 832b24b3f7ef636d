"""How one figure of two results differs, and what that rests on."""

from __future__ import annotations

from math import hypot, inf, log, sqrt
from typing import NamedTuple

from edgetop.core.energy.uncertainty import COVERAGE_FACTOR, Components, Quantity, differs
from edgetop.core.statistics.bootstrap import (
    LEAST,
    MOST,
    Difference,
    Resampled,
    difference,
    from_zero,
    resampled,
)
from edgetop.core.statistics.repetitions import How, PairedRepetitions, Repetitions
from edgetop.core.statistics.student import quantile
from edgetop.core.statistics.welch import welch_difference
from edgetop.session.comparison import figures
from edgetop.session.comparison.result import Measured, Result

ASSUMED_SPREAD: dict[str, float] = {
    figures.DECODE: 0.05,
    figures.J_PER_TOKEN: 0.05,
    figures.NET_J_PER_TOKEN: 0.05,
    figures.DECODE_J_PER_TOKEN: 0.05,
    figures.RSS_PEAK: 0.01,
}
"""Relative standard deviation from turn to turn where fewer than three turns show none (judgement: decoding on boards
that are not throttled repeats within 1 to 3 %, on shared machines within 5 %). Other figures depend on the prompt, the
page cache or what the processor did before, and nothing is assumed of them."""
BASE_SEED, OTHER_SEED, PAIR_SEED = 1, 2, 3


PAIRED_BELOW, PAIRED_FROM = 10, 0.7
"""Pairs take the difficulty of the prompts out, and cost half the degrees of freedom. From ten turns on the correlation
shows which weighs more; of fewer, choosing by it would raise the false alarms from 5 to 6.5 % (simulated), so that they
are always paired."""


class Spread(NamedTuple):
    """Relative standard uncertainty of a value and its degrees of freedom."""

    u: float
    freedom: float


class Side:
    """One figure of one result, resampled once for all that it is held against."""

    def __init__(self, result: Result, figure: str, *, is_base: bool) -> None:
        self.result = result
        self.measured = result.figures[figure]
        self.repetitions = _repetitions(self.measured)
        self.assumed = False
        """The spread is that of ASSUMED_SPREAD."""
        self._seed = BASE_SEED if is_base else OTHER_SEED
        self._resampled: Resampled | None = None
        self.spread = self._spread(figure)

    @property
    def count(self) -> int:
        """Turns or repetitions behind the value."""
        measured = self.measured
        return len(measured.repetitions) or measured.count or 1

    @property
    def can_be_resampled(self) -> bool:
        """Whether there are enough repetitions for a bootstrap, and not so many that it is a waste."""
        return self.repetitions is not None and LEAST <= len(self.repetitions) <= MOST

    @property
    def resampled(self) -> Resampled:
        """Resamples; only where there are repetitions."""
        if self._resampled is None:
            assert self.repetitions is not None  # noqa: S101 - as the docstring says
            self._resampled = resampled(self.repetitions, self._seed)
        return self._resampled

    def interval(self) -> tuple[float, float] | None:
        """The value's 95 % interval, the sensor's systematic error included; `None` where the spread is not known."""
        value, systematic = self.measured.value, COVERAGE_FACTOR * self.measured.u_systematic
        if self.can_be_resampled:
            reach = value * from_zero(self.resampled).reach
        elif self.spread is not None and not self.assumed:
            reach = value * self.spread.u * quantile(0.95, self.spread.freedom)
        elif self.measured.within is not None:
            reach = COVERAGE_FACTOR * value * self.measured.within
        elif self.measured.u_random > 0:
            reach = COVERAGE_FACTOR * self.measured.u_random
        else:
            return None
        return max(0.0, value - hypot(reach, systematic)), value + hypot(reach, systematic)

    def _spread(self, figure: str) -> Spread | None:
        measured = self.measured
        if self.repetitions is not None:
            return Spread(float(self.repetitions.estimate().u[0]), len(self.repetitions) - 1)
        if measured.deviation is not None and measured.count is not None and measured.count > 1:
            return Spread(measured.deviation / sqrt(measured.count) / measured.value, measured.count - 1)
        assumed = ASSUMED_SPREAD.get(figure)
        if assumed is None:
            return None
        self.assumed = True
        return Spread(hypot(assumed, measured.within or 0.0, measured.u_random / measured.value), inf)


class Change(NamedTuple):
    """What changed from the base, and how that was found."""

    difference: Difference
    reach: float
    """Half the 95 % interval of the logarithm, with the systematic errors that do not cancel."""
    beyond_sensor: bool
    """The sensors can tell the two apart; always so for what no sensor measured."""
    basis: str


def change(side: Side, base: Side) -> Change | None:
    """From the base to the other result; `None` where the spread of one of them is not known."""
    found = _found(side, base)
    if found is None:
        return None
    same = same_meter(side.result, base.result)
    systematic = 0.0 if same else hypot(*(each.measured.u_systematic / each.measured.value for each in (side, base)))
    return Change(
        found[0],
        hypot(found[0].reach, COVERAGE_FACTOR * systematic),
        differs(_quantity(side.measured), _quantity(base.measured), same) or not _was_metered(side, base),
        found[1],
    )


def same_meter(first: Result, second: Result) -> bool:
    """Whether both were metered by the same sensor of the same machine, whose systematic error cancels then."""
    return (
        (first.host, first.device, first.energy_source, first.energy_scope)
        == (second.host, second.device, second.energy_source, second.energy_scope)
    ) and bool(first.energy_source)


def _found(side: Side, base: Side) -> tuple[Difference, str] | None:
    if side.repetitions is not None and base.repetitions is not None:
        if _belong_together(side, base):
            pairs = PairedRepetitions(side.repetitions, base.repetitions)
            if len(pairs) < PAIRED_BELOW or pairs.correlation > PAIRED_FROM:
                return _paired(pairs)
        counts = f"{side.count} and {base.count} repetitions"
        if side.can_be_resampled and base.can_be_resampled:
            return difference(side.resampled, base.resampled), f"bootstrap over {counts}"
        log_ratio = float(side.repetitions.estimate().log_value[0] - base.repetitions.estimate().log_value[0])
        basis = f"Student's t over {counts}"
    elif side.spread is None or base.spread is None:
        return None
    else:
        log_ratio = log(side.measured.value / base.measured.value)
        basis = (
            "fewer than three turns: their spread is assumed"
            if side.assumed or base.assumed
            else "Student's t with the deviation that the bench tells"
        )
    assert side.spread is not None and base.spread is not None  # noqa: S101, PT018 - what has repetitions has a spread
    return welch_difference(log_ratio, side.spread, base.spread), basis


def _paired(pairs: PairedRepetitions) -> tuple[Difference, str]:
    if LEAST <= len(pairs) <= MOST:
        return from_zero(resampled(pairs, PAIR_SEED)), f"bootstrap over {len(pairs)} turns, in pairs"
    one = pairs.estimate()
    known = Spread(float(one.u[0]), len(pairs) - 1)
    return (
        welch_difference(float(one.log_value[0]), known, Spread(0.0, inf)),
        f"Student's t over {len(pairs)} turns, in pairs",
    )


def _belong_together(side: Side, base: Side) -> bool:
    """Whether turn belongs to turn: the same prompts in the same order, and every turn has the figure in both."""
    same = bool(side.result.sequence) and side.result.sequence == base.result.sequence
    return same and side.count == base.count == side.result.turns == base.result.turns


def _repetitions(measured: Measured) -> Repetitions | None:
    if measured.made == "single" or len(measured.repetitions) < figures.REPETITIONS_LEAST:
        return None
    how: How = measured.made
    return Repetitions(measured.repetitions, measured.weights, how)


def _was_metered(side: Side, base: Side) -> bool:
    return any(each.measured.u_systematic > 0 or each.measured.u_random > 0 for each in (side, base))


def _quantity(measured: Measured) -> Quantity:
    return Quantity(value=measured.value, u=Components(gain=measured.u_systematic, edges=measured.u_random))
