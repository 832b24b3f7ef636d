"""Which runs a plan has, and in which order."""

from __future__ import annotations

from statistics import fmean

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetop.bench.plan import (
    DEVICE_AXES,
    MARGIN_TOKENS,
    BenchRequest,
    ModelFile,
    Plan,
    PromptTest,
    Setting,
    TokenTest,
    changed_request,
    engine_settings,
    prompt_tests,
    reading_text,
    runs_of,
    settings_of,
    token_tests,
)
from edgetop.core.engine_settings import EXTRA_FLAGS
from edgetop.core.errors import UsageError
from edgetop.settings import options

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


def test_every_axis_is_an_option_of_the_same_name() -> None:
    """What can be chosen for one run can be varied, and means the same."""
    names = tuple(option.name for option in options.BENCH_AXES)
    assert set(names) == set(Setting.__struct_fields__) - {"model", "page_cache", *DEVICE_AXES}
    speed = {"n_threads", "type_k", "type_v", "flash_attention", *EXTRA_FLAGS}
    assert speed <= {field for option in options.BENCH_AXES for field in option.sets}
    request = changed_request(
        BenchRequest(), flash_attn=("on", "off"), cache_type_k=("q8_0",), cpu_mask=("f0",), prio=(2,), n_cpu_moe=(3,),
        override_tensor=("none", "ffn=CPU;attn=CPU"), lora=("none", "/a,b.gguf;/c.gguf"), model_draft=("/d.gguf",),
    )  # fmt: skip
    settings = settings_of(MODELS[:1], request)
    assert len({setting.key for setting in settings}) == len(settings) == 8
    last = engine_settings(settings[-1], 256)
    assert (last.type_k, last.type_v, last.flash_attention, last.cpu_mask) == ("q8_0", "f16", "off", "f0")
    assert (last.prio, last.n_cpu_moe, last.draft_model) == (2, 3, "/d.gguf")
    assert (last.override_tensor, last.lora) == (("ffn=CPU", "attn=CPU"), ("/a,b.gguf", "/c.gguf"))
    first = engine_settings(settings[0], 256)
    assert (first.override_tensor, first.lora, first.flash_attention) == ((), (), "on")


@pytest.mark.parametrize(
    "change",
    [{"cpu_mask": ("zz",)}, {"override_tensor": ("ffn",)}, {"prio": (4,)}, {"flash_attn": ("yes",)},
     {"cache_type_v": ("q9",)}, {"n_cpu_moe": (-1,)}],
)  # fmt: skip
def test_an_axis_takes_what_its_option_takes(change: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=rf"\$\.{next(iter(change))}"):
        changed_request(BenchRequest(), **change)


def test_a_plan_from_before_an_axis_was_there_goes_on() -> None:
    """A benchmark is found again by its plan's identity: this is the one that edgetop 0.1 gave."""
    assert plan().identity == "c26b6307b30d"


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
