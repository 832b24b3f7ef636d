"""Which runs a plan has, and in which order."""

from __future__ import annotations

from statistics import fmean

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from edgetop.bench.plan import (
    MARGIN_TOKENS,
    BenchRequest,
    ModelFile,
    Plan,
    PromptTest,
    TokenTest,
    engine_settings,
    runs_of,
    settings_of,
    token_tests,
)
from edgetop.bench.prompts import prompt_tests, reading_text

MODELS = tuple(ModelFile(path=f"/models/{name}.gguf", label=name) for name in ("a", "b", "c"))


def plan(repetitions: int = 4, **changes: object) -> Plan:
    settings = settings_of(MODELS, BenchRequest(threads=(1, 2)))
    made = Plan(name="test", settings=settings, tests=token_tests(BenchRequest()), repetitions=repetitions)
    return msgspec.structs.replace(made, **changes)


def test_settings_are_all_combinations_and_say_which_they_are() -> None:
    request = BenchRequest(threads=(1, 4), kv_type=("f16", "q8_0"))
    assert [setting.key for setting in settings_of(MODELS[:2], request)] == [
        "a t1", "a t1 kv q8_0", "a t4", "a t4 kv q8_0", "b t1", "b t1 kv q8_0", "b t4", "b t4 kv q8_0",
    ]  # fmt: skip


def test_tests_are_named_as_llama_bench_names_them() -> None:
    tests = token_tests(BenchRequest(n_prompt=(512, 0), n_depth=(0, 4096), pairs=((64, 32),)))
    assert [test.name for test in tests] == [
        "pp512", "tg128", "pp64+tg32", "pp512@d4096", "tg128@d4096", "pp64+tg32@d4096",
    ]  # fmt: skip


@given(st.integers(2, 9))
def test_interleaved_runs_share_a_steady_drift_alike(half: int) -> None:
    """With an even number of rounds every setting stands, in the mean, at the same place of the whole."""
    runs = runs_of(plan(2 * half))
    places = {setting.key: [at for at, run in enumerate(runs) if run.setting == setting] for setting in plan().settings}
    assert {len(at) for at in places.values()} == {2 * half}
    assert len({fmean(at) for at in places.values()}) == 1
    in_blocks = runs_of(plan(2 * half, order="blocks"))
    assert [run.repetitions for run in in_blocks] == [2 * half] * 6, "a block has the drift of its time"


def test_a_single_setting_is_loaded_once() -> None:
    runs = runs_of(plan(settings=settings_of(MODELS[:1], BenchRequest())))
    assert [(run.round, run.repetitions) for run in runs] == [(1, 4)]


def test_the_context_holds_the_largest_test_and_is_the_same_for_all() -> None:
    tests = (TokenTest(n_prompt=512, n_gen=128, depth=4096), PromptTest(title="x", prompts=("a" * 400,), max_tokens=50))
    deep = plan(tests=tests)
    assert deep.n_ctx >= 512 + 128 + 4096 + MARGIN_TOKENS
    assert deep.n_ctx % 256 == 0
    settings = engine_settings(deep.settings[1], deep.n_ctx)
    assert (settings.n_threads, settings.n_ctx) == (2, deep.n_ctx)


def test_a_plan_is_known_again_by_what_it_says() -> None:
    assert plan().identity == plan().identity
    assert plan().identity != plan(3).identity
    again = msgspec.json.decode(msgspec.json.encode(plan(tests=prompt_tests())), type=Plan)
    assert again == plan(tests=prompt_tests())


def test_the_built_in_prompts_are_of_five_kinds() -> None:
    tests = prompt_tests()
    assert [test.name for test in tests] == [
        "prompt:short", "prompt:long", "prompt:summary", "prompt:code", "prompt:turns",
    ]  # fmt: skip
    assert len(tests[-1].prompts) == 3
    assert all(test.max_tokens <= 16 for test in prompt_tests(16))
    assert reading_text().isprintable() is False, "it has paragraphs"
    assert 1500 < len(reading_text().split()) < 2500
