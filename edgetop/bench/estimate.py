"""Time, disk and memory a plan will take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from edgetop.bench.plan import ModelFile, Plan, PromptTest, Run, Test, TokenTest
from edgetop.bench.prompts import QUESTIONS, prompt_of

RUN_OVERHEAD_S = 4.0
"""Starting the engine's process, finding sensors, saving the session."""

REST_WITHOUT_POWER_S = 1.0
SETTLE_S = 1.0
"""After each test, where power is measured, until its last readings have come."""

SESSION_BYTES_PER_S = 2_000
"""A session with ten channels takes about 6 MB an hour (`benchmarks/session_file.py`)."""

CHARACTERS_PER_TOKEN = 4


class Expected(Struct, frozen=True, kw_only=True):
    """What is expected of a setting; `None` where nothing is known."""

    prefill_tokens_per_s: float | None = None
    decode_tokens_per_s: float | None = None
    load_s: float = 1.0
    memory_bytes: int | None = None
    fits: bool | None = None


class Estimate(Struct, frozen=True, kw_only=True):
    """Of what remains of a plan."""

    runs: int
    duration_s: float | None
    """`None` where the speed of a setting is not known."""
    session_bytes: int
    memory_bytes: int | None
    """Of the largest setting."""
    too_large: tuple[str, ...] = ()
    """Settings that are not expected to fit; they are tried all the same."""
    unknown: tuple[str, ...] = ()
    """Settings whose speed is not known."""


def estimate(
    plan: Plan,
    runs: Iterable[Run],
    expected: Mapping[str, Expected],
    *,
    has_power: bool,
    unscored: Sequence[ModelFile] = (),
) -> Estimate:
    """What `runs` of a plan and the scores of the `unscored` models will take. `expected` is by the settings' keys."""
    duration_s = 0.0
    count = 0
    keys: dict[str, None] = {}
    unknown: dict[str, None] = {}
    for run in runs:
        count += 1
        key = run.setting.key
        keys[key] = None
        run_s = _run_s(plan, run, expected.get(key, Expected()), has_power=has_power)
        if run_s is None:
            unknown[key] = None
        else:
            duration_s += run_s
    for model in unscored:
        key = next(setting.key for setting in plan.settings if setting.model == model)
        score_s = _score_s(plan, expected.get(key, Expected()))
        if score_s is None:
            unknown[key] = None
        else:
            duration_s += score_s
    memory = [bytes_ for key in keys if (bytes_ := expected.get(key, Expected()).memory_bytes) is not None]
    return Estimate(
        runs=count,
        duration_s=None if unknown else duration_s,
        session_bytes=round(duration_s * SESSION_BYTES_PER_S),
        memory_bytes=max(memory, default=None),
        too_large=tuple(key for key in keys if expected.get(key, Expected()).fits is False),
        unknown=tuple(unknown),
    )


def _run_s(plan: Plan, run: Run, expected: Expected, *, has_power: bool) -> float | None:
    tests = [*plan.tests] * (0 if plan.soak_s else run.repetitions) + ([plan.warmup_test] if plan.warmup else [])
    durations = [_test_s(test, expected) for test in tests]
    if any(duration is None for duration in durations):
        return None
    rest_s = plan.cool_down.idle_s if has_power else REST_WITHOUT_POWER_S
    settle_s = SETTLE_S * len(tests) if has_power else 0.0
    return RUN_OVERHEAD_S + expected.load_s + rest_s + settle_s + plan.soak_s + sum(each or 0.0 for each in durations)


def _score_s(plan: Plan, expected: Expected) -> float | None:
    """Of one model: the text is evaluated once, and so are the questions with each of their choices."""
    if plan.quality is None:
        return 0.0
    tokens = len(plan.quality.text) // CHARACTERS_PER_TOKEN
    if plan.quality.chunks is not None:
        tokens = min(tokens, plan.quality.chunks * plan.quality.n_ctx)
    if plan.quality.questions:
        characters = sum(
            len(prompt_of(each)) + len(choice) for each in plan.quality.asked or QUESTIONS for choice in each.choices
        )
        tokens += characters // CHARACTERS_PER_TOKEN
    evaluate_s = _seconds(tokens, expected.prefill_tokens_per_s)
    return None if evaluate_s is None else RUN_OVERHEAD_S + expected.load_s + evaluate_s


def _test_s(test: Test, expected: Expected) -> float | None:
    prefilled, decoded = _tokens(test)
    prefill_s = _seconds(prefilled, expected.prefill_tokens_per_s)
    decode_s = _seconds(decoded, expected.decode_tokens_per_s)
    return None if prefill_s is None or decode_s is None else prefill_s + decode_s


def _tokens(test: Test) -> tuple[int, int]:
    """Tokens evaluated together and one by one."""
    if isinstance(test, TokenTest):
        return test.n_prompt + test.depth, test.n_gen
    assert isinstance(test, PromptTest)  # noqa: S101 - the other kind
    return sum(len(prompt) // CHARACTERS_PER_TOKEN for prompt in test.prompts), test.max_tokens * len(test.prompts)


def _seconds(tokens: int, tokens_per_s: float | None) -> float | None:
    if tokens == 0:
        return 0.0
    return tokens / tokens_per_s if tokens_per_s else None
