"""Random tokens through the real engine."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from edgetop.core.engine_settings import EngineSettings, SamplingSettings
from edgetop.core.records import ModelLoaded, Prefill, TurnFinished
from edgetop.inference.llama.model import Vocabulary
from edgetop.inference.protocol import ChatMessage, Generate, Measure
from tests.inference.tiny_gguf import write_tiny_gguf
from tests.support.engine_worker import EngineWorker


def measure(talk: EngineWorker, command: Measure) -> TurnFinished:
    talk.reports.clear()
    talk.engine.send(command)
    finished: TurnFinished = talk.until(TurnFinished)
    return finished


@pytest.fixture
def talk(start: Callable[..., EngineWorker], tmp_path: Path) -> EngineWorker:
    worker = start()
    settings = EngineSettings(n_ctx=512, n_ubatch=64)
    assert isinstance(worker.load(write_tiny_gguf(tmp_path / "tiny.gguf"), settings), ModelLoaded)
    return worker


def test_a_test_evaluates_as_many_tokens_as_were_asked_for(talk: EngineWorker) -> None:
    finished = measure(talk, Measure(turn=3, n_prompt=150, n_gen=20, depth=100))
    assert (finished.stop_reason, finished.turn, finished.error) == ("max_tokens", 3, "")
    assert (finished.prompt_tokens, finished.cached_tokens, finished.generated_tokens) == (250, 100, 20)
    assert finished.context_used == 270
    prefills = [report for report in talk.reports if isinstance(report, Prefill)]
    assert [each.done for each in prefills] == [0, 64, 128, 150]
    assert {(each.total, each.cached) for each in prefills} == {(150, 100)}
    assert len(talk.stamps) == 20
    assert talk.stamps == sorted(talk.stamps)
    assert talk.stamps[0] > prefills[-1].t_us
    assert talk.text == ""
    assert finished.perf is not None
    assert (finished.perf.prefill_tokens, finished.perf.decode_tokens) == (150, 20)


@pytest.mark.parametrize(("n_prompt", "n_gen"), [(32, 0), (0, 8)])
def test_a_prompt_or_a_reply_alone_is_a_test_too(talk: EngineWorker, n_prompt: int, n_gen: int) -> None:
    for _ in range(2):
        finished = measure(talk, Measure(turn=1, n_prompt=n_prompt, n_gen=n_gen))
        assert (finished.prompt_tokens, finished.generated_tokens) == (n_prompt, n_gen)
        assert finished.context_used == n_prompt + n_gen, "each test begins with an empty cache"


def test_a_test_larger_than_the_context_is_refused(talk: EngineWorker) -> None:
    finished = measure(talk, Measure(turn=1, n_prompt=300, n_gen=200, depth=100))
    assert finished.stop_reason == "context_full"
    assert "600" in finished.error


def test_a_test_can_be_stopped(start: Callable[..., EngineWorker], small_model: Path) -> None:
    worker = start()
    assert isinstance(worker.load(small_model, EngineSettings(n_ctx=4096)), ModelLoaded)
    worker.reports.clear()
    worker.engine.send(Measure(turn=1, n_prompt=2048, n_gen=2000))
    worker.until(Prefill)
    worker.engine.stop()
    finished: TurnFinished = worker.until(TurnFinished)
    assert finished.stop_reason == "cancelled"


def test_without_a_model_there_is_nothing_to_measure(start: Callable[..., EngineWorker]) -> None:
    assert "load one first" in measure(start(), Measure(turn=1, n_gen=1)).error


class Names:
    """As much of a library as a vocabulary of these tokens asks: those in angle brackets are control tokens."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def llama_vocab_is_control(self, _vocab: object, token: int) -> bool:
        return self.names[token].startswith("<")

    def llama_vocab_get_text(self, _vocab: object, token: int) -> bytes:
        return self.names[token].encode()


def test_a_long_text_is_cut_before_control_tokens_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgetop.inference.llama.model._TEXT_PIECE", 10)
    vocabulary = Vocabulary.__new__(Vocabulary)
    names = Names("word", "<s>", "<s>more", "<a<s>", "<" + "long" * 999)
    vocabulary._library, vocabulary._vocab, vocabulary.size = names, None, len(names.names)
    text = "word " * 9 + "<s>" * 5 + "x<s>more" + "y" * 20 + " <s>" + "z<s>" + "word" * 9 + "<a<s>" * 9
    pieces = list(filter(None, vocabulary._pieces(text)))
    assert "".join(pieces) == text
    assert len(pieces) > 2
    for before, piece in pairwise(pieces):
        assert piece.startswith(("<s>", "<a<s>"))
        assert not before[-1].isspace()
        assert not before.endswith("<a"), "within a token"
    assert list(vocabulary._pieces("word" * 4)) == ["word" * 4]
    beginnings = list(vocabulary._pieces("<" * 1000))
    assert beginnings == [""] * (len(beginnings) - 1) + ["<" * 1000]
    assert len(beginnings) > 50, "it can be stopped there"


def test_a_prompt_of_control_tokens_that_cannot_fit_is_refused_before_all_of_it_is_read(talk: EngineWorker) -> None:
    prompt = "<|im_start|>" * 10_000
    talk.engine.send(Generate(turn=1, messages=(ChatMessage("user", prompt),), sampling=SamplingSettings(max_tokens=1)))
    finished = talk.until(TurnFinished)
    assert finished.stop_reason == "context_full"
    assert "the context holds 512" in finished.error
