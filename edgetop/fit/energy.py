"""Predicted joules per token."""

from __future__ import annotations

from collections.abc import Sequence
from math import hypot

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.energy.scopes import WIDEST_FIRST
from edgetop.core.engine_settings import EngineSettings
from edgetop.core.prediction import PastRun
from edgetop.core.quantity import Interval, banded, sigma_of
from edgetop.core.sources import OUTSIDE, Scope, Unavailable
from edgetop.fit.learning import Extrapolated, Runs, Similarity, extrapolate, related
from edgetop.fit.machine import Machine, PredictionBasis
from edgetop.fit.model_facts import ModelFacts
from edgetop.fit.speed import SpeedPrediction, engine_gpu_layers
from edgetop.fit.token_time import offloaded_share

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
            f"run the model once with a power source: {OUTSIDE}",
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
