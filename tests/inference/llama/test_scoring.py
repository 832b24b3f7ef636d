"""Perplexity, divergence and choices: on models whose scores are known, and on the real small one."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from edgetop.core.engine_settings import EngineSettings
from edgetop.core.records import ModelLoaded
from edgetop.inference.protocol import (
    ChoicesScored,
    Choose,
    MultipleChoiceQuestion,
    Perplexity,
    ScoreFailed,
    TextScored,
)
from edgetop.inference.quantization import quantize_model
from tests.inference.tiny_gguf import SPECIAL, write_tiny_gguf
from tests.support.engine_worker import EngineWorker

N_VOCAB = len(SPECIAL) + 256
SCORING = EngineSettings(n_ctx=256, n_outputs_max=64)
TEXT = (Path(__file__).parents[3] / "LICENSE").read_text("utf-8")


def score(talk: EngineWorker, command: Perplexity) -> TextScored:
    scored = ask(talk, command)
    assert isinstance(scored, TextScored), scored
    return scored


def ask(talk: EngineWorker, command: Perplexity | Choose) -> TextScored | ChoicesScored | ScoreFailed:
    talk.reports.clear()
    talk.engine.send(command)
    said: TextScored | ChoicesScored | ScoreFailed = talk.until(TextScored, ChoicesScored, ScoreFailed)
    return said


def loaded(start: Callable[..., EngineWorker], path: Path) -> EngineWorker:
    talk = start()
    assert isinstance(talk.load(path, SCORING), ModelLoaded)
    return talk


def test_a_model_to_which_all_tokens_are_alike_has_the_perplexity_of_its_vocabulary(
    start: Callable[..., EngineWorker], tmp_path: Path
) -> None:
    talk = loaded(start, write_tiny_gguf(tmp_path / "even.gguf", weight_scale=0.0))
    scored = score(talk, Perplexity(text=TEXT, chunks=3))
    assert scored.perplexity == pytest.approx(N_VOCAB, rel=1e-5)
    assert (scored.chunks, scored.tokens) == (3, 3 * (256 - 128 - 1))
    chosen = ask(talk, Choose(questions=(MultipleChoiceQuestion("Is it?", (" yes", " no, it is not")),)))
    assert isinstance(chosen, ChoicesScored)
    (answer,) = chosen.scores
    assert answer.tokens == (3 + 3, 4 * 3 + 10), "a byte is a token here, and a space has three"
    for log_likelihood, tokens in zip(answer.log_likelihood, answer.tokens, strict=True):
        assert log_likelihood == pytest.approx(-tokens * math.log(N_VOCAB), rel=1e-5)


def test_a_model_does_not_diverge_from_itself_and_a_coarser_one_does(
    start: Callable[..., EngineWorker], small_model: Path, tmp_path: Path
) -> None:
    reference = str(tmp_path / "reference")
    talk = loaded(start, small_model)
    alone = score(talk, Perplexity(text=TEXT, chunks=2, reference=reference, write_reference=True))
    assert alone.divergence is None
    again = score(talk, Perplexity(text=TEXT, chunks=2, reference=reference))
    assert again.perplexity == pytest.approx(alone.perplexity, rel=1e-4)
    assert again.divergence is not None
    assert again.divergence.kl_mean == pytest.approx(0.0, abs=1e-4)
    assert again.divergence.top_agreement > 0.99
    coarse = quantize_model(small_model, "Q2_K", tmp_path)
    assert isinstance(talk.load(coarse.path, SCORING), ModelLoaded)
    other = score(talk, Perplexity(text=TEXT, chunks=2, reference=reference))
    assert other.divergence is not None
    assert other.divergence.kl_mean > 0.05
    assert other.divergence.top_agreement < again.divergence.top_agreement


@pytest.mark.parametrize("changes", [{"n_outputs_max": 128}, {"n_ubatch": 64}, {"n_outputs_max": 1}], ids=str)
def test_a_score_does_not_depend_on_how_many_rows_are_computed_at_once(
    start: Callable[..., EngineWorker], tmp_path: Path, changes: dict[str, int]
) -> None:
    """To what other batches round differently."""
    model = write_tiny_gguf(tmp_path / "tiny.gguf")
    expected = score(loaded(start, model), Perplexity(text=TEXT, chunks=2))
    talk = start()
    assert isinstance(talk.load(model, replace(SCORING, **changes)), ModelLoaded)
    found = score(talk, Perplexity(text=TEXT, chunks=2))
    assert found.tokens == expected.tokens == 2 * 127
    assert found.perplexity == pytest.approx(expected.perplexity, rel=1e-3)


def test_the_real_model_knows_a_capital(start: Callable[..., EngineWorker], small_model: Path) -> None:
    talk = loaded(start, small_model)
    question = MultipleChoiceQuestion(
        "Question: What is the capital of France?\nAnswer:", (" Paris", " Berlin", " a kind of fish")
    )
    chosen = ask(talk, Choose(questions=(question, question)))
    assert isinstance(chosen, ChoicesScored)
    first, second = chosen.scores
    assert not first.greedy[2], "a greedy reply does not begin with a kind of fish"
    assert max(first.log_likelihood) == first.log_likelihood[0]
    assert second.log_likelihood == pytest.approx(first.log_likelihood, rel=1e-3), (
        "what was asked before leaves no trace"
    )


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (Perplexity(text="Too short."), "at least 256"),
        (Perplexity(text=TEXT, chunks=1, reference="/nowhere/file", write_reference=True), "No such file"),
    ],
)
def test_what_cannot_be_scored_says_why(
    start: Callable[..., EngineWorker], tmp_path: Path, command: Perplexity, said: str
) -> None:
    talk = loaded(start, write_tiny_gguf(tmp_path / "tiny.gguf"))
    failed = ask(talk, command)
    assert isinstance(failed, ScoreFailed)
    assert said in failed.message


def test_questions_in_the_chat_template_are_those_that_were_written_out(
    start: Callable[..., EngineWorker], tmp_path: Path
) -> None:
    """ChatML written by hand scores the same to the last bit."""
    talk = loaded(start, write_tiny_gguf(tmp_path / "tiny.gguf"))
    asked = MultipleChoiceQuestion("Is it?", (" yes", " no"))
    by_hand = MultipleChoiceQuestion("<|im_start|>user\nIs it?<|im_end|>\n<|im_start|>assistant\n", ("yes", "no"))
    plain = ask(talk, Choose(questions=(asked,)))
    in_template = ask(talk, Choose(questions=(asked,), template=True))
    assert isinstance(in_template, ChoicesScored)
    assert in_template == ask(talk, Choose(questions=(by_hand,)))
    assert in_template != plain


def test_a_reference_of_another_text_is_refused(start: Callable[..., EngineWorker], tmp_path: Path) -> None:
    talk = loaded(start, write_tiny_gguf(tmp_path / "tiny.gguf"))
    reference = str(tmp_path / "reference")
    score(talk, Perplexity(text=TEXT, chunks=1, reference=reference, write_reference=True))
    failed = ask(talk, Perplexity(text=TEXT.upper(), chunks=1, reference=reference))
    assert isinstance(failed, ScoreFailed)
    assert "another text" in failed.message


def test_scoring_can_be_stopped(start: Callable[..., EngineWorker], small_model: Path) -> None:
    talk = loaded(start, small_model)
    talk.reports.clear()
    talk.engine.send(Perplexity(text=TEXT * 20))
    talk.engine.stop()
    assert talk.until(TextScored, ScoreFailed) == ScoreFailed(message="Scoring was stopped.")
