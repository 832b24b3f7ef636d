"""Whether the intervals of `edgetop bench` hold what they promise, and what interleaving is good for.

    python -m benchmarks.bench_statistics [--plans 20000] [--seed 1]

Simulations with known truth. First: how often the 95 % interval of a mean covers the true one, for 3, 5 and 10
repetitions with noise of 3 % that is normal or skewed (lognormal); the goal is at least 94 %. The same for energies,
where the sensor's gain is off as well. Then: a device that slows down steadily by 10 % while a plan of several equal
settings is carried out; how far apart they seem to be when they take their turns (interleaved) and when each does all
its repetitions at once (blocks), and how often the first is then wrongly told apart from the last.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from math import log
from statistics import fmean

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from benchmarks import run_benchmark
from edgetop.bench.plan import BenchRequest, ModelFile, Order, Plan, TokenTest, runs_of, settings_of
from edgetop.bench.results import combined, interval_of
from edgetop.core.quantity import Interval
from edgetop.core.statistics import welch_difference

Array = NDArray[np.float64]
Noise = Callable[[np.random.Generator, int], Array]
NOISE = 0.03
TRUTH = 20.0
DRIFT = 0.10
COVERED_AT_LEAST = 0.94
NOISES: dict[str, Noise] = {
    "normal": lambda chance, count: TRUTH * (1 + chance.normal(0, NOISE, count)),
    "lognormal": lambda chance, count: TRUTH * np.exp(chance.normal(-(NOISE**2) / 2, NOISE, count)),
}


class Drifted(Struct, frozen=True, kw_only=True):
    """What a steady drift makes of settings that are equal."""

    apart: float
    """Largest difference between the settings' means, as a share of the truth, in the mean of the plans."""
    bias: float
    """Last setting's mean over the first one's, less 1, in the mean of the plans: noise cancels, drift does not."""
    false_alarms: float
    """Share of plans in which the first and the last setting are told apart at 5 %."""


def coverage(noise: Noise, repetitions: int, plans: int, chance: np.random.Generator) -> float:
    """Share of the intervals that hold the true mean."""
    covered = 0
    for _ in range(plans):
        interval = interval_of(noise(chance, repetitions).tolist())
        assert interval.low is not None  # noqa: S101 - of several repetitions
        assert interval.high is not None  # noqa: S101 - the same
        covered += interval.low <= TRUTH <= interval.high
    return covered / plans


def energy_coverage(noise: Noise, repetitions: int, gain: float, plans: int, chance: np.random.Generator) -> float:
    """The same for energies of a sensor whose gain is off by at most `gain`, in all repetitions alike."""
    covered = 0
    u_systematic = TRUTH * gain / 3**0.5
    for _ in range(plans):
        factor = 1 + chance.uniform(-gain, gain)
        figures = [_figure(value * factor, u_systematic, TRUTH * NOISE / 10) for value in noise(chance, repetitions)]
        found = combined(figures)
        covered += found.low <= TRUTH <= found.high
    return covered / plans


def drifted(order: Order, settings: int, repetitions: int, plans: int, chance: np.random.Generator) -> Drifted:
    """Carry out plans of settings that are all equal on a device that slows down steadily by DRIFT."""
    models = [ModelFile(path=f"/{number}", label=str(number)) for number in range(settings)]
    plan = Plan(
        name="drift",
        settings=settings_of(models, BenchRequest()),
        tests=(TokenTest(n_gen=1),),
        repetitions=repetitions,
        order=order,
    )
    runs = runs_of(plan)
    places: dict[str, list[int]] = {setting.key: [] for setting in plan.settings}
    at = 0
    for run in runs:
        places[run.setting.key] += range(at, at + run.repetitions)
        at += run.repetitions
    share = np.arange(at) / (at - 1)
    apart, ratios, alarms = 0.0, 0.0, 0
    for _ in range(plans):
        rates = TRUTH * (1 - DRIFT * share) * np.exp(chance.normal(0, NOISE, at))
        of_settings = [rates[places[setting.key]].tolist() for setting in plan.settings]
        means = [fmean(values) for values in of_settings]
        apart += (max(means) - min(means)) / TRUTH
        ratios += means[-1] / means[0] - 1
        alarms += _with_distinct_labels(of_settings[0], of_settings[-1])
    return Drifted(apart=apart / plans, bias=ratios / plans, false_alarms=alarms / plans)


def _with_distinct_labels(first: Sequence[float], second: Sequence[float]) -> bool:
    """As `edgetop.bench.conclusions` does it for two settings."""
    spreads = []
    for values in (first, second):
        interval = interval_of(values)
        spreads.append(((interval.deviation or 0.0) / interval.mean / len(values) ** 0.5, float(len(values) - 1)))
    return welch_difference(log(fmean(first) / fmean(second)), *spreads).p_value < 1 - 0.95


def _figure(value: float, u_systematic: float, u_random: float) -> Interval:
    reach = 2 * (u_systematic**2 + u_random**2) ** 0.5
    return Interval(value=value, low=value - reach, high=value + reach, u_systematic=u_systematic, u_random=u_random)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--plans", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    chance = np.random.default_rng(options.seed)
    begin_s = time.monotonic()
    print(f"coverage of the 95 % interval of a mean, noise {NOISE:.0%}, {options.plans} plans")
    for name, noise in NOISES.items():
        for repetitions in (3, 5, 10):
            covered = coverage(noise, repetitions, options.plans, chance)
            energy = energy_coverage(noise, repetitions, 0.05, options.plans, chance)
            print(f"  {name:10} {repetitions:3} repetitions  speed {covered:.2%}  energy, gain ±5 % {energy:.2%}")
    print(f"equal settings on a device that slows down by {DRIFT:.0%}, {options.plans // 10} plans")
    for settings, repetitions in ((2, 5), (6, 3), (6, 5), (6, 10)):
        for order in ("interleaved", "blocks"):
            found = drifted(order, settings, repetitions, options.plans // 10, chance)
            print(
                f"  {settings} settings {repetitions:3} repetitions  {order:11}  last over first {found.bias:+.2%}"
                f"  apart {found.apart:.2%}  first and last wrongly told apart {found.false_alarms:.1%}"
            )
    print(f"{time.monotonic() - begin_s:.0f} s")


if __name__ == "__main__":
    run_benchmark(main)
