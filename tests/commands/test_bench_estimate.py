"""What a plan will take, from what is expected of its settings."""

from __future__ import annotations

import msgspec
import pytest

from edgetop.bench.plan import LOOK_S, CoolDown, PromptTest, QualityPlan, TokenTest, runs_of
from edgetop.commands.bench_plan import (
    REST_WITHOUT_POWER_S,
    RUN_OVERHEAD_S,
    SESSION_BYTES_PER_S,
    SETTLE_S,
    Expected,
    estimate,
)
from tests.bench.test_plan import plan

EXPECTED = Expected(prefill_tokens_per_s=100.0, decode_tokens_per_s=10.0, load_s=3.0, memory_bytes=2**30, fits=True)
SMALL = plan(2, tests=(TokenTest(n_prompt=500), TokenTest(n_gen=100, depth=1000)), warmup=False)
TESTS_S = 5 + 10 + 10


def test_the_time_is_that_of_loading_resting_and_all_tests() -> None:
    expected = {setting.key: EXPECTED for setting in SMALL.settings}
    found = estimate(SMALL, runs_of(SMALL), expected, has_power=False)
    assert found.runs == 12
    run_s = RUN_OVERHEAD_S + 3.0 + REST_WITHOUT_POWER_S + TESTS_S
    assert found.duration_s == pytest.approx(12 * run_s)
    assert found.session_bytes == round(12 * run_s * SESSION_BYTES_PER_S)
    assert found.memory_bytes == 2**30
    powered = estimate(SMALL, runs_of(SMALL), expected, has_power=True)
    rested_s = 6 * 2 * CoolDown().idle_s + 6 * (REST_WITHOUT_POWER_S + LOOK_S)
    assert powered.duration_s == pytest.approx(rested_s + 12 * (RUN_OVERHEAD_S + 3.0 + 2 * SETTLE_S + TESTS_S))
    warm = msgspec.structs.replace(SMALL, warmup=True)
    assert estimate(warm, runs_of(warm), expected, has_power=False).duration_s == pytest.approx(12 * (run_s + 5 + 0.8))


def test_a_setting_of_unknown_speed_leaves_the_time_unknown_and_is_named() -> None:
    expected = {SMALL.settings[0].key: EXPECTED}
    found = estimate(SMALL, runs_of(SMALL), expected, has_power=False)
    assert found.duration_s is None
    assert found.unknown == tuple(setting.key for setting in SMALL.settings[1:])


def test_what_does_not_fit_is_named() -> None:
    expected = {setting.key: msgspec.structs.replace(EXPECTED, fits=False) for setting in SMALL.settings[:2]}
    assert estimate(SMALL, runs_of(SMALL), expected, has_power=False).too_large == ("a t1", "a t2")


def test_prompts_and_scores_take_their_time_too() -> None:
    prompts = plan(1, settings=SMALL.settings[:1], tests=(PromptTest(title="x", prompts=("a" * 400,), max_tokens=50),))
    prompts = msgspec.structs.replace(prompts, warmup=False, quality=QualityPlan(text="a" * 40_000, questions=False))
    expected = {setting.key: EXPECTED for setting in prompts.settings}
    alone = estimate(prompts, runs_of(prompts), expected, has_power=False)
    alone_s = RUN_OVERHEAD_S + 3.0 + REST_WITHOUT_POWER_S + 1 + 5
    assert alone.duration_s == pytest.approx(alone_s)
    model = prompts.settings[0].model
    scored = estimate(prompts, runs_of(prompts), expected, has_power=False, unscored=[model])
    assert scored.duration_s == pytest.approx(alone_s + RUN_OVERHEAD_S + 3.0 + 100)
    assert estimate(prompts, [], {}, has_power=False, unscored=[model]).unknown == ("a t1",)
