"""What a file is for, decided from its header in one place."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgetop.core.errors import ModelError
from edgetop.core.gguf import read_header
from edgetop.fit.model_facts import read_facts
from edgetop.inference.catalog import find_models, problem_of
from edgetop.inference.engine import file_failure
from edgetop.io.model_file import PURPOSES, PurposeName, purpose_of, require_model
from tests.support.gguf_architectures import Setting, Shape
from tests.support.gguf_files import file_bytes, model_bytes

_WEIGHTS: dict[str, Shape] = {"token_embd.weight": (64, 32)}
_ARCHITECTURE = "general.architecture"
_LAYERS: dict[str, Setting] = {"qwen3.block_count": 1, _ARCHITECTURE: "qwen3"}

FILES: dict[str, tuple[PurposeName, dict[str, Setting], dict[str, Shape]]] = {
    "llama": ("text", {_ARCHITECTURE: "llama"}, _WEIGHTS),
    "a decoder that keeps all vectors": ("text", {**_LAYERS, "qwen3.pooling_type": 0}, _WEIGHTS),
    "the first part of a split model": ("text", {_ARCHITECTURE: "llama", "split.count": 2}, {}),
    "a later part": ("text", {"split.count": 2, "split.no": 1}, _WEIGHTS),
    "bert": ("embedding", {_ARCHITECTURE: "bert"}, _WEIGHTS),
    "qwen3-embedding": ("embedding", {**_LAYERS, "qwen3.pooling_type": 3}, _WEIGHTS),
    "a decoder made bidirectional": ("embedding", {**_LAYERS, "qwen3.attention.causal": False}, _WEIGHTS),
    "qwen3-reranker": ("reranker", {**_LAYERS, "qwen3.pooling_type": 4}, _WEIGHTS),
    "bge-reranker": ("reranker", {_ARCHITECTURE: "bert"}, _WEIGHTS | {"cls.output.weight": (64, 1)}),
    "t5 encoder": ("encoder", {_ARCHITECTURE: "t5encoder"}, _WEIGHTS),
    "t5": ("rewriting", {_ARCHITECTURE: "t5"}, _WEIGHTS),
    "dream": ("diffusion", {_ARCHITECTURE: "dream", "dream.attention.causal": False}, _WEIGHTS),
    "flux": ("image", {_ARCHITECTURE: "flux"}, {"double_blocks.0.img_attn.qkv.weight": (64, 64)}),
    "stable diffusion without a name": ("image", {}, {"model.diffusion_model.x": (64, 64)}),
    "tensors of nobody": ("unknown", {}, {"x": (64, 64)}),
    "vocoder": ("speech", {_ARCHITECTURE: "wavtokenizer-dec"}, _WEIGHTS),
    "eagle": ("draft", {_ARCHITECTURE: "eagle3"}, _WEIGHTS),
    "projector": ("projector", {_ARCHITECTURE: "clip"}, {"v.patch_embd.weight": (32, 32)}),
    "projector by its type": ("projector", {_ARCHITECTURE: "llama", "general.type": "mmproj"}, _WEIGHTS),
    "adapter": (
        "adapter",
        {_ARCHITECTURE: "llama", "general.type": "adapter"},
        {"blk.0.attn_q.weight.lora_a": (64, 4)},
    ),
    "control vector": ("control vector", {_ARCHITECTURE: "controlvector"}, {"direction.1": (64,)}),
    "importance matrix": ("imatrix", {"general.type": "imatrix"}, {"blk.0.attn_q.weight.in_sum2": (64, 1)}),
    "vocabulary": ("vocabulary", {_ARCHITECTURE: "llama"}, {}),
}


@pytest.mark.parametrize("name", FILES)
def test_a_header_says_what_its_file_is_for(name: str) -> None:
    wanted, metadata, tensors = FILES[name]
    assert purpose_of(read_header(file_bytes(metadata, tensors))).name == wanted


def test_every_purpose_has_a_case_and_words_for_what_to_do() -> None:
    assert {wanted for wanted, _, _ in FILES.values()} == set(PURPOSES)
    assert all(each.words and (each.hint or each.name == "text") for each in PURPOSES.values())


@pytest.mark.parametrize("name", [name for name, (wanted, _, _) in FILES.items() if wanted != "text"])
def test_whoever_asks_gets_the_same_words(name: str, tmp_path: Path) -> None:
    wanted, metadata, tensors = FILES[name]
    file = tmp_path / "file.gguf"
    file.write_bytes(file_bytes(metadata, tensors))
    with pytest.raises(ModelError, match="does not generate text") as of_check:
        read_facts(file)
    assert PURPOSES[wanted].words in of_check.value.what
    with pytest.raises(ModelError) as of_file:
        require_model(file)
    of_engine = file_failure(file)
    assert of_engine is not None
    assert of_engine.reason == "unsupported"
    assert of_check.value.what == of_file.value.what == of_engine.message
    assert of_check.value.hint == of_engine.hint
    found = find_models([tmp_path], {"HOME": str(tmp_path), "HF_HOME": str(tmp_path)})
    (listed,) = [each for each in found if each.path == file]
    assert problem_of(listed) == PURPOSES[wanted].words


def test_a_model_that_generates_text_has_no_problem(tmp_path: Path) -> None:
    file = tmp_path / "tiny.gguf"
    file.write_bytes(model_bytes("llama"))
    require_model(file)
    assert file_failure(file) is None
