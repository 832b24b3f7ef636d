"""Plans written by people, whole and broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgetop.bench.plan import BenchRequest, changed_request, read_request, require_tests
from edgetop.core.errors import UsageError

WHOLE = """
name = "study"
models = ["smollm2", "/models/b.gguf"]
quant = ["Q8_0", "Q4_0"]
threads = [1, 2]
kv_type = ["f16", "q8_0"]
n_prompt = [0]
n_gen = [128]
pairs = [[512, 128]]
prompts = true
repetitions = 7
order = "blocks"
quality = "reading.txt"
idle_s = 12.5
"""


def test_a_plan_says_what_the_flags_say(tmp_path: Path) -> None:
    file = tmp_path / "plan.toml"
    file.write_text(WHOLE)
    request = read_request(file)
    assert request == BenchRequest(
        name="study", models=("smollm2", "/models/b.gguf"), quant=("Q8_0", "Q4_0"), threads=(1, 2),
        kv_type=("f16", "q8_0"), n_prompt=(0,), n_gen=(128,), pairs=((512, 128),), prompts=True, repetitions=7,
        order="blocks", quality="reading.txt", idle_s=12.5,
    )  # fmt: skip
    require_tests(request)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("threads = [1", "plan.toml"),
        ("threads = 'two'", "$.threads"),
        ("theads = [1]", "theads"),
        ("kv_type = ['q9']", "$.kv_type[0]"),
        ("order = 'random'", "$.order"),
        ("a = " + "[" * 5000, "plan.toml"),
        ("pairs = [[1]]", "$.pairs[0]"),
    ],
)
def test_a_broken_plan_is_told_in_one_line_that_names_the_place(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "plan.toml"
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_request(file)
    assert told in caught.value.what
    assert "\n" not in caught.value.what + caught.value.hint
    assert caught.value.hint


def test_what_is_no_plan_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_request(tmp_path / "nowhere.toml")
    with pytest.raises(UsageError, match="directory"):
        read_request(tmp_path)
    (tmp_path / "large.toml").write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(UsageError, match=r"larger than 0\.25 MiB"):
        read_request(tmp_path / "large.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"binary\.toml"):
        read_request(tmp_path / "binary.toml")


@pytest.mark.parametrize(
    "changes",
    [
        {"repetitions": 0},
        {"threads": (0,)},
        {"ubatch": (-1,)},
        {"gpu_layers": (-1,)},
        {"idle_s": -1.0},
        {"idle_s": float("nan")},
        {"cool_down_limit_s": float("inf")},
        {"seed": -1},
        {"n_gen": (-5,)},
        {"pairs": ((2**30, 1),)},
    ],
)
def test_numbers_that_mean_nothing_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=rf"\$\.{next(iter(changes))}"):
        changed_request(BenchRequest(), **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"repetitions": 2**31 - 1},
        {"n_depth": tuple(range(1000)), "n_prompt": tuple(range(1000))},
        {"threads": tuple(range(1, 1000)), "batch": tuple(range(1, 1000))},
        {"models": ("a",) * 1000, "quant": ("Q8_0",) * 1000},
    ],
    ids=["repetitions", "tests", "settings", "models"],
)
def test_a_plan_that_never_ends_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=r"that would be some \d+ measurements"):
        changed_request(BenchRequest(), **changes)


def test_without_a_test_there_must_be_a_score_of_quality() -> None:
    with pytest.raises(UsageError, match="nothing to measure"):
        require_tests(BenchRequest(n_prompt=(0,), n_gen=(0,)))
    require_tests(BenchRequest(n_prompt=(0,), n_gen=(0,), quality=True))
