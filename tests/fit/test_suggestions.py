from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from edgetop.core.engine_settings import EngineSettings
from edgetop.core.sources import Unavailable
from edgetop.fit.assessment import Assessment, RunTarget, Workload, assess
from edgetop.fit.model_facts import MIXES, ModelFacts, read_facts, requantized
from edgetop.fit.suggestions import GAIN_MIN, Candidate, Choices, ModelAssessments, Suggestion, suggest
from edgetop.fit.wording import suggestion_lines
from edgetop.io.model_file import in_time
from tests.support.example_machine import GIB, MACHINE, by_hand, figure, llama_facts, place_of, without_speed
from tests.support.gguf_files import write_model

__all__ = ["by_hand"]
pytestmark = pytest.mark.usefixtures("by_hand")
LARGE, SMALL = llama_facts(), llama_facts("Llama 1B", n_layer=12, n_embd=2048, source="/models/small.gguf")
TALK = Workload()


def asked(place: RunTarget, **settings: object) -> tuple[Assessment, dict[str, Suggestion]]:
    before = assess(LARGE, EngineSettings(**settings), TALK, place)  # type: ignore[arg-type]
    return before, {
        each.kind: each
        for each in suggest(
            before,
            place,
            Choices(
                others=(
                    LARGE,
                    SMALL,
                )
            ),
        )
    }


def test_each_suggestion_is_an_assessment_of_its_own_with_a_better_outcome() -> None:
    before, found = asked(place_of(), n_threads=1)
    assert before.verdict.words == "fits, too slow for reading"
    assert set(found) == {"threads", "quantization", "model"}
    threads = found["threads"]
    assert threads.after.settings.n_threads == 3  # the fourth adds nothing
    assert threads.flag == "--threads 3"
    again = assess(LARGE, EngineSettings(n_threads=3, n_threads_batch=3), TALK, place_of())
    assert threads.after == again
    assert suggestion_lines(before, (threads,)) == ["3 threads [--threads 3]: 2.09 tok/s instead of 0.783"]


def test_the_best_verdict_comes_first_and_there_are_at_most_three() -> None:
    before = assess(LARGE, EngineSettings(n_threads=1, n_ctx=8192), TALK, place_of(21 * GIB // 2))
    found = suggest(before, place_of(21 * GIB // 2), Choices(others=(SMALL,)))
    assert before.verdict.fit == "does not fit"
    assert len(found) == 3
    ranks = [each.after.verdict.rank for each in found]
    assert ranks == sorted(ranks)
    assert found[0].kind == "model"


def test_what_does_not_fit_is_helped_by_what_makes_it_fit_and_by_nothing_else() -> None:
    before, found = asked(place_of(9 * GIB), n_ctx=8192)
    assert before.verdict.fit == "does not fit"
    assert all(each.after.verdict.fit != "does not fit" for each in found.values())
    assert "threads" not in found
    nothing = suggest(assess(LARGE, EngineSettings(), TALK, place_of(GIB)), place_of(GIB))
    assert not nothing
    assert "would help" in suggestion_lines(before, nothing)[0]


def test_a_prompt_that_is_too_long_is_helped_by_a_longer_context() -> None:
    talk = Workload(prompt_tokens=3000, prompt_is_asked=True)
    before = assess(LARGE, EngineSettings(n_ctx=2048), talk, place_of(21 * GIB))
    assert before.verdict.words.startswith("does not fit")
    context = next(each for each in suggest(before, place_of(21 * GIB)) if each.kind == "context")
    assert context.flag == "--ctx 3328"
    assert context.after.verdict.fit == "fits"


def test_the_largest_context_that_fits_well_is_suggested() -> None:
    place = place_of(13 * GIB)
    before = assess(LARGE, EngineSettings(n_ctx=16_384), TALK, place)
    context = next(each for each in suggest(before, place) if each.kind == "context")
    assert context.after.settings.n_ctx == 4096
    assert context.after.verdict.fit == "fits"


def test_a_machine_that_goes_well_with_the_model_is_told_nothing_that_costs_quality() -> None:
    place = place_of()
    before = assess(SMALL, EngineSettings(), TALK, place)
    assert before.verdict.rank == (0, 0)
    assert (
        suggest(
            before,
            place,
            Choices(
                others=(
                    LARGE,
                    SMALL,
                )
            ),
        )
        == ()
    )
    assert suggestion_lines(before, ()) == ["nothing to change"]


def test_another_power_mode_is_suggested_where_it_is_faster() -> None:
    place = place_of()
    fast_cpu = {threads: figure(60e9) for threads in (1, 2, 3, 4)}
    assert MACHINE.cpu is not None
    fast = place_of(machine=replace(MACHINE, cpu=replace(MACHINE.cpu, bandwidth_bytes_per_s=fast_cpu)))
    before = assess(LARGE, EngineSettings(), TALK, place)
    found = suggest(before, place, Choices(modes={"slow": place, "MAXN": fast}))
    mode = next(each for each in found if each.kind == "power mode")
    assert mode.words == "power mode MAXN"
    assert mode.after.verdict.pace == "comfortable"


def test_without_a_speed_only_what_saves_memory_can_help() -> None:
    place = place_of(9 * GIB, machine=without_speed())
    before = assess(LARGE, EngineSettings(n_ctx=8192), TALK, place)
    found = suggest(before, place, Choices(others=(SMALL,)))
    assert found
    assert all(each.after.verdict.fit != "does not fit" for each in found)


@given(
    available_gib=st.floats(0.5, 16), n_ctx=st.sampled_from((512, 4096, 32_768)), threads=st.integers(1, 4),
    large=st.booleans(),
)  # fmt: skip
def test_nothing_is_suggested_that_does_not_help(available_gib: float, n_ctx: int, threads: int, large: bool) -> None:
    place = place_of(round(available_gib * GIB))
    settings = EngineSettings(n_ctx=n_ctx, n_threads=threads)
    before = assess(LARGE if large else SMALL, settings, TALK, place)
    for each in suggest(
        before,
        place,
        Choices(
            others=(
                LARGE,
                SMALL,
            )
        ),
    ):
        after = each.after
        assert before.decode is not None
        assert after.decode is not None
        assert after.verdict.rank[0] <= before.verdict.rank[0]
        assert after.verdict.fit != "does not fit"
        needs = [side.need.needed_bytes for side in (before, after)]  # type: ignore[union-attr]
        assert (
            after.verdict.rank < before.verdict.rank
            or after.decode.value >= before.decode.value * (1 + GAIN_MIN) * (1 - 1e-9)
            or needs[1] <= needs[0] * (1 - GAIN_MIN)
        )


@pytest.mark.parametrize(
    ("label", "bits"),
    # From the sizes that the help of llama.cpp's quantize tool states for a llama of 7B (6.74 billion weights).
    [("Q8_0", 8.50), ("Q6_K", 6.56), ("Q5_K_M", 5.68), ("Q4_K_M", 4.84), ("Q4_0", 4.54), ("Q3_K_M", 3.91)],
)
def test_a_quantization_that_is_not_there_has_about_the_size_it_would_have(label: str, bits: float) -> None:
    made = requantized(llama_facts(kind="f16", label=1), label)
    assert made.bits_per_weight == pytest.approx(bits, rel=0.04)
    assert made.file_type == label
    assert made.size_bytes - made.tensor_bytes == 1_000_000


def test_quantizations_are_tried_from_the_largest_to_the_smallest() -> None:
    sizes = [requantized(LARGE, label).tensor_bytes for label in MIXES]
    assert sizes == sorted(sizes, reverse=True)


def test_rows_that_do_not_divide_into_large_blocks_take_llama_cpp_s_substitutes() -> None:
    made = requantized(llama_facts(kind="f16", label=1, n_layer=2, n_embd=576), "Q4_K_M")
    assert "q4_K" not in {tensor.type_name for tensor in made.tensors if tensor.shape[0] % 256}
    assert "q5_0" in {tensor.type_name for tensor in made.tensors}


def test_what_may_not_fit_for_all_that_is_known_is_not_suggested(monkeypatch: pytest.MonkeyPatch) -> None:
    place = place_of(9 * GIB)
    before = assess(LARGE, EngineSettings(n_ctx=8192), TALK, place)
    assert before.verdict.fit == "does not fit"
    monkeypatch.setattr("edgetop.fit.assessment.memory_need", lambda *_, **__: Unavailable("no formula is known"))
    assert suggest(before, place, Choices(others=(SMALL,))) == ()


def test_a_model_whose_assessment_fails_is_one_row_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad, endless = (write_model(tmp_path / f"{name}.gguf") for name in ("good", "bad", "endless"))

    def read(path: Path) -> ModelFacts:
        while path == endless:
            pass
        if path == bad:
            raise ZeroDivisionError
        return read_facts(path)

    monkeypatch.setattr("edgetop.fit.suggestions.read_facts", read)
    monkeypatch.setattr("edgetop.fit.suggestions.in_time", partial(in_time, limit_s=0.2))
    survey = ModelAssessments(lambda: [Candidate(each.stem, each) for each in (bad, endless, good)], place_of)
    rows = {each.name: each.problem for each in survey}
    assert rows["good"] == ""
    assert rows["bad"] == "nothing can be said of it: ZeroDivisionError in its assessment"
    assert "its assessment was ended after 0.2 s" in rows["endless"]
