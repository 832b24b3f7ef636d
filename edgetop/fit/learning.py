"""The learner: similar past runs, correction factors.

A run is extrapolated to another depth, another number of threads or another size of the same quantization by the ratio
of the two predicted times; what the formulas get wrong in the same way for both cancels out. The further it is
extrapolated, the wider the band.

A factor belongs to a part of the time, because the formulas may be wrong in different ways for weights and for
attention, and to a number of threads; to a family of quantization as well where there are enough runs of it. It is the
median of the ratios, so that one disturbed run does not spoil it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import exp, fsum, hypot, isfinite, log, sqrt
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.engine_settings import EngineSettings
from edgetop.core.records import PastRun
from edgetop.core.sources import Unavailable
from edgetop.fit.machine import (
    CorrectionFactor,
    Machine,
    TimePart,
    TokenTime,
    decode_time,
    family_of,
    offloaded_share,
    prefill_time,
)
from edgetop.fit.model_facts import ModelFacts

Similarity = Literal["same", "other threads", "other size"]
"""How a run resembles what is to be predicted, nearest first."""

TOKENS_MIN = 8
"""Shorter runs are mostly noise."""

NEWEST = 5
"""So many of the nearest runs are used."""

_SIGMA: dict[Similarity, float] = {"same": 0.07, "other threads": 0.16, "other size": 0.12}
"""Of one run that is not extrapolated: from one session to the next, by similarity. By judgement, and adjusted to how
often the bands of `benchmarks/speed_prediction.py` held on one machine; `other size` is judgement alone."""

_EXTRAPOLATION_SIGMA = 0.08
"""... and so much more for each factor e that the predicted time differs by."""

_SIZES_MAX = 8.0
"""A model more than so many times larger or smaller teaches nothing."""

Runs = Mapping[Similarity, Sequence[PastRun]]
"""Own runs by similarity, the newest first."""


class Extrapolated(Struct, frozen=True, kw_only=True):
    """What own runs say of one figure."""

    value: float
    sigma: float
    similarity: Similarity
    runs: tuple[PastRun, ...]

    @property
    def words(self) -> str:
        """Which runs, for a person."""
        newest = self.runs[0]
        many = f"{len(self.runs)} own runs" if len(self.runs) > 1 else "own run"
        how = {
            "same": "of this model",
            "other threads": f"of this model with {newest.threads} threads",
            "other size": f"of {newest.model_name} {newest.file_type}",
        }[self.similarity]
        return f"{many} {how}, the newest {newest.measured_at[:10]}"


def related(
    past_runs: Iterable[PastRun],
    facts: ModelFacts,
    settings: EngineSettings,
    *,
    machine_key: str,
    threads: int,
    gpu_layers: int,
) -> Runs:
    """The runs on this machine that can teach something, by similarity, the newest first."""
    found: dict[Similarity, list[PastRun]] = {}
    for run in sorted(past_runs, key=lambda run: run.measured_at, reverse=True):
        if run.machine_key != machine_key or not machine_key or run.disturbed or run.decode_tokens < TOKENS_MIN:
            continue
        if (run.type_k, run.type_v) != (settings.type_k, settings.type_v) or run.file_type != facts.file_type:
            continue
        if bool(run.gpu_layers) != bool(gpu_layers):
            continue
        similarity = _similarity(run, facts, threads, gpu_layers)
        if similarity is not None:
            found.setdefault(similarity, []).append(run)
    return found


def _similarity(run: PastRun, facts: ModelFacts, threads: int, gpu_layers: int) -> Similarity | None:
    same_model = (run.architecture, run.parameters) == (facts.architecture, facts.parameters)
    if same_model:
        offloaded = min(run.gpu_layers, facts.n_layer or run.gpu_layers)
        if offloaded != gpu_layers:
            return None
        return "same" if run.threads == threads or gpu_layers else "other threads"
    known = run.weight_bytes_per_token or run.size_bytes
    if (run.threads != threads and not gpu_layers) or known <= 0 or facts.weight_bytes_per_token <= 0:
        return None
    ratio = facts.weight_bytes_per_token / known
    return "other size" if 1 / _SIZES_MAX <= ratio <= _SIZES_MAX else None


def extrapolate(
    runs: Runs,
    figure: Callable[[PastRun], float | None],
    ratio: Callable[[PastRun, Similarity], float],
) -> Extrapolated | None:
    """The figure as the nearest runs have it, each times its `ratio`; `None` where no run has it.

    `ratio` is what is to be predicted over what the run did, by the formulas.
    """
    for similarity, sigma in _SIGMA.items():
        values, logs, used = [], [], []
        for run in runs.get(similarity, ()):
            measured = figure(run)
            by = ratio(run, similarity)
            if measured is None or measured <= 0 or by <= 0:
                continue
            values.append(measured * by)
            logs.append(abs(log(by)))
            used.append(run)
            if len(used) == NEWEST:
                break
        if used:
            spread = _deviation([log(value) for value in values])
            one = hypot(sigma, spread, _EXTRAPOLATION_SIGMA * median(logs))
            return Extrapolated(value=exp(median(map(log, values))), sigma=one, similarity=similarity, runs=tuple(used))
    return None


def median(values: Iterable[float]) -> float:
    """The middle one, or the mean of the two in the middle; the standard library's takes milliseconds to import."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _deviation(values: Sequence[float]) -> float:
    """Root mean square of the distances from the mean."""
    mean = fsum(values) / len(values)
    return sqrt(fsum((value - mean) ** 2 for value in values) / len(values))


def spread_of(ratios: Sequence[float]) -> float:
    """Deviation of the logarithm of ratios, from their absolute deviations from the median, which outliers leave alone.

    1.4826 makes the median absolute deviation that of a normal distribution. sqrt(1 + 1/n) is for the next one.
    """
    logs = [log(ratio) for ratio in ratios]
    middle = median(logs)
    return 1.4826 * median([abs(each - middle) for each in logs]) * sqrt(1 + 1 / len(logs))


FORMULAS = 1
"""Counts up when formulas or constants change: factors of other ones say nothing."""

RUNS_MAX = 80
"""The newest runs are kept."""

FAMILY_RUNS = 3
"""So many runs of one family make a factor of their own."""

FACTORS = (0.2, 5.0)
"""Ratios beyond these come from something other than the constants."""

SIGMA_MIN = 0.05
"""No run of the same model repeats better."""

_OTHER_THREADS_SIGMA = 0.08
_FEW_SIGMA = 0.10
"""For a single run; it shrinks with the square root of their number."""

_SHALLOW, _DEEP = 0.25, 0.35
"""Runs in which attention has at most or at least this share of the predicted time teach of weights, or of it."""


class TimingSample(Struct, frozen=True, kw_only=True):
    """A measured run beside what the formulas say of it, no calibration in it. Times in seconds per token."""

    measured_at: str
    """Wall clock, ISO 8601."""
    threads: int
    """0 for a GPU."""
    family: str
    weights_s: float
    attention_s: float
    measured_s: float
    prefill_s: float | None = None
    prefill_measured_s: float | None = None
    bandwidth_bytes_per_s: float = 0.0
    """With which `weights_s` was worked out; 0 on a GPU."""
    read_s: float = 0.0
    """Part of `weights_s` that reading the weights took by it."""
    formulas: int = FORMULAS


def run_of(
    facts: ModelFacts,
    machine: Machine,
    settings: EngineSettings,
    *,
    threads: int,
    depth_tokens: int,
    decode_tokens_per_s: float,
    prompt_tokens: int = 0,
    prefill_tokens_per_s: float | None = None,
    measured_at: str,
) -> TimingSample | Unavailable:
    """What a bench taught; Unavailable where the formulas have nothing to say of it."""
    time = decode_time(facts, machine, settings, threads=threads, depth_tokens=depth_tokens)
    if isinstance(time, Unavailable):
        return time
    if not isfinite(decode_tokens_per_s) or decode_tokens_per_s <= 0:
        return Unavailable("no decode rate was measured", "let the bench decode some tokens")
    prefill = (
        prefill_time(facts, machine, settings, threads=threads, prompt_tokens=prompt_tokens) if prompt_tokens else None
    )
    measured = prefill_tokens_per_s if prefill_tokens_per_s and prefill_tokens_per_s > 0 else None
    on_gpu = offloaded_share(facts, machine, settings) > 0.5
    known = None if on_gpu or machine.cpu is None else machine.cpu.bandwidth(threads)
    bandwidth = 0.0 if known is None else known.value
    return TimingSample(
        measured_at=measured_at,
        threads=0 if on_gpu else threads,
        family=family_of(facts),
        weights_s=time.weights_s,
        attention_s=time.attention_s,
        measured_s=1 / decode_tokens_per_s,
        prefill_s=None if prefill is None or measured is None else prefill[0] / prompt_tokens,
        prefill_measured_s=None if prefill is None or measured is None else 1 / measured,
        bandwidth_bytes_per_s=bandwidth,
        read_s=facts.weight_bytes_per_token / bandwidth if bandwidth else 0.0,
    )


def learn(
    runs: Iterable[TimingSample], bandwidth_bytes_per_s: Mapping[int, float] | None = None
) -> tuple[CorrectionFactor, ...]:
    """The factors of all runs, by part, number of threads and, where there are enough of them, family.

    `bandwidth_bytes_per_s` is what the machine is taken to read now, by number of threads: what was predicted by an
    earlier measurement is brought to it, so that the factors do not follow the errors of either.
    """
    present = bandwidth_bytes_per_s or {}
    usable = [_rescaled(run, present) for run in runs if run.formulas == FORMULAS and _is_sound(run)]
    learned: list[CorrectionFactor] = []
    for threads in sorted({run.threads for run in usable}):
        here = [run for run in usable if run.threads == threads]
        learned += _factors("weights", threads, _weights_ratios(here))
        weights = tuple(learned)
        learned += _factors("attention", threads, _attention_ratios(here, weights), families=False)
        learned += _factors(
            "prefill", threads, [(run.family, run.prefill_measured_s / run.prefill_s) for run in here
                                 if run.prefill_s and run.prefill_measured_s],
        )  # fmt: skip
    return tuple(learned)


def factor_for(
    learned: Sequence[CorrectionFactor], part: TimePart, *, threads: int, family: str
) -> CorrectionFactor | None:
    """The factor that fits best: of this family, else of this number of threads, else of others with a wider band."""
    of_part = [each for each in learned if each.part == part and (each.threads == 0) == (threads == 0)]
    for of_family in (family, ""):
        for each in of_part:
            if each.threads == threads and each.family == of_family:
                return each
    others = [each for each in of_part if not each.family]
    if not others:
        return None
    nearest = min(others, key=lambda each: abs(each.threads - threads))
    return replace(nearest, sigma=hypot(nearest.sigma, _OTHER_THREADS_SIGMA))


class Corrected(Struct, frozen=True, kw_only=True):
    """A predicted time with the factors of this machine."""

    total_s: float
    sigma: float
    runs: int


def corrected(time: TokenTime, learned: Sequence[CorrectionFactor], *, threads: int, family: str) -> Corrected | None:
    """The time of a token as this machine has taught it; `None` where it has taught nothing of it."""
    weights = factor_for(learned, "weights", threads=threads, family=family)
    attention = factor_for(learned, "attention", threads=threads, family=family)
    if weights is None:
        return None
    by_weights_s = time.weights_s * weights.factor
    # Without a deep run the attention is taken to be off as the weights are, and its share keeps the formula's band.
    by_attention_s = time.attention_s * (weights if attention is None else attention).factor
    sigma_attention = time.sigma if attention is None else attention.sigma
    total_s = by_weights_s + by_attention_s
    return Corrected(
        total_s=total_s,
        sigma=(by_weights_s * weights.sigma + by_attention_s * sigma_attention) / total_s,
        runs=weights.runs + (0 if attention is None else attention.runs),
    )


def kept(runs: Iterable[TimingSample]) -> tuple[TimingSample, ...]:
    """The newest runs, in order."""
    return tuple(sorted(runs, key=lambda run: run.measured_at)[-RUNS_MAX:])


def _rescaled(run: TimingSample, bandwidth_bytes_per_s: Mapping[int, float]) -> TimingSample:
    """The run with the predicted time that the present bandwidth gives, where it is known.

    Where reading and computing overlap this is more than the formula would change.
    """
    counts = [count for count in bandwidth_bytes_per_s if count <= run.threads]
    if not counts or run.bandwidth_bytes_per_s <= 0:
        return run
    ratio = run.bandwidth_bytes_per_s / bandwidth_bytes_per_s[max(counts)]
    weights_s = run.weights_s + run.read_s * (ratio - 1)
    return replace(run, weights_s=weights_s) if weights_s > 0 else run


def _is_sound(run: TimingSample) -> bool:
    positive = (run.weights_s, run.measured_s)
    others = (run.attention_s, run.read_s, run.bandwidth_bytes_per_s)
    return all(isfinite(each) and each > 0 for each in positive) and all(
        isfinite(each) and each >= 0 for each in others
    )


def _weights_ratios(runs: Sequence[TimingSample]) -> list[tuple[str, float]]:
    shallow = [run for run in runs if run.attention_s <= _SHALLOW * (run.weights_s + run.attention_s)]
    return [(run.family, (run.measured_s - run.attention_s) / run.weights_s) for run in shallow]


def _attention_ratios(runs: Sequence[TimingSample], learned: Sequence[CorrectionFactor]) -> list[tuple[str, float]]:
    ratios = []
    for run in runs:
        if run.attention_s < _DEEP * (run.weights_s + run.attention_s):
            continue
        weights = factor_for(learned, "weights", threads=run.threads, family=run.family)
        weights_s = run.weights_s * (1.0 if weights is None else weights.factor)
        ratios.append((run.family, (run.measured_s - weights_s) / run.attention_s))
    return ratios


def _factors(
    part: TimePart, threads: int, ratios: Sequence[tuple[str, float]], *, families: bool = True
) -> list[CorrectionFactor]:
    sound = [(family, ratio) for family, ratio in ratios if FACTORS[0] <= ratio <= FACTORS[1]]
    found = []
    if sound:
        found.append(_learned(part, threads, "", [ratio for _, ratio in sound]))
    for family in sorted({family for family, _ in sound}) if families else ():
        own = [ratio for each, ratio in sound if each == family]
        if family and len(own) >= FAMILY_RUNS:
            found.append(_learned(part, threads, family, own))
    return found


def _learned(part: TimePart, threads: int, family: str, ratios: list[float]) -> CorrectionFactor:
    sigma = hypot(SIGMA_MIN, spread_of(ratios), _FEW_SIGMA / len(ratios) ** 0.5)
    return CorrectionFactor(
        part=part, threads=threads, family=family, factor=median(ratios), sigma=sigma, runs=len(ratios)
    )
