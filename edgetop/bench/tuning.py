"""Edgetop tune: candidates, rounds, choice.

The candidates take turns, in rounds, and what is hopeless is left out of the later ones. What does not differ from the
best one by then is as good, and the first in the order of preference is chosen: fewer threads, less memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import exp, log
from pathlib import Path
from statistics import fmean, stdev
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from edgetop.bench.plan import CoolDown, Plan, Setting, TokenTest
from edgetop.bench.results import PlanResult, Repetition, results_of
from edgetop.bench.run_log import RunLog
from edgetop.bench.runner import OnProgress, Runner
from edgetop.core.bootstrap import SPREAD_LEAST
from edgetop.core.engine_choices import FlashAttention, KvType
from edgetop.core.statistics import CONFIDENCE, welch_difference
from edgetop.live.chat_session import LiveOptions
from edgetop.session.store import Store

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


class CandidateResult(Struct, frozen=True, kw_only=True):
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
    results: tuple[CandidateResult, ...]
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
    results = {setting.key: CandidateResult(setting=setting) for setting in stage.candidates}
    for number in range(1, rounds + 1):
        racing = [each.setting for each in results.values() if _races(each)]
        if len(racing) < 2 and number > 1:
            break
        order = racing if number % 2 else racing[::-1]
        found = measure(order, stage.test, number)
        for setting in racing:
            results[setting.key] = _with(results[setting.key], found.get(setting.key, "it was not measured"))
        if number >= ROUNDS_LEAST:
            results = {key: _judged(each, results, number) for key, each in results.items()}
    return _result(stage, list(results.values()))


def _races(result: CandidateResult) -> bool:
    return not result.failure and result.left_out_after is None


def _with(result: CandidateResult, found: Sample | str) -> CandidateResult:
    if isinstance(found, str):
        return CandidateResult(setting=result.setting, samples=result.samples, failure=found)
    return CandidateResult(setting=result.setting, samples=(*result.samples, found))


def _judged(result: CandidateResult, results: Mapping[str, CandidateResult], number: int) -> CandidateResult:
    """The same, left out if it is hopeless."""
    racing = [each for each in results.values() if _races(each)]
    if not _races(result) or not racing:
        return result
    leader = min(racing, key=lambda each: each.cost)
    if result is leader or min(result.costs) <= HOPELESS * max(leader.costs):
        return result
    return CandidateResult(setting=result.setting, samples=result.samples, left_out_after=number)


def _result(stage: Stage, results: Sequence[CandidateResult]) -> StageResult:
    racing = [each for each in results if _races(each)]
    if not racing:
        raise NothingMeasuredError(next((each.failure for each in results if each.failure), "nothing was measured"))
    best = min(racing, key=lambda each: each.cost)
    chosen = next(each for each in racing if each is best or is_as_good(each, best))
    if len(results) == 1:
        reason = "there is nothing else to choose from"
    elif chosen is best and sum(is_as_good(each, best) for each in racing) == 1:
        reason = "it is the best"
    elif chosen is best:
        reason = "it is the best, and comes first of what is as good within noise"
    else:
        more = 100 * (chosen.cost / best.cost - 1)
        reason = f"it is as good as the best within noise ({more:+.1f} %), and comes first of those"
    return StageResult(stage=stage, results=tuple(results), chosen=chosen.setting, reason=reason)


def is_as_good(candidate: CandidateResult, best: CandidateResult) -> bool:
    """Whether a candidate does not differ significantly from the best one, or by nothing that counts."""
    ratio = candidate.cost / best.cost
    if ratio <= EQUAL_AT_MOST:
        return True
    if ratio > NOISE_AT_MOST or candidate.spread is None or best.spread is None:
        return False
    difference = welch_difference(log(ratio), _uncertainty(candidate), _uncertainty(best))
    return difference.p_value >= 1 - CONFIDENCE


def _uncertainty(result: CandidateResult) -> tuple[float, float]:
    """Relative standard uncertainty of the mean, and its degrees of freedom."""
    count = len(result.costs)
    return max(SPREAD_LEAST, (result.spread or 0.0) / count**0.5), count - 1


KV_TYPES: tuple[KvType, ...] = ("q8_0", "f16")
"""The one that takes less memory first. Others cost noticeable quality."""

UBATCHES = (128, 256, 512)
"""llama.cpp's default is the last one."""

FEW_CORES = 8
"""Up to so many cores, every number of threads is tried; beyond, powers of two."""


class Probe(Struct, frozen=True, kw_only=True):
    """How fast the model is about, found out first so that tests are neither too short nor too long."""

    prefill_tokens_per_s: float
    decode_tokens_per_s: float


class Lengths(Struct, frozen=True, kw_only=True):
    """Tokens of the tests."""

    n_prompt: int
    n_gen: int


def lengths_for(probe: Probe, *, test_s: float) -> Lengths:
    """Tests of about `test_s` seconds, within what says something at all."""
    return Lengths(
        n_prompt=_bounded(probe.prefill_tokens_per_s * test_s, 64, 512),
        n_gen=_bounded(probe.decode_tokens_per_s * test_s, 16, 128),
    )


def thread_counts(physical: int, logical: int) -> tuple[int, ...]:
    """Numbers of threads worth trying, in ascending order."""
    counts = set(range(1, physical + 1)) if physical <= FEW_CORES else {2**power for power in range(20)}
    return tuple(sorted({count for count in counts if count <= physical} | {physical, max(physical, logical)}))


def questions(threads: tuple[int, ...], lengths: Lengths, *, fast_mask: str | None = None) -> dict[str, int]:
    """What `answers` asks, in its order, and how many candidates each question has at most."""
    sizes = sum(size <= lengths.n_prompt for size in UBATCHES)
    candidates = {
        "threads": len(threads),
        "cores": 0 if fast_mask is None else 2,
        "prefill threads": min(3, len(threads)),
        "ubatch": sizes if sizes > 1 else 0,
        "flash attention": 2,
        "kv cache": len(KV_TYPES),
    }
    return {name: count for name, count in candidates.items() if count}


def suits(fast_mask: str | None, threads: int | None) -> bool:
    """Whether so many threads have room on the fast cores, so that it is asked whether they should stay there."""
    return fast_mask is not None and (threads or 1) <= int(fast_mask, 16).bit_count()


def answers(
    start: Setting,
    threads: tuple[int, ...],
    lengths: Lengths,
    rounds: int,
    measure: Measure,
    *,
    fast_mask: str | None = None,
) -> Iterator[StageResult]:
    """Answer one question after the other: threads, their cores, threads of prefill, its pieces, attention, KV cache.

    `start` is the model as it is run where nothing was chosen; `fast_mask` names the fast cores where there are slow
    ones. Raises NothingMeasuredError.
    """
    decode, prefill = TokenTest(n_gen=lengths.n_gen), TokenTest(n_prompt=lengths.n_prompt)
    deep = TokenTest(n_gen=lengths.n_gen, depth=lengths.n_prompt)
    yield (found := _ask("threads", decode, [replace(start, threads=count) for count in threads], rounds, measure))
    chosen = found.chosen
    if suits(fast_mask, chosen.threads):
        yield (
            found := _ask(
                "cores", decode, [replace(chosen, cpu_mask=mask) for mask in (None, fast_mask)], rounds, measure
            )
        )
        chosen = found.chosen
    counts = sorted({chosen.threads or 1, *threads[-2:]})
    yield (
        found := _ask(
            "prefill threads", prefill, [replace(chosen, threads_batch=count) for count in counts], rounds, measure
        )
    )
    chosen = found.chosen
    sizes = [size for size in UBATCHES if size <= lengths.n_prompt]
    if len(sizes) > 1:
        yield (found := _ask("ubatch", prefill, [replace(chosen, ubatch=size) for size in sizes], rounds, measure))
        chosen = found.chosen
    choices: tuple[FlashAttention, ...] = ("auto", "off")
    attention = [replace(chosen, flash_attn=when) for when in choices]
    yield (found := _ask("flash attention", deep, attention, rounds, measure))
    chosen = found.chosen
    # Without it, a cache of less than f16 cannot be read, and that candidate fails.
    yield _ask("kv cache", deep, [replace(chosen, kv_type=kind) for kind in KV_TYPES], rounds, measure)


def _ask(name: str, test: TokenTest, candidates: list[Setting], rounds: int, measure: Measure) -> StageResult:
    return choose(Stage(name=name, test=test, candidates=tuple(candidates)), rounds, measure)


def _bounded(value: float, least: int, most: int) -> int:
    """A multiple of 16 next to a value."""
    return min(most, max(least, round(value / 16) * 16))


PROBE_PROMPT, PROBE_REPLY = 64, 16


class TuningInterruptedError(Exception):
    """The person wants it to end."""


class TuningRuns:
    """Measures settings of one model."""

    def __init__(
        self,
        live: LiveOptions,
        goal: Literal["speed", "energy"],
        cool_down: CoolDown,
        *,
        on_progress: OnProgress,
        interrupted: Callable[[], bool],
    ) -> None:
        self._live = live
        self._goal = goal
        self._cool_down = cool_down
        self._on_progress = on_progress
        self._interrupted = interrupted
        self._folder = tempfile.TemporaryDirectory(prefix="edgetop-tune-")
        self.done = 0
        """How many runs are over."""

    def close(self) -> None:
        """Delete the sessions."""
        self._folder.cleanup()

    def probe(self, setting: Setting) -> Probe:
        """How fast the model is about. Raises NothingMeasuredError and TuningInterruptedError."""
        tests = (TokenTest(n_prompt=PROBE_PROMPT), TokenTest(n_gen=PROBE_REPLY))
        result = self._carry_out([setting], tests, 0).settings[0]
        found = [result.test(test.name) for test in tests]
        if found[0] is None or found[1] is None:
            raise NothingMeasuredError(_why(result.problems))
        return Probe(prefill_tokens_per_s=found[0].tokens_per_s.mean, decode_tokens_per_s=found[1].tokens_per_s.mean)

    def measure(self, settings: Sequence[Setting], test: TokenTest, number: int) -> Mapping[str, Sample | str]:
        """See `edgetop.bench.tuning.Measure`. Raises TuningInterruptedError."""
        samples: dict[str, Sample | str] = {}
        for result in self._carry_out(settings, (test,), number).settings:
            found = result.test(test.name)
            samples[result.setting.key] = _why(result.problems) if found is None else self._sample(found.repetitions[0])
        return samples

    def _sample(self, repetition: Repetition) -> Sample | str:
        disturbed = bool(repetition.conditions.disturbances)
        if self._goal == "speed":
            return Sample(cost=1 / repetition.tokens_per_s, disturbed=disturbed)
        figure = repetition.j_per_token
        if figure is None:
            return f"its energy is not known: {repetition.energy_missing}"
        return Sample(cost=figure.value, disturbed=disturbed) if figure.value > 0 else "its energy is not above 0"

    def _carry_out(self, settings: Sequence[Setting], tests: tuple[TokenTest, ...], number: int) -> PlanResult:
        plan = Plan(
            name="tune", settings=tuple(settings), tests=tests, repetitions=1, cool_down=self._cool_down, seed=number
        )
        folder = Path(self._folder.name)
        log = RunLog(folder, plan)
        runner = Runner(
            log, Store(folder / "sessions"), self._live, on_progress=self._on_progress, interrupted=self._interrupted
        )
        if not runner.run():
            raise TuningInterruptedError
        self.done += len(settings)
        return results_of(plan, log.finished)


def _why(problems: Sequence[str]) -> str:
    return problems[-1].removeprefix("round 1: ") if problems else "it gave no rate"
