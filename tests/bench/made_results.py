"""Results put together by hand, for the tests of what is said of them."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

from edgetop.bench import results
from edgetop.bench.plan import ModelFile, Setting, TokenTest
from edgetop.bench.results import PlanResult, Repetition, SettingResult, result_of_test
from edgetop.core.figures import J_PER_TOKEN
from edgetop.core.quantity import Interval
from edgetop.core.records import DeviceInfo, LoadEntry, Quality, Score
from tests.support.recorded_sessions import LOADED

PP, TG = TokenTest(n_prompt=512), TokenTest(n_gen=128)
LOAD = LoadEntry(
    t_us=0, load_s=0.5, model=LOADED.model, engine=LOADED.engine, settings=LOADED.settings, memory=LOADED.memory
)


def figure(value: float, u_random: float = 0.0, u_systematic: float = 0.0) -> Interval:
    reach = 2 * sqrt(u_random**2 + u_systematic**2)
    return Interval(value=value, low=value - reach, high=value + reach, u_systematic=u_systematic, u_random=u_random)


def measured(test: TokenTest, rates: Sequence[float], energies_j: Sequence[float] | None = None) -> results.TestResult:
    """A test with these rates, and the energies of each token."""
    energies = [None] * len(rates) if energies_j is None else [figure(value) for value in energies_j]
    tokens = test.n_prompt + test.n_gen
    return result_of_test(
        test,
        [
            Repetition(
                round=number,
                tokens_per_s=rate,
                duration_ns=round(1e9 * tokens / rate),
                figures={} if energy is None else {J_PER_TOKEN: energy},
                energy_source="" if energy is None else "power.board",
                energy_missing="" if energy is not None else "this board has no power sensor",
            )
            for number, (rate, energy) in enumerate(zip(rates, energies, strict=True), 1)
        ],
    )


def quality(perplexity: float, *, reference: str = "") -> Quality:
    return Quality(
        text="built-in",
        text_digest="0" * 64,
        n_ctx=512,
        tokens=1000,
        perplexity=Score(value=perplexity, error=0.1),
        reference=reference,
        kl_divergence=Score(value=0.05, error=0.001) if reference else None,
        top_agreement=0.93 if reference else None,
        questions=40,
        accuracy=Score(value=0.8, error=0.06),
    )


def of_setting(
    label: str, *tests: results.TestResult, threads: int | None = 2, scores: Quality | None = None
) -> SettingResult:
    setting = Setting(model=ModelFile(path=f"/models/{label}.gguf", label=label), threads=threads)
    return SettingResult(
        setting=setting,
        load=LOAD,
        tests=tests,
        quality=scores,
        energy_scope="board_input",
        energy_source="power.board",
        measured_at="2026-10-12T14:03:22.500+00:00",
        sessions=(f"/data/{label}.json",),
    )


def plan_result(*settings: SettingResult, power_mode: str = "") -> PlanResult:
    device = DeviceInfo(hostname="pi", model="Raspberry Pi 5", cpu="Cortex-A76", power_mode=power_mode)
    return PlanResult(name="made", identity="0123456789ab", device=device, settings=settings)
