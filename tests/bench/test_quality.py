"""Scores of models by a scripted engine: the first one is the reference, and what fails is told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from edgetop.bench.plan import QUESTIONS, ModelFile, QualityPlan, QuestionItem, read_questions, reading_text
from edgetop.bench.quality import QualityError, QualityScorer, answers_of, questions_of
from edgetop.core.errors import UsageError
from edgetop.inference.protocol import ChoiceScore
from edgetop.session.file_io import load_head
from tests.bench.conftest import Bench
from tests.inference.tiny_gguf import write_tiny_gguf

MODELS = tuple(ModelFile(path=f"/models/{name}.gguf", label=name) for name in ("Q8_0", "Q4_0"))


@pytest.fixture
def scorer(bench: Bench) -> Iterator[Callable[..., QualityScorer]]:
    made: list[QualityScorer] = []

    def make(*, questions: bool = True, interrupted: Callable[[], bool] = lambda: False) -> QualityScorer:
        plan = QualityPlan(text=reading_text(), questions=questions)
        scored = QualityScorer(
            plan, "plan", bench.store, bench.live(), folder=bench.folder / "reference",
            on_progress=lambda _text, _share: None, interrupted=interrupted,
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


def test_models_that_read_other_tokens_are_each_their_own_reference(bench: Bench, tmp_path: Path) -> None:
    """One begins with a beginning-of-sequence token, the other does not; the third one is like the first."""
    models = [
        ModelFile(path=str(write_tiny_gguf(tmp_path / f"{label}.gguf", bos=bos)), label=label)
        for label, bos in (("with", True), ("without", False), ("with too", True), ("without too", False))
    ]
    live = replace(bench.live(), engine_name="auto")
    scorer = QualityScorer(
        QualityPlan(text=reading_text(), n_ctx=256, chunks=1, questions=False), "plan", bench.store, live,
        folder=bench.folder / "reference", on_progress=lambda _text, _share: None, interrupted=lambda: False,
    )  # fmt: skip
    scored = [scorer.score(model, threads=1) for model in models]
    scorer.close()
    assert [None if each is None else each[0].reference for each in scored] == ["", "", "with", "without"]
    assert all(each is not None for each in scored)
    for each in scored[2:]:
        assert each is not None
        assert each[0].kl_divergence is not None
        assert each[0].kl_divergence.value == pytest.approx(0.0, abs=1e-4), "the same weights"


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
    plan = QualityPlan(text="")
    items, asked = questions_of(plan)
    assert answers_of(plan, items, asked, scores)["accuracy"].value == 1.0
    wrong = [ChoiceScore(tuple(reversed(score.log_likelihood)), score.tokens) for score in scores]
    assert answers_of(plan, items, asked, wrong)["accuracy"].value < 0.6


def test_every_question_has_one_right_choice_and_no_choice_twice() -> None:
    assert len(QUESTIONS) >= 40
    for item in QUESTIONS:
        assert 0 <= item.right < len(item.choices)
        assert len(set(item.choices)) == len(item.choices)
        assert all(choice.startswith(" ") for choice in item.choices)
    rights = [item.right for item in QUESTIONS]
    assert max(rights.count(at) for at in set(rights)) < 0.6 * len(rights), "always the first one would do well"


MMLU = {"question": "Is it?", "choices": ["no", "yes"], "answer": 1}
ARC = {"question": "Is it?", "choices": {"text": ["no", "yes"], "label": ["A", "B"]}, "answerKey": "B"}
HELLASWAG = {"ctx": "It is", "endings": ["no", "yes"], "label": "1"}
BY_TEXT = {"query": "Is it?", "options": ["no", "yes"], "gold": "yes"}
EXACT = {"prompt": "It is", "answer": "yes"}


@pytest.mark.parametrize(
    ("line", "item"),
    [
        (MMLU, QuestionItem("Is it?", (" no", " yes"), 1)),
        (ARC, QuestionItem("Is it?", (" no", " yes"), 1)),
        (HELLASWAG, QuestionItem("It is", (" no", " yes"), 1, raw=True)),
        (BY_TEXT, QuestionItem("Is it?", (" no", " yes"), 1)),
        ({**MMLU, "answer": "b"}, QuestionItem("Is it?", (" no", " yes"), 1)),
        (EXACT, QuestionItem("It is", (" yes",), 0, raw=True)),
    ],
    ids=["mmlu", "arc", "hellaswag", "by-text", "by-letter", "exact"],
)
def test_public_sets_of_questions_are_read_as_they_are(tmp_path: Path, line: dict[str, object], item: object) -> None:
    file = tmp_path / "set.jsonl"
    file.write_text(json.dumps(line) + "\n\n", "utf-8")
    assert read_questions(file) == (item,)


def test_columns_of_other_names_are_mapped(tmp_path: Path) -> None:
    file = tmp_path / "set.jsonl"
    file.write_text(json.dumps({"q": "Is it?", "a": ["no", "yes"], "right": 0, "label": 1}), "utf-8")
    assert read_questions(file, "question=q,choices=a,answer=right") == (QuestionItem("Is it?", (" no", " yes"), 0),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no questions"),
        ('{"question": "a"', "line 1"),
        ('{"question": "a", "choices": ["b", "c"], "answer": 2}', "none of its choices"),
        ('{"question": "a", "choices": ["b", "c"], "answer": -1}', "none of its choices"),
        ('{"question": "a", "choices": ["b"], "answer": 0}', "two or more"),
        ('{"question": "a", "choices": ["b", 3], "answer": 0}', "two or more"),
        ('{"question": "a", "choices": ["b", "c"]}', "no answer"),
        ('{"choices": ["b", "c"], "answer": 0}', "no question"),
        ("[1]", "line 1"),
        ('{"question": "a", "choices": ["b", "c"], "answer": "\u00df"}', "none of its choices"),
        ('{"question": "a", "choices": ["b", "c"], "answer": "\u00b2"}', "none of its choices"),
        ('{"question": "a", "choices": ["b", "c"], "answer": "' + "9" * 5000 + '"}', "line 1"),
    ],
    ids=[
        "empty",
        "cut",
        "beyond",
        "negative",
        "one",
        "number",
        "unanswered",
        "unasked",
        "list",
        "sharp s",
        "superscript",
        "digits",
    ],
)
def test_what_is_no_question_is_told_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "set.jsonl"
    file.write_text(text, "utf-8")
    with pytest.raises(UsageError, match=said):
        read_questions(file)


def test_more_questions_than_anybody_asks_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgetop.bench.plan.QUESTIONS_MAX", 2)
    file = tmp_path / "set.jsonl"
    file.write_text(f"{json.dumps(EXACT)}\n" * 3, "utf-8")
    with pytest.raises(UsageError, match="more than 2 questions"):
        read_questions(file)


def test_examples_stand_before_the_others_and_three_weights_are_told() -> None:
    """By hand: per character -1.0 against -0.5, in all -2 against -4, per token -2 against -1."""
    item = QuestionItem("Is it?", (" no", " probably"), 1)
    plan = QualityPlan(text="", asked=(QuestionItem("Was it?", (" no", " yes"), 1), item), asked_name="set", shots=1)
    items, asked = questions_of(plan)
    assert items == (item,)
    assert asked[0].prompt == "Question: Was it?\nAnswer: yes\n\nQuestion: Is it?\nAnswer:"
    found = answers_of(plan, items, asked, [ChoiceScore((-2.0, -4.0), (1, 4), (False, False))])
    assert (found["accuracy"].value, found["accuracy_sum"], found["accuracy_per_token"]) == (1.0, 0.0, 1.0)
    assert found["answers"] == "1"
    assert "1 examples before each" in found["scoring"]


def test_an_exact_match_is_a_greedy_reply_that_begins_so() -> None:
    plan = QualityPlan(text="", asked=(QuestionItem("It is", (" yes",), 0, raw=True),) * 2, asked_name="set")
    items, asked = questions_of(plan)
    scores = [ChoiceScore((-0.1,), (1,), (True,)), ChoiceScore((-0.1,), (1,), (False,))]
    assert answers_of(plan, items, asked, scores)["answers"] == "10"
