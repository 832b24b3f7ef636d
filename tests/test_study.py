"""The example study: its tiny model, and that every number of it follows from the sessions of its archives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from docs import tiny_model
from edgetop.bench.conclusions import conclusions_of
from edgetop.bench.output import read_archive
from edgetop.bench.paper import View, section
from edgetop.bench.results import PlanResult, results_of
from edgetop.commands.bench import study_of
from tests.commands.test_bench_study import is_told, text_of

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "sessions/study"
REPORTS = {"speed": ROOT / "docs/study.html", "quality": ROOT / "docs/study-quality.html"}
PACKAGES = ("SmolLM2-135M-Instruct.Q4_1", "gemma-3-270m-q4_k_m")
TRAINED, HELD = tiny_model.texts()
TEXT = TRAINED[:8000]
KINDS: dict[str, list[str]] = {}
for _name in tiny_model.first_weights(0):
    KINDS.setdefault(_name.rpartition(".")[2], []).append(_name)


@pytest.fixture(scope="module")
def tokenizer() -> tiny_model.Tokenizer:
    return tiny_model.Tokenizer(TEXT)


def test_the_gradients_are_those_of_the_loss() -> None:
    """By the difference of two losses, of which each kind of weight makes the same part: a wrong one would show."""
    chance = np.random.default_rng(1)
    weights = tiny_model.first_weights(2)
    read, following = (chance.integers(tiny_model.N_VOCAB, size=(2, 6)) for _ in range(2))
    _, gradients = tiny_model.loss_and_gradients(weights, read, following)
    assert gradients.keys() == weights.keys()
    lengths = {kind: sum(float((gradients[name] ** 2).sum()) for name in names) for kind, names in KINDS.items()}
    steps = {name: 0.001 / lengths[kind] * gradients[name] for kind, names in KINDS.items() for name in names}
    losses = [
        tiny_model.loss_and_gradients(
            {name: (each + way * steps[name]).astype(np.float32) for name, each in weights.items()}, read, following
        )[0]
        for way in (-1, 1)
    ]
    assert losses[1] - losses[0] == pytest.approx(2 * 0.001 * len(KINDS), rel=0.03)


def test_llama_cpp_computes_the_model_as_it_was_trained(tmp_path: Path, tokenizer: tiny_model.Tokenizer) -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    # Larger than training begins with, so that what was read tells.
    begun = tiny_model.first_weights(3)
    weights = {name: each * np.float32(1 if each.ndim == 1 else 4) for name, each in begun.items()}
    path = tmp_path / "tiny.gguf"
    tiny_model.write_model(path, weights, tokenizer)
    engine = llama_cpp.Llama(str(path), n_ctx=256, n_threads=1, logits_all=True, verbose=False)
    text = TEXT[5000:5400]
    tokens = engine.tokenize(text.encode(), add_bos=False)
    assert tokens == tokenizer.encode(text).tolist()
    engine.eval(tokens)
    scores = engine.scores[: len(tokens) - 1].astype(np.float64)
    scores -= scores.max(-1, keepdims=True)
    chosen = scores[np.arange(len(tokens) - 1), tokens[1:]] - np.log(np.exp(scores).sum(-1))
    engine.close()
    found = np.array(tokens)
    ours, _ = tiny_model.loss_and_gradients(weights, found[None, :-1], found[None, 1:])
    assert -chosen.mean() == pytest.approx(ours, rel=1e-3)


def test_the_same_seed_trains_the_same_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny_model, "N_CTX", 8)
    tokens = np.random.default_rng(6).integers(tiny_model.N_VOCAB, size=100)
    first, second, other = (tiny_model.train(tokens, steps=1, seed=seed) for seed in (4, 4, 5))
    assert all((first[name] == second[name]).all() for name in first)
    assert any((first[name] != other[name]).any() for name in first)


def test_the_right_choice_goes_on_as_the_text_does_and_the_others_in_another_order() -> None:
    whole = " ".join(HELD.split())
    asked = list(tiny_model.questions(HELD, 7))
    assert asked == list(tiny_model.questions(HELD, 7))
    assert len(asked) == tiny_model.QUESTIONS
    for each in asked:
        prompt, choices, answer = each["prompt"], each["choices"], each["answer"]
        assert isinstance(choices, list)
        assert isinstance(answer, int)
        assert f"{prompt} {choices[answer]}" in whole
        assert len(set(choices)) == tiny_model.CHOICES
        assert len({" ".join(sorted(str(each).split(" "))) for each in choices}) == 1
    assert HELD[:2000] not in TRAINED


def recomputed(name: str, folder: Path) -> tuple[PlanResult, str]:
    """A benchmark's results from its archive's sessions, and the section they give."""
    held = read_archive(TARGET / f"{name}.zip", folder)
    result = results_of(held.plan, held.finished)
    sentences = conclusions_of(result).sentences
    page = text_of(REPORTS[name].read_text("utf-8"))
    assert is_told(study_of(held.plan, result, View(), sentences), page) == []
    return result, section(held.plan, result, View(), sentences)


@pytest.mark.parametrize("name", ["speed", "quality"])
def test_every_number_of_the_example_study_follows_from_its_sessions(name: str, tmp_path: Path) -> None:
    if not (TARGET / f"{name}.zip").is_file():
        pytest.skip("the study of this version is not recorded yet: python -m docs.record_study")
    result, text = recomputed(name, tmp_path)
    assert (TARGET / f"{name}.md").read_text("utf-8") == text
    tests = [test for setting in result.settings for test in setting.tests]
    assert len(tests) == 2 * len(result.settings)
    assert all(len(test.repetitions) >= 5 and test.j_per_token is not None for test in tests)
    assert all(setting.simulated and not setting.problems for setting in result.settings)
    assert text.count("simulated") >= 4
    for setting in result.settings:
        label, load = setting.setting.model.label, setting.load
        assert load is not None
        assert (" from " in label) == (name == "speed" and label not in PACKAGES), label
        assert (setting.quality is not None) == (name == "quality")
