"""Which weights are kept twice on which processor."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgetop.fit.memory import repacking, usual_features
from edgetop.fit.model_facts import ModelFacts, read_facts
from tests.support.gguf_files import write_model

AVX2, AVX512 = frozenset({"AVX2"}), frozenset({"AVX2", "AVX512"})
PI_4, PI_5 = frozenset({"NEON"}), frozenset({"NEON", "DOTPROD"})


def facts(folder: Path, kind: str = "llama", weights: str = "q4_0") -> ModelFacts:
    return read_facts(write_model(folder / f"{kind}-{weights}.gguf", kind, weights=weights))


def matrices_bytes(model: ModelFacts) -> int:
    """Bytes of everything that is multiplied."""
    return sum(
        tensor.size_bytes for tensor in model.tensors if len(tensor.shape) > 1 and tensor.name != "token_embd.weight"
    )


@pytest.mark.parametrize(
    ("weights", "features", "copied"),
    [
        ("q4_0", AVX2, True),
        ("q4_0", PI_5, True),
        ("q4_0", PI_4, False),
        ("q4_0", frozenset(), False),
        ("q8_0", AVX2, False),
        ("q8_0", AVX512, False),
        ("q8_0", PI_5, True),
        ("f16", PI_5, False),
    ],
)
def test_type_and_instructions_decide(tmp_path: Path, weights: str, features: frozenset[str], *, copied: bool) -> None:
    model = facts(tmp_path, weights=weights)
    found = repacking(model, features)
    # The output matrix has 261 rows, no multiple of 8 or 4, so it stays as it is.
    output = next(tensor.size_bytes for tensor in model.tensors if tensor.name == "output.weight")
    expected = matrices_bytes(model) - output if copied else 0
    assert found.size_bytes == expected
    assert ("blk.0.attn_q.weight" in found.copied) is copied
    assert ("blk.0.attn_q.weight" in found.in_place) is not copied


def test_experts_are_repacked_and_the_embedding_stays(tmp_path: Path) -> None:
    found = repacking(facts(tmp_path, "mixtral"), AVX2)
    assert "blk.0.ffn_up_exps.weight" not in found.in_place
    assert "token_embd.weight" in found.in_place


def test_nothing_is_repacked_where_it_is_not_wanted(tmp_path: Path) -> None:
    assert repacking(facts(tmp_path), AVX2, wanted=False).size_bytes == 0


def test_layers_that_only_predict_ahead_are_neither_copied_nor_mapped(tmp_path: Path) -> None:
    found = repacking(facts(tmp_path, "deepseek2-ahead", "f32"), AVX2)
    assert "blk.2.attn_norm.weight" in found.in_place
    assert not any(name.startswith("blk.3.") for name in found.in_place)


def test_a_machine_has_the_instructions_that_published_builds_use() -> None:
    assert usual_features("x86_64") == AVX2
    assert usual_features("aarch64") == usual_features("arm64") == PI_5
    assert usual_features("riscv64") == frozenset()
