"""Scores of models by a scripted engine: the first one is the reference, and what fails is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from edgetop.bench.plan import ModelFile, QualityPlan
from edgetop.bench.prompts import QUESTIONS, reading_text
from edgetop.bench.quality import QualityError, QualityScorer, accuracy_of
from edgetop.inference.protocol import ChoiceScore
from edgetop.session.file_io import load_head
from tests.bench.conftest import Bench

MODELS = tuple(ModelFile(path=f"/models/{name}.gguf", label=name) for name in ("Q8_0", "Q4_0"))


@pytest.fixture
def scorer(bench: Bench) -> Iterator[Callable[..., QualityScorer]]:
    made: list[QualityScorer] = []

    def make(*, questions: bool = True, interrupted: Callable[[], bool] = lambda: False) -> QualityScorer:
        plan = QualityPlan(text=reading_text(), questions=questions)
        scored = QualityScorer(
            plan, "plan", bench.store, bench.live(), folder=bench.folder / "reference",
            on_progress=lambda _text: None, interrupted=interrupted,
        )  # fmt: skip
        made.append(scored)
        return scored

    yield make
    for each in made:
        each.close()


def test_the_first_model_is_the_reference_of_the_others(bench: Bench, scorer: Callable[..., QualityScorer]) -> None:
    bench.script |= {"perplexity": 21.5, "kl_mean": 0.02}
    made = scorer()
    first, second = (made.score(model, threads=1) for model in MODELS)
    assert first is not None
    assert second is not None
    assert (first[0].reference, first[0].kl_divergence, first[0].perplexity.value) == ("", None, 21.5)
    assert second[0].reference == "Q8_0"
    assert second[0].kl_divergence is not None
    assert second[0].kl_divergence.value == 0.02
    assert second[0].questions == len(QUESTIONS)
    assert second[1] is not None
    head = load_head(second[1])
    assert [entry.quality for entry in head.quality] == [second[0]]
    assert head.bench is not None
    assert head.bench.setting == "quality of Q4_0"
    made.close()
    assert not (bench.folder / "reference").exists(), "the reference takes a hundred megabytes"


def test_what_an_edgetop_that_was_killed_left_is_deleted(bench: Bench, scorer: Callable[..., QualityScorer]) -> None:
    left = bench.folder / "reference" / "reference"
    left.parent.mkdir()
    left.write_bytes(b"of another text")
    scorer()
    assert not left.exists()


def test_a_model_that_cannot_be_loaded_is_an_error_and_the_next_one_the_reference(
    bench: Bench, scorer: Callable[..., QualityScorer]
) -> None:
    script = dict(bench.script)
    bench.script["load_fails"] = {"reason": "not_a_model", "message": "It is a picture.", "hint": "Take a model."}
    made = scorer(questions=False)
    with pytest.raises(QualityError, match="It is a picture"):
        made.score(MODELS[0])
    bench.script = script
    bench.live()
    scored = made.score(MODELS[1])
    assert scored is not None
    assert scored[0].reference == ""
    assert (scored[0].questions, scored[0].accuracy) == (0, None)


def test_an_interruption_gives_no_score(bench: Bench, scorer: Callable[..., QualityScorer]) -> None:
    assert scorer(interrupted=lambda: True).score(MODELS[0]) is None


def test_the_right_choice_is_the_likeliest_per_byte() -> None:
    """Twice as likely as a whole, but eight times as long: not chosen."""
    scores = [
        ChoiceScore(
            tuple(-1.0 * len(choice.encode()) if at == item.right else -1.1 * len(choice.encode())
                  for at, choice in enumerate(item.choices)),
            tuple(1 for _ in item.choices),
        )
        for item in QUESTIONS
    ]  # fmt: skip
    assert accuracy_of(scores).value == 1.0
    wrong = [ChoiceScore(tuple(reversed(score.log_likelihood)), score.tokens) for score in scores]
    assert accuracy_of(wrong).value < 0.6


def test_every_question_has_one_right_choice_and_no_choice_twice() -> None:
    assert len(QUESTIONS) >= 40
    for item in QUESTIONS:
        assert 0 <= item.right < len(item.choices)
        assert len(set(item.choices)) == len(item.choices)
        assert all(choice.startswith(" ") for choice in item.choices)
    rights = [item.right for item in QUESTIONS]
    assert max(rights.count(at) for at in set(rights)) < 0.6 * len(rights), "always the first one would do well"
