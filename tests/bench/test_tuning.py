"""Which setting is chosen, from costs that are known."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import pytest

from edgetop.bench.plan import ModelFile, Setting, TokenTest
from edgetop.bench.tuning import (
    Lengths,
    NothingMeasuredError,
    Probe,
    Sample,
    Stage,
    StageResult,
    answers,
    choose,
    lengths_for,
    thread_counts,
)

MODEL = ModelFile(path="/models/a.gguf", label="a")
TEST = TokenTest(n_gen=32)


class Device:
    """Costs with noise, by number of threads; what is asked of it is noted."""

    def __init__(self, costs: Mapping[int, float], *, noise: float = 0.01, seed: int = 1) -> None:
        self.rounds: list[list[int]] = []
        self.disturbed: set[tuple[int, int]] = set()
        """Threads and round: ten times the cost."""
        self.failing: set[int] = set()
        self._costs = costs
        self._noise = noise
        self._random = random.Random(seed)  # noqa: S311 - the same every time

    def measure(self, settings: Sequence[Setting], test: TokenTest, number: int) -> Mapping[str, Sample | str]:
        self.rounds.append([setting.threads or 0 for setting in settings])
        return {setting.key: self._sample(setting.threads or 0, number) for setting in settings}

    def _sample(self, threads: int, number: int) -> Sample | str:
        if threads in self.failing:
            return "it was killed"
        disturbed = (threads, number) in self.disturbed
        cost = self._costs[threads] * self._random.lognormvariate(0, self._noise) * (10 if disturbed else 1)
        return Sample(cost=cost, disturbed=disturbed)


def stage(*threads: int) -> Stage:
    return Stage(name="threads", test=TEST, candidates=tuple(Setting(model=MODEL, threads=count) for count in threads))


def chosen(device: Device, *threads: int, rounds: int = 5) -> StageResult:
    return choose(stage(*threads), rounds, device.measure)


def test_the_least_cost_is_chosen_and_the_hopeless_are_left_out_early() -> None:
    device = Device({1: 1.0, 2: 0.5, 4: 0.3, 8: 0.9})
    result = chosen(device, 1, 2, 4, 8)
    assert result.chosen.threads == 4
    assert result.reason == "it is the best"
    assert [len(order) for order in device.rounds] == [4, 4]
    assert [standing.left_out_after for standing in result.results] == [2, 2, None, 2]


def test_candidates_take_turns_and_every_second_round_goes_backwards() -> None:
    device = Device({1: 0.30, 2: 0.30, 4: 0.30})
    chosen(device, 1, 2, 4, rounds=3)
    assert device.rounds == [[1, 2, 4], [4, 2, 1], [1, 2, 4]]


def test_what_is_as_good_within_noise_is_chosen_in_the_order_of_preference() -> None:
    for seed in range(20):
        result = chosen(Device({1: 0.9, 2: 0.301, 4: 0.300}, seed=seed), 1, 2, 4)
        assert result.chosen.threads == 2
    assert "within noise" in result.reason or "as good" in result.reason


def test_a_real_difference_is_not_taken_for_noise() -> None:
    for seed in range(20):
        assert chosen(Device({1: 0.33, 2: 0.30}, seed=seed), 1, 2).chosen.threads == 2


def test_however_noisy_a_large_difference_is_not_given_away() -> None:
    assert chosen(Device({1: 0.6, 2: 0.3}, noise=0.6, seed=5), 1, 2, rounds=2).chosen.threads == 2


def test_one_disturbed_repetition_costs_a_candidate_nothing() -> None:
    device = Device({1: 0.6, 2: 0.3})
    device.disturbed = {(2, 1)}
    assert chosen(device, 1, 2).chosen.threads == 2


def test_what_cannot_be_measured_is_left_out_and_told() -> None:
    device = Device({1: 0.6, 2: 0.3})
    device.failing = {2}
    result = chosen(device, 1, 2)
    assert result.chosen.threads == 1
    assert [standing.failure for standing in result.results] == ["", "it was killed"]
    device.failing = {1, 2}
    with pytest.raises(NothingMeasuredError, match="it was killed"):
        chosen(device, 1, 2)


def test_a_single_candidate_is_measured_once() -> None:
    device = Device({1: 0.6})
    result = chosen(device, 1)
    assert len(device.rounds) == 1
    assert result.reason == "there is nothing else to choose from"


def test_every_number_of_threads_of_a_small_device_is_tried() -> None:
    assert thread_counts(4, 4) == (1, 2, 3, 4)
    assert thread_counts(2, 4) == (1, 2, 4)
    assert thread_counts(24, 48) == (1, 2, 4, 8, 16, 24, 48)
    assert thread_counts(1, 1) == (1,)


def test_tests_are_as_long_as_wanted_within_bounds() -> None:
    assert lengths_for(Probe(prefill_tokens_per_s=100, decode_tokens_per_s=24), test_s=2) == Lengths(
        n_prompt=192, n_gen=48
    )
    assert lengths_for(Probe(prefill_tokens_per_s=5, decode_tokens_per_s=1), test_s=2) == Lengths(n_prompt=64, n_gen=16)
    assert lengths_for(Probe(prefill_tokens_per_s=1e5, decode_tokens_per_s=1e4), test_s=2) == Lengths(
        n_prompt=512, n_gen=128
    )


def test_each_question_begins_with_the_answers_before_it() -> None:
    """A device on which 2 threads decode best, 4 prefill best, pieces of 256 are best and q8_0 is slower."""

    def measure(settings: Sequence[Setting], test: TokenTest, _number: int) -> dict[str, Sample | str]:
        def cost(setting: Setting) -> float:
            if test.n_gen:
                decode = {1: 1.0, 2: 0.5, 4: 0.8}[setting.threads or 0]
                decode *= 0.8 if setting.cpu_mask else 1.0
                decode *= 0.7 if setting.flash_attn == "off" else 1.0
                return decode * (1.3 if setting.kv_type == "q8_0" else 1.0)
            prefill = {2: 1.0, 4: 0.5}[setting.threads_batch or 0]
            return prefill * {None: 1.2, 128: 1.5, 256: 1.0, 512: 1.2}[setting.ubatch]

        return {setting.key: Sample(cost=cost(setting)) for setting in settings}

    start = Setting(model=MODEL)
    found = list(answers(start, (1, 2, 4), Lengths(n_prompt=512, n_gen=32), 3, measure))
    assert [result.stage.name for result in found] == [
        "threads", "prefill threads", "ubatch", "flash attention", "kv cache",
    ]  # fmt: skip
    assert found[-1].chosen == Setting(
        model=MODEL, threads=2, threads_batch=4, ubatch=256, kv_type="f16", flash_attn="off"
    )
    short = answers(start, (1, 2, 4), Lengths(n_prompt=64, n_gen=32), 3, measure)
    assert [result.stage.name for result in short] == ["threads", "prefill threads", "flash attention", "kv cache"]
    clusters = list(answers(start, (1, 2, 4), Lengths(n_prompt=64, n_gen=32), 3, measure, fast_mask="f0"))
    assert [result.stage.name for result in clusters][:2] == ["threads", "cores"]
    assert clusters[-1].chosen.cpu_mask == "f0", "the fast cores, as they are faster"
    few = answers(start, (1, 2, 4), Lengths(n_prompt=64, n_gen=32), 3, measure, fast_mask="10")
    assert "cores" not in [result.stage.name for result in few], "two threads do not fit on one core"


def test_a_small_cache_needs_flash_attention() -> None:
    def measure(settings: Sequence[Setting], _test: TokenTest, _number: int) -> dict[str, Sample | str]:
        def answer(setting: Setting) -> Sample | str:
            if setting.flash_attn == "off" and setting.kv_type != "f16":
                return "it could not be loaded"
            return Sample(cost=0.5 if setting.flash_attn == "off" else 1.0)

        return {setting.key: answer(setting) for setting in settings}

    found = list(answers(Setting(model=MODEL), (1,), Lengths(n_prompt=64, n_gen=32), 2, measure))
    assert (found[-1].chosen.flash_attn, found[-1].chosen.kv_type) == ("off", "f16")
