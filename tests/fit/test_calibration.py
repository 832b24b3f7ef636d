from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from edgetop.core.engine_settings import EngineSettings
from edgetop.core.sources import Unavailable
from edgetop.fit.learning import FAMILY_RUNS, RUNS_MAX, TimingSample, corrected, factor_for, kept, learn, run_of
from edgetop.fit.machine import TokenTime
from tests.fit.test_speed import MACHINE
from tests.support.example_machine import llama_facts

FACTS = llama_facts()


def run(
    measured_s: float, *, threads: int = 2, family: str = "q8_0", weights_s: float = 1.0, attention_s: float = 0.0
) -> TimingSample:
    return TimingSample(
        measured_at="2026-05-01T08:00:00+00:00", threads=threads, family=family, weights_s=weights_s,
        attention_s=attention_s, measured_s=measured_s,
    )  # fmt: skip


def time(weights_s: float = 1.0, attention_s: float = 0.0) -> TokenTime:
    return TokenTime(weights_s=weights_s, attention_s=attention_s, read_s=1.0, compute_s=0.5, sigma=0.2)


def test_the_factor_is_the_median_of_measured_over_predicted() -> None:
    learned = learn([run(1.1), run(1.2), run(1.3)])
    found = factor_for(learned, "weights", threads=2, family="q4_0")
    assert found is not None
    assert found.factor == pytest.approx(1.2)


def test_one_disturbed_run_changes_little() -> None:
    learned = learn([*[run(1.2) for _ in range(6)], run(4.5)])
    found = factor_for(learned, "weights", threads=2, family="")
    assert found is not None
    assert found.factor == pytest.approx(1.2)
    assert found.sigma < 0.15


def test_a_family_has_its_own_factor_once_there_are_enough_runs_of_it() -> None:
    others = [run(1.0, family="f16") for _ in range(4)]
    few = learn([*others, *[run(2.0, family="q4_0") for _ in range(FAMILY_RUNS - 1)]])
    enough = learn([*others, *[run(2.0, family="q4_0") for _ in range(FAMILY_RUNS)]])
    assert _factor(few, family="q4_0") == pytest.approx(1.0)
    assert _factor(enough, family="q4_0") == pytest.approx(2.0)


def test_another_number_of_threads_borrows_the_nearest_factor_with_a_wider_band() -> None:
    learned = learn([run(1.5, threads=2), run(3.0, threads=8)])
    own, borrowed = (factor_for(learned, "weights", threads=threads, family="") for threads in (2, 3))
    assert own is not None
    assert borrowed is not None
    assert borrowed.factor == pytest.approx(1.5)
    assert borrowed.sigma > own.sigma


def test_a_gpu_and_the_cpu_do_not_teach_each_other() -> None:
    learned = learn([run(1.5, threads=0)])
    assert factor_for(learned, "weights", threads=1, family="") is None
    assert factor_for(learned, "weights", threads=0, family="") is not None


def test_deep_runs_teach_of_the_attention_apart_from_the_weights() -> None:
    learned = learn([run(1.2), run(1.2 + 2 * 0.8, attention_s=2.0)])
    deep = corrected(time(attention_s=4.0), learned, threads=2, family="q8_0")
    assert deep is not None
    assert deep.total_s == pytest.approx(1.2 + 4 * 0.8)


def test_without_a_deep_run_the_attention_keeps_its_band() -> None:
    learned = learn([run(1.2)])
    shallow = corrected(time(), learned, threads=2, family="q8_0")
    deep = corrected(time(attention_s=9.0), learned, threads=2, family="q8_0")
    assert shallow is not None
    assert deep is not None
    assert deep.sigma > shallow.sigma
    assert deep.sigma == pytest.approx(0.2, abs=0.02)


def test_more_runs_make_a_narrower_band() -> None:
    sigmas = []
    for count in (1, 4, 16):
        found = factor_for(learn([run(1.2)] * count), "weights", threads=2, family="")
        assert found is not None
        sigmas.append(found.sigma)
    assert sigmas == sorted(sigmas, reverse=True)


def test_a_new_measurement_of_the_bandwidth_does_not_change_what_is_predicted() -> None:
    """Of 1 s that were predicted for 10 GB/s, reading took 0.8 s; measured were 1.5 s."""
    old = replace(run(1.5), bandwidth_bytes_per_s=10e9, read_s=0.8)
    now = 0.8 * 10 / 16 + 0.2  # the same model by 16 GB/s
    learned = learn([old], {1: 9e9, 2: 16e9})
    found = corrected(time(weights_s=now), learned, threads=2, family="q8_0")
    assert found is not None
    assert found.total_s == pytest.approx(1.5)


@pytest.mark.parametrize("measured_s", [0.0, -1.0, math.nan, math.inf, 1000.0])
def test_runs_that_make_no_sense_teach_nothing(measured_s: float) -> None:
    assert learn([run(measured_s)]) == ()


def test_runs_beside_other_formulas_teach_nothing() -> None:
    assert learn([replace(run(1.5), formulas=0)]) == ()


def test_nothing_learned_corrects_nothing() -> None:
    assert corrected(time(), (), threads=2, family="") is None


def test_a_bench_is_kept_beside_what_the_formulas_say() -> None:
    found = run_of(
        FACTS, MACHINE, EngineSettings(), threads=2, depth_tokens=0, decode_tokens_per_s=2.0, prompt_tokens=64,
        prefill_tokens_per_s=50.0, measured_at="2026-05-01",
    )  # fmt: skip
    assert isinstance(found, TimingSample)
    assert (found.family, found.threads, found.measured_s, found.prefill_measured_s) == ("q8_0", 2, 0.5, 0.02)
    assert found.read_s == pytest.approx(FACTS.weight_bytes_per_token / 16e9)
    assert found.bandwidth_bytes_per_s == 16e9
    assert found.weights_s > found.read_s
    assert found.prefill_s is not None


def test_a_bench_without_a_rate_teaches_nothing() -> None:
    found = run_of(
        FACTS, MACHINE, EngineSettings(), threads=2, depth_tokens=0, decode_tokens_per_s=math.nan, measured_at=""
    )
    assert isinstance(found, Unavailable)


def test_the_newest_runs_are_kept() -> None:
    runs = [replace(run(1.0), measured_at=f"2026-05-01T08:{number:04}") for number in range(RUNS_MAX + 20)]
    assert [each.measured_at for each in kept(reversed(runs))] == [each.measured_at for each in runs[20:]]


@given(st.lists(st.floats(0.3, 4.0), min_size=1, max_size=20))
def test_what_was_learned_lies_among_the_runs(measured_s: list[float]) -> None:
    factor = _factor(learn([run(each) for each in measured_s]))
    assert min(measured_s) <= factor <= max(measured_s)


def _factor(learned: tuple[object, ...], *, family: str = "") -> float:
    found = factor_for(learned, "weights", threads=2, family=family)  # type: ignore[arg-type]
    assert found is not None
    return found.factor
