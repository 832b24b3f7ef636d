"""The example study: its tiny model, and that every number of it follows from the sessions of its archives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from docs import tiny_model
from docs.record_study import REPORTS, TARGET
from edgetop.bench.conclusions import conclusions_of
from edgetop.bench.output import read_archive
from edgetop.bench.paper import View, section
from edgetop.bench.results import PlanResult, results_of
from edgetop.commands.bench import study_of
from tests.commands.test_bench_study import is_told, text_of

TRAINED, HELD = tiny_model.texts()


@pytest.fixture(scope="module")
def tokenizer() -> tiny_model.Tokenizer:
    return tiny_model.Tokenizer(TRAINED[:20_000])


def test_the_gradients_are_those_of_the_loss() -> None:
    """Along a random direction, by the difference of two losses."""
    chance = np.random.default_rng(1)
    weights = tiny_model.first_weights(2)
    read, following = (chance.integers(tiny_model.N_VOCAB, size=(2, 24)) for _ in range(2))
    _, gradients = tiny_model.loss_and_gradients(weights, read, following)
    assert gradients.keys() == weights.keys()
    for kind in ("token_embd", "output_norm", "attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_"):
        step = {
            name: gradients[name] / np.abs(gradients[name]).max() if kind in name else np.float32(0) for name in weights
        }
        reach = 3e-2 if kind in {"attn_q", "attn_k"} else 3e-3
        losses = [
            tiny_model.loss_and_gradients(
                {name: each + np.float32(sign * reach) * step[name] for name, each in weights.items()}, read, following
            )[0]
            for sign in (-1, 1)
        ]
        told = sum(float((gradients[name] * step[name]).sum()) for name in weights)
        assert (losses[1] - losses[0]) / (2 * reach) == pytest.approx(told, rel=0.05), kind


def test_llama_cpp_computes_the_model_as_it_was_trained(tmp_path: Path, tokenizer: tiny_model.Tokenizer) -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    weights = tiny_model.train(tokenizer.encode(TRAINED[:20_000]), steps=1, seed=3)
    for name, each in weights.items():
        weights[name] = each if each.ndim == 1 else each * np.float32(4)  # So that what is read tells.
    path = tmp_path / "tiny.gguf"
    tiny_model.write_model(path, weights, tokenizer)
    engine = llama_cpp.Llama(str(path), n_ctx=256, n_threads=1, logits_all=True, verbose=False)
    text = TRAINED[5000:5400]
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


def test_the_same_seed_trains_the_same_model(tokenizer: tiny_model.Tokenizer) -> None:
    tokens = tokenizer.encode(TRAINED[:20_000])
    first, second, other = (tiny_model.train(tokens, steps=1, seed=seed) for seed in (4, 4, 5))
    assert all((first[name] == second[name]).all() for name in first)
    assert any((first[name] != other[name]).any() for name in first)


def test_the_right_choice_goes_on_as_the_text_does() -> None:
    whole = " ".join(HELD.split())
    asked = list(tiny_model.questions(HELD, 7))
    assert asked == list(tiny_model.questions(HELD, 7))
    assert len(asked) == tiny_model.QUESTIONS
    for each in asked:
        prompt, choices, answer = each["prompt"], each["choices"], each["answer"]
        assert isinstance(choices, list)
        assert f"{prompt} {choices[answer]}" in whole  # type: ignore[index]
    assert HELD[:2000] not in TRAINED


def recomputed(name: str, folder: Path) -> tuple[PlanResult, str]:
    """A benchmark's results from its archive's sessions, and the section they give."""
    held = read_archive(TARGET / f"{name}.zip", folder)
    result = results_of(held.plan, held.finished)
    sentences = conclusions_of(result).sentences
    page = text_of((REPORTS / f"study-{name}.html").read_text("utf-8"))
    assert is_told(study_of(held.plan, result, View(), sentences), page) == []
    return result, section(held.plan, result, View(), sentences)


@pytest.mark.parametrize("name", ["speed", "quality"])
def test_every_number_of_the_example_study_follows_from_its_sessions(name: str, tmp_path: Path) -> None:
    result, text = recomputed(name, tmp_path)
    assert (TARGET / f"{name}.md").read_text("utf-8") == text
    tests = [test for setting in result.settings for test in setting.tests]
    assert len(tests) == 2 * len(result.settings)
    assert all(len(test.repetitions) >= 5 and test.j_per_token is not None for test in tests)
    assert all(setting.simulated and not setting.problems for setting in result.settings)
    assert text.count("simulated") > 5
    for setting in result.settings:
        label, load = setting.setting.model.label, setting.load
        assert load is not None
        assert (" from " in label) == (name == "speed" and not label.endswith(("Q4_1", "Q4_K_M"))), label
        assert (setting.quality is not None) == (name == "quality")
