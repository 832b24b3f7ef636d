"""Which of several settings is the best one for speed or for energy, with few and short repetitions.

The candidates take turns, in rounds, and what is hopeless is left out of the later ones. What cannot be told from the
best one by then is as good, and the first in the order of preference is chosen: fewer threads, less memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import exp, log
from statistics import fmean, stdev

from msgspec import Struct

from edgetop.bench.plan import Setting, TokenTest
from edgetop.core.statistics.bootstrap import CONFIDENCE
from edgetop.core.statistics.repetitions import SPREAD_LEAST
from edgetop.core.statistics.welch import welch_difference

ROUNDS_LEAST = 2
"""Nothing is left out before; a single repetition may have met with another program."""
HOPELESS = 1.05
"""Left out is what costs this much more even in its best round than the leader in its worst."""
EQUAL_AT_MOST = 1.02
"""A difference that nobody would notice, even where it is surely one."""
NOISE_AT_MOST = 1.10
"""What costs more than this is not taken for as good, however noisy the machine."""


class Sample(Struct, frozen=True, kw_only=True):
    """What one repetition cost: seconds per token where speed is wanted, joules per token where energy is."""

    cost: float
    """Above 0."""
    disturbed: bool = False
    """Throttled, swapped, or beside another program."""


class Stage(Struct, frozen=True, kw_only=True):
    """One question."""

    name: str
    test: TokenTest
    candidates: tuple[Setting, ...]
    """At least one, in the order of preference."""


class Standing(Struct, frozen=True, kw_only=True):
    """How a candidate did."""

    setting: Setting
    samples: tuple[Sample, ...] = ()
    failure: str = ""
    """Why it could not be measured."""
    left_out_after: int | None = None
    """The round after which it was hopeless."""

    @property
    def costs(self) -> list[float]:
        """The samples that count: those that nothing disturbed, where there are two of them and more."""
        undisturbed = [sample.cost for sample in self.samples if not sample.disturbed]
        return undisturbed if len(undisturbed) >= ROUNDS_LEAST else [sample.cost for sample in self.samples]

    @property
    def cost(self) -> float:
        """Geometric mean of the costs; infinite without any."""
        return exp(fmean(map(log, self.costs))) if self.samples else float("inf")

    @property
    def spread(self) -> float | None:
        """Relative standard deviation of one sample; `None` for fewer than two."""
        return stdev(map(log, self.costs)) if len(self.costs) > 1 else None


class StageResult(Struct, frozen=True, kw_only=True):
    """The answer to one question."""

    stage: Stage
    standings: tuple[Standing, ...]
    """In the order of the candidates."""
    chosen: Setting
    reason: str
    """In one clause."""


Measure = Callable[[Sequence[Setting], TokenTest, int], Mapping[str, Sample | str]]
"""One repetition of a test with each setting, in a round from 1: by the setting's key what it cost, or why there is
none."""


class NothingMeasuredError(Exception):
    """No candidate could be measured; the message says why of the first."""


def choose(stage: Stage, rounds: int, measure: Measure) -> StageResult:
    """Answer one question with at most so many rounds. Raises NothingMeasuredError."""
    standings = {setting.key: Standing(setting=setting) for setting in stage.candidates}
    for number in range(1, rounds + 1):
        racing = [each.setting for each in standings.values() if _races(each)]
        if len(racing) < 2 and number > 1:
            break
        order = racing if number % 2 else racing[::-1]
        found = measure(order, stage.test, number)
        for setting in racing:
            standings[setting.key] = _with(standings[setting.key], found.get(setting.key, "it was not measured"))
        if number >= ROUNDS_LEAST:
            standings = {key: _judged(each, standings, number) for key, each in standings.items()}
    return _result(stage, list(standings.values()))


def _races(standing: Standing) -> bool:
    return not standing.failure and standing.left_out_after is None


def _with(standing: Standing, found: Sample | str) -> Standing:
    if isinstance(found, str):
        return Standing(setting=standing.setting, samples=standing.samples, failure=found)
    return Standing(setting=standing.setting, samples=(*standing.samples, found))


def _judged(standing: Standing, standings: Mapping[str, Standing], number: int) -> Standing:
    """The same, left out if it is hopeless."""
    racing = [each for each in standings.values() if _races(each)]
    if not _races(standing) or not racing:
        return standing
    leader = min(racing, key=lambda each: each.cost)
    if standing is leader or min(standing.costs) <= HOPELESS * max(leader.costs):
        return standing
    return Standing(setting=standing.setting, samples=standing.samples, left_out_after=number)


def _result(stage: Stage, standings: Sequence[Standing]) -> StageResult:
    racing = [each for each in standings if _races(each)]
    if not racing:
        raise NothingMeasuredError(next((each.failure for each in standings if each.failure), "nothing was measured"))
    best = min(racing, key=lambda each: each.cost)
    chosen = next(each for each in racing if each is best or is_as_good(each, best))
    if len(standings) == 1:
        reason = "there is nothing else to choose from"
    elif chosen is best and sum(is_as_good(each, best) for each in racing) == 1:
        reason = "it is the best"
    elif chosen is best:
        reason = "it is the best, and comes first of what is as good within noise"
    else:
        more = 100 * (chosen.cost / best.cost - 1)
        reason = f"it is as good as the best within noise ({more:+.1f} %), and comes first of those"
    return StageResult(stage=stage, standings=tuple(standings), chosen=chosen.setting, reason=reason)


def is_as_good(candidate: Standing, best: Standing) -> bool:
    """Whether a candidate cannot be told from the best one, or differs by nothing that counts."""
    ratio = candidate.cost / best.cost
    if ratio <= EQUAL_AT_MOST:
        return True
    if ratio > NOISE_AT_MOST or candidate.spread is None or best.spread is None:
        return False
    difference = welch_difference(log(ratio), _uncertainty(candidate), _uncertainty(best))
    return difference.p_value >= 1 - CONFIDENCE


def _uncertainty(standing: Standing) -> tuple[float, float]:
    """Relative standard uncertainty of the mean, and its degrees of freedom."""
    count = len(standing.costs)
    return max(SPREAD_LEAST, (standing.spread or 0.0) / count**0.5), count - 1
