"""Predicted rates, first token and joules per token."""

from __future__ import annotations

from collections.abc import Sequence
from math import hypot
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.energy.scopes import WIDEST_FIRST
from edgetop.core.engine_settings import EngineSettings
from edgetop.core.format import format_bytes, format_duration, plural
from edgetop.core.quantity import Interval, banded, sigma_of
from edgetop.core.records import PastRun
from edgetop.core.sources import EXTERNAL_METER, Scope, Unavailable
from edgetop.fit.learning import Extrapolated, Runs, Similarity, corrected, extrapolate, factor_for, related
from edgetop.fit.machine import (
    Machine,
    PredictionBasis,
    SpeedLimit,
    TokenTime,
    decode_time,
    family_of,
    offloaded_share,
    prefill_time,
)
from edgetop.fit.model_facts import ModelFacts

_NO_FORMULA_SIGMA = 0.08
"""Of own runs at another depth that no formula brings to the one asked for."""

START_S = 0.02
"""Template, tokenizer and sampling of the first token; by judgement."""


class SpeedPrediction(Struct, frozen=True, kw_only=True):
    """How fast a model will be; every figure with a band that holds in 8 cases of 10."""

    decode_tokens_per_s: Interval
    """At the depth asked for."""
    prefill_tokens_per_s: Interval | None
    """`None` where nothing is known of the machine's arithmetic."""
    first_token_s: Interval | None
    """Reading the prompt asked for and making the first token; loading the model is not in it."""
    basis: PredictionBasis
    explanation: str
    """One line: the inputs it was made from."""
    prefill_explanation: str = ""
    limited_by: SpeedLimit


class _Rate(Struct, frozen=True, kw_only=True):
    seconds: float
    sigma: float
    basis: PredictionBasis
    explanation: str


def predict_speed(
    facts: ModelFacts,
    machine: Machine,
    *,
    settings: EngineSettings,
    threads: int,
    depth_tokens: int,
    prompt_tokens: int,
    past_runs: Sequence[PastRun] = (),
) -> SpeedPrediction | Unavailable:
    """Predict for one token at `depth_tokens` in the KV cache and for a prompt of `prompt_tokens`.

    Own runs of the same model come first; then own runs of others or this machine's calibration, whichever has the
    narrower band; then the figures of the machine as they are. Unavailable where nothing is known of what the model
    would run on.
    """
    time = decode_time(facts, machine, settings, threads=threads, depth_tokens=depth_tokens)
    rates = _Rates(facts, machine, settings, threads, past_runs)
    decode = rates.decode_by_runs(depth_tokens) if isinstance(time, Unavailable) else rates.decode(time, depth_tokens)
    if decode is None:
        return time if isinstance(time, Unavailable) else Unavailable("nothing is known of its speed")
    prefill = rates.prefill(prompt_tokens) if prompt_tokens > 0 else None
    soaked = rates.soaked()
    return SpeedPrediction(
        decode_tokens_per_s=banded(1 / decode.seconds, decode.sigma),
        prefill_tokens_per_s=None if prefill is None else banded(prompt_tokens / prefill.seconds, prefill.sigma),
        first_token_s=None if prefill is None else banded(prefill.seconds + START_S, prefill.sigma),
        basis=decode.basis,
        explanation=decode.explanation + sustained_words(soaked),
        prefill_explanation="" if prefill is None else prefill.explanation,
        limited_by="memory-bandwidth" if isinstance(time, Unavailable) else time.limited_by,
    )


def sustained_words(run: PastRun | None) -> str:
    """What a soak of this model showed."""
    if run is None or run.sustained_tokens_per_s is None:
        return ""
    after = format_duration(run.sustained_after_s or 0.0)
    return f"; kept up {run.sustained_tokens_per_s:.3g} tok/s after {after} of a soak on {run.measured_at[:10]}"


class _Rates:
    """One model with its settings on one machine."""

    def __init__(
        self,
        facts: ModelFacts,
        machine: Machine,
        settings: EngineSettings,
        threads: int,
        past_runs: Sequence[PastRun],
    ) -> None:
        self._facts, self._machine, self._settings, self._threads = facts, machine, settings, threads
        self._on_gpu = offloaded_share(facts, machine, settings) > 0.5
        self._runs = related(
            past_runs,
            facts,
            settings,
            machine_key=machine.key,
            threads=threads,
            gpu_layers=engine_gpu_layers(facts, machine, settings),
        )

    @property
    def _learned_threads(self) -> int:
        return 0 if self._on_gpu else self._threads

    def soaked(self) -> PastRun | None:
        """The newest soak of this model with as many threads."""
        return next((run for run in self._runs.get("same", ()) if run.sustained_tokens_per_s), None)

    def decode(self, time: TokenTime, depth_tokens: int) -> _Rate:
        found = extrapolate(
            self._runs,
            lambda run: 1 / run.decode_tokens_per_s if run.decode_tokens_per_s > 0 else None,
            lambda run, similarity: time.total_s / self._run_decode_s(run, similarity),
        )
        calibrated = corrected(
            time, self._machine.learned, threads=self._learned_threads, family=family_of(self._facts)
        )
        if found is not None and (found.similarity == "same" or calibrated is None or found.sigma <= calibrated.sigma):
            return _Rate(
                seconds=found.value, sigma=found.sigma, basis="own sessions",
                explanation=_extrapolated_words(found, f"extrapolated to a depth of {depth_tokens}"),
            )  # fmt: skip
        words = self._words(time, depth_tokens)
        if calibrated is not None:
            return _Rate(
                seconds=calibrated.total_s, sigma=calibrated.sigma, basis="calibrated",
                explanation=f"{words}; corrected by {calibrated.runs} measured runs of this machine",
            )  # fmt: skip
        return _Rate(seconds=time.total_s, sigma=time.sigma, basis=self._machine.basis, explanation=words)

    def decode_by_runs(self, depth_tokens: int) -> _Rate | None:
        """By own runs alone, where no formula knows the processor: as they were, or by the bytes that are read."""
        found = extrapolate(
            {name: runs for name, runs in self._runs.items() if name != "other threads"},
            lambda run: 1 / run.decode_tokens_per_s if run.decode_tokens_per_s > 0 else None,
            lambda run, similarity: self._size_ratio(run) if similarity == "other size" else 1.0,
        )
        if found is None:
            return None
        return _Rate(
            seconds=found.value, sigma=hypot(found.sigma, _NO_FORMULA_SIGMA), basis="own sessions",
            explanation=_extrapolated_words(found, f"taken for a depth of {depth_tokens} too"),
        )  # fmt: skip

    def prefill(self, prompt_tokens: int) -> _Rate | None:
        predicted = prefill_time(
            self._facts, self._machine, self._settings, threads=self._threads, prompt_tokens=prompt_tokens
        )
        if predicted is None:
            return self._prefill_without_formula(prompt_tokens)
        seconds, sigma = predicted
        found = extrapolate(
            self._runs,
            lambda run: run.prefill_tokens / run.prefill_tokens_per_s if run.prefill_tokens_per_s else None,
            lambda run, similarity: seconds / self._run_prefill_s(run, similarity),
        )
        factor = factor_for(
            self._machine.learned, "prefill", threads=self._learned_threads, family=family_of(self._facts)
        )
        if found is not None and (found.similarity == "same" or factor is None or found.sigma <= factor.sigma):
            return _Rate(
                seconds=found.value, sigma=found.sigma, basis="own sessions",
                explanation=_extrapolated_words(found, f"extrapolated to a prompt of {prompt_tokens} tokens"),
            )  # fmt: skip
        words = f"{2 * self._facts.compute_parameters / 1e9:.3g} billion operations per token"
        if factor is not None:
            return _Rate(
                seconds=seconds * factor.factor, sigma=factor.sigma, basis="calibrated",
                explanation=f"{words}; corrected by {factor.runs} measured runs of this machine",
            )  # fmt: skip
        return _Rate(seconds=seconds, sigma=sigma, basis=self._machine.basis, explanation=words)

    def _prefill_without_formula(self, prompt_tokens: int) -> _Rate | None:
        """Own runs of the same model, by the number of tokens."""
        found = extrapolate(
            {"same": self._runs.get("same", ())},
            lambda run: run.prefill_tokens / run.prefill_tokens_per_s if run.prefill_tokens_per_s else None,
            lambda run, _: prompt_tokens / run.prefill_tokens if run.prefill_tokens else 0.0,
        )
        if found is None:
            return None
        return _Rate(
            seconds=found.value, sigma=found.sigma, basis="own sessions",
            explanation=_extrapolated_words(found, f"extrapolated to a prompt of {prompt_tokens} tokens"),
        )  # fmt: skip

    def _run_decode_s(self, run: PastRun, similarity: Similarity) -> float:
        """What the formulas say of an own run; of another model as of this one, by the bytes it reads.

        Infinite where they say nothing, so that the run teaches nothing.
        """
        threads = run.threads if similarity == "other threads" else self._threads
        time = decode_time(self._facts, self._machine, self._settings, threads=threads, depth_tokens=run.depth_tokens)
        if isinstance(time, Unavailable):
            return float("inf")
        return time.total_s / (self._size_ratio(run) if similarity == "other size" else 1.0)

    def _run_prefill_s(self, run: PastRun, similarity: Similarity) -> float:
        if run.prefill_tokens <= 0:
            return float("inf")
        threads = run.threads if similarity == "other threads" else self._threads
        found = prefill_time(
            self._facts, self._machine, self._settings, threads=threads, prompt_tokens=run.prefill_tokens
        )
        if found is None:
            return float("inf")
        return found[0] / (self._size_ratio(run) if similarity == "other size" else 1.0)

    def _size_ratio(self, run: PastRun) -> float:
        return self._facts.weight_bytes_per_token / (run.weight_bytes_per_token or run.size_bytes)

    def _words(self, time: TokenTime, depth_tokens: int) -> str:
        """The inputs in one line."""
        machine = self._machine
        processor = machine.gpu if self._on_gpu else machine.cpu
        bandwidth = None if processor is None else processor.bandwidth(self._learned_threads)
        rate = "" if bandwidth is None else f" at {bandwidth.value / 1e9:.3g} GB/s"
        with_what = "the GPU" if self._on_gpu else plural(self._threads, "thread")
        return (
            f"{format_bytes(self._facts.weight_bytes_per_token)} of weights per token{rate} and {with_what}, "
            f"attention {time.attention_s / time.total_s:.0%} of the time at a depth of {depth_tokens}; "
            f"{machine.explanation}"
        )


def engine_gpu_layers(facts: ModelFacts, machine: Machine, settings: EngineSettings) -> int:
    """As the engine reports it: 0 without a GPU, all layers where nothing is asked for."""
    if machine.gpu is None:
        return 0
    wanted = settings.n_gpu_layers
    return (facts.n_layer or 0) if wanted is None or wanted < 0 else min(wanted, facts.n_layer or wanted)


def _extrapolated_words(extrapolated: Extrapolated, how: str) -> str:
    return f"{extrapolated.words}, {how}"


SIDE_BY_SIDE_SIGMA = 0.15
"""Of the time of a step for several conversations. It was 2 to 10 % off on a CPU (7B, 2 to 4 conversations: llama.cpp
issue 3478), 3 and 11 % on an RTX 4090 (8B, 16 and 10 tokens at once: pull request 15131), 10 and 22 % with a mixture of
experts on an M2 Ultra (2 and 4: pull request 16894), where each conversation reads experts of its own."""


class SideBySide(Struct, frozen=True, kw_only=True):
    """Several conversations that are answered at once."""

    conversations: int
    each_tokens_per_s: Interval
    together_tokens_per_s: Interval


def side_by_side(speed: SpeedPrediction | Unavailable, compute_s: float, conversations: int) -> SideBySide | None:
    """How fast so many conversations are at once; `None` for one, and where computing several tokens is not known.

    A step reads the weights once, and each further conversation adds what computing its token takes.
    """
    if isinstance(speed, Unavailable) or speed.prefill_tokens_per_s is None or conversations < 2:
        return None
    alone, prompt = speed.decode_tokens_per_s, speed.prefill_tokens_per_s
    added_s = (conversations - 1) * added_token_s(prompt, compute_s)
    step_s = 1 / alone.value + added_s
    sigma = hypot(SIDE_BY_SIDE_SIGMA, sigma_of(alone), sigma_of(prompt) * added_s / step_s)
    return SideBySide(
        conversations=conversations,
        each_tokens_per_s=banded(1 / step_s, sigma),
        together_tokens_per_s=banded(conversations / step_s, sigma),
    )


def added_token_s(prompt_tokens_per_s: Interval, compute_s: float) -> float:
    """What a further token adds to a step that reads the weights once.

    It is computed as in a prompt, or in `compute_s` where that is longer, since few tokens are computed as one is.
    """
    return max(1 / prompt_tokens_per_s.value, compute_s)


class EngineRatio(NamedTuple):
    """How another engine's figures lie to those of llama.cpp on the same devices, with deviations of the logarithms."""

    decode: float
    decode_sigma: float
    joules: float
    joules_sigma: float
    token_s: float = 0.0
    """Each token takes so much longer, whatever the model."""

    def rate(self, decode_tokens_per_s: Interval) -> Interval:
        """What a rate of llama.cpp is in this engine."""
        seconds = 1 / (decode_tokens_per_s.value * self.decode) + self.token_s
        return banded(1 / seconds, max(sigma_of(decode_tokens_per_s), self.decode_sigma))

    def without(self, seconds: float) -> float:
        """The time of a token in llama.cpp that takes so long in this engine."""
        return max(seconds / 2, seconds - self.token_s) * self.decode


OLLAMA = {"cpu": EngineRatio(0.934, 0.191, 1.070, 0.191), "gpu": EngineRatio(1.0, 0.321, 1.407, 0.176, 0.0011)}
"""By what computes; joules on a CPU, which nobody published, follow from the time. `benchmarks/device_fit.py` fits them
to published rows of Ollama: it decodes with a llama.cpp of its own, and computes some models with another program."""


class OllamaPrediction(Struct, frozen=True, kw_only=True):
    """The same model in Ollama."""

    decode_tokens_per_s: Interval
    decode_j_per_token: Interval | None


def in_ollama(
    speed: SpeedPrediction, energy: EnergyPrediction | Unavailable, machine: Machine, *, on_gpu: bool
) -> OllamaPrediction | None:
    """What Ollama makes of a prediction by the device table; `None` of others, which are of the engine that was run.

    It leaves the integrated graphics of most PCs alone: published rows with them have the rates of the processor.
    """
    of_a_pc = machine.features is not None and "AVX2" in machine.features
    if speed.basis != "device table" or (on_gpu and machine.gpu_shares_memory and of_a_pc):
        return None
    ratio = OLLAMA["gpu" if on_gpu else "cpu"]
    joules = None if isinstance(energy, Unavailable) else energy.decode_j_per_token
    return OllamaPrediction(
        decode_tokens_per_s=ratio.rate(speed.decode_tokens_per_s),
        decode_j_per_token=None
        if joules is None
        else banded(joules.value * ratio.joules, max(sigma_of(joules), ratio.joules_sigma)),
    )


_PREFILL_POWER_SIGMA = 0.2
"""A prefill computes more and reads less; where it was never metered, it is taken to draw what decoding does."""

_OTHER_THREADS_SIGMA = 0.2


class EnergyPrediction(Struct, frozen=True, kw_only=True):
    """Joules per token, gross, with a band that holds in 8 cases of 10."""

    decode_j_per_token: Interval
    prefill_j_per_token: Interval | None
    scope: Scope
    """What the joules cover; figures of different scopes cannot be compared."""
    basis: PredictionBasis
    explanation: str

    def answer_j(self, prompt_tokens: int, reply_tokens: int) -> Interval | None:
        """Joules for reading a prompt and writing a reply; `None` where reading cannot be predicted.

        The first token of the reply comes with the prompt. Both parts are taken to be off in the same direction.
        """
        if self.prefill_j_per_token is None:
            return None
        parts = ((self.prefill_j_per_token, prompt_tokens), (self.decode_j_per_token, max(0, reply_tokens - 1)))
        return Interval(
            value=sum(figure.value * count for figure, count in parts),
            low=sum(figure.low * count for figure, count in parts),
            high=sum(figure.high * count for figure, count in parts),
            u_systematic=sum(figure.u_systematic * count for figure, count in parts),
            u_random=0.0,
        )


def predict_energy(
    facts: ModelFacts,
    machine: Machine,
    speed: SpeedPrediction,
    *,
    settings: EngineSettings,
    threads: int,
    depth_tokens: int,
    past_runs: Sequence[PastRun] = (),
) -> EnergyPrediction | Unavailable:
    """Predict for the speed that was predicted. Unavailable where no power of this machine has ever been seen."""
    runs = _metered_runs(facts, machine, settings, threads, past_runs)
    own = _from_runs(runs, speed, depth_tokens)
    if own is not None:
        return own
    power = machine.power
    on_gpu = offloaded_share(facts, machine, settings) > 0.5
    decode_w = None if power is None else power.decoding(0 if on_gpu else threads)
    if power is None or decode_w is None:
        return Unavailable(
            f"no power of {machine.name} has been recorded, and the device table has none",
            f"run the model once with a power source: {EXTERNAL_METER}",
        )
    decode_s = speed.decode_tokens_per_s
    # Watts that come with the clocks, and joules that come with each multiplication: small models draw less.
    decode_w = banded(decode_w.value + power.weight_j * facts.compute_parameters * decode_s.value, sigma_of(decode_w))
    prefill_w = power.prefill_w or banded(decode_w.value, hypot(sigma_of(decode_w), _PREFILL_POWER_SIGMA))
    decode_j = _over(decode_w, decode_s)
    return EnergyPrediction(
        # A band that was found for joules themselves is for the speed of the table, not for own runs.
        decode_j_per_token=decode_j
        if power.token_sigma is None or speed.basis != "device table"
        else banded(decode_j.value, power.token_sigma),
        prefill_j_per_token=None
        if speed.prefill_tokens_per_s is None
        else _over(prefill_w, speed.prefill_tokens_per_s),
        scope=power.scope,
        basis="device table",
        explanation=(
            f"{decode_w.value:.3g} W while decoding ({power.meter or power.scope}), "
            f"at the speed predicted for a depth of {depth_tokens}"
        ),
    )


def _metered_runs(
    facts: ModelFacts, machine: Machine, settings: EngineSettings, threads: int, past_runs: Sequence[PastRun]
) -> Runs:
    """The related runs with the widest scope that was metered."""
    metered = [run for run in past_runs if run.decode_j_per_token and run.energy_scope]
    scope = next((scope for scope in WIDEST_FIRST if any(run.energy_scope == scope for run in metered)), None)
    return related(
        [run for run in metered if run.energy_scope == scope],
        facts,
        settings,
        machine_key=machine.key,
        threads=threads,
        gpu_layers=engine_gpu_layers(facts, machine, settings),
    )


def _from_runs(runs: Runs, speed: SpeedPrediction, depth_tokens: int) -> EnergyPrediction | None:
    """Own power times the predicted time: power hardly depends on the depth, the time does."""
    decode_w = _widened(extrapolate(runs, _decode_w, _unchanged))
    if decode_w is None or decode_w.runs[0].energy_scope is None:
        return None
    prefill_w = _widened(extrapolate(runs, _prefill_w, _unchanged))
    return EnergyPrediction(
        decode_j_per_token=_over(banded(decode_w.value, decode_w.sigma), speed.decode_tokens_per_s),
        prefill_j_per_token=_own_prefill(prefill_w, decode_w, speed),
        scope=decode_w.runs[0].energy_scope,
        basis="own sessions",
        explanation=(
            f"{decode_w.value:.3g} W while decoding, from {decode_w.words}, "
            f"at the speed predicted for a depth of {depth_tokens}"
        ),
    )


def _own_prefill(prefill_w: Extrapolated | None, decode_w: Extrapolated, speed: SpeedPrediction) -> Interval | None:
    if speed.prefill_tokens_per_s is None:
        return None
    if prefill_w is not None:
        return _over(banded(prefill_w.value, prefill_w.sigma), speed.prefill_tokens_per_s)
    return _over(banded(decode_w.value, hypot(decode_w.sigma, _PREFILL_POWER_SIGMA)), speed.prefill_tokens_per_s)


def _widened(power_w: Extrapolated | None) -> Extrapolated | None:
    """Power with another number of threads is known less well than speed, which the formulas carry over."""
    if power_w is None or power_w.similarity != "other threads":
        return power_w
    return replace(power_w, sigma=hypot(power_w.sigma, _OTHER_THREADS_SIGMA))


def _decode_w(run: PastRun) -> float | None:
    return None if run.decode_j_per_token is None else run.decode_j_per_token * run.decode_tokens_per_s


def _prefill_w(run: PastRun) -> float | None:
    if run.prefill_j_per_token is None or run.prefill_tokens_per_s is None:
        return None
    return run.prefill_j_per_token * run.prefill_tokens_per_s


def _unchanged(_: PastRun, __: Similarity) -> float:
    return 1.0


def _over(power_w: Interval, tokens_per_s: Interval) -> Interval:
    """Joules per token. Faster runs draw more, so that the errors partly cancel; they are added anyway."""
    sigma = hypot(sigma_of(power_w), sigma_of(tokens_per_s))
    return banded(power_w.value / tokens_per_s.value, sigma)
