"""Keys, values and state: figures that are known from the library and from the models' makers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from edgetop.core.gguf import GgufArray, GgufHeader, Tensor, Value
from edgetop.core.sources import Unavailable
from edgetop.fit.kv_cache import kv_bytes
from edgetop.fit.model_facts import ModelFacts, facts_of

MIB = 2**20


def model(
    architecture: str, n_layer: int, n_embd: int, n_head: int, n_head_kv: int, **keys: Value | list[bool]
) -> ModelFacts:
    """Facts of a model with keys in every layer."""
    metadata: dict[str, Value] = {
        "general.architecture": architecture,
        f"{architecture}.context_length": 8192,
        f"{architecture}.block_count": n_layer,
        f"{architecture}.embedding_length": n_embd,
        f"{architecture}.feed_forward_length": n_embd,
        f"{architecture}.attention.head_count": n_head,
        f"{architecture}.attention.head_count_kv": n_head_kv,
    }
    for key, value in keys.items():
        held = GgufArray(len(value), tuple(value)) if isinstance(value, list) else value
        metadata[f"{architecture}.{key.replace('__', '.')}"] = held
    tensors = tuple(Tensor(f"blk.{layer}.attn_k.weight", (32, 32), "f16", 0, 2048) for layer in range(n_layer))
    return facts_of([GgufHeader(3, metadata, tensors, 0)], source="test.gguf", sizes_bytes=[1])


SMOLLM2 = model("llama", 30, 576, 9, 3)


def test_smollm2_keeps_what_the_library_says() -> None:
    assert kv_bytes(SMOLLM2, n_ctx=2048) == 45 * MIB
    assert kv_bytes(SMOLLM2, n_ctx=2048, type_k="q8_0", type_v="q8_0") == 30 * 2048 * 2 * 204


def test_the_context_is_rounded_up_to_256() -> None:
    assert kv_bytes(SMOLLM2, n_ctx=1) == kv_bytes(SMOLLM2, n_ctx=256)
    assert kv_bytes(SMOLLM2, n_ctx=257) == kv_bytes(SMOLLM2, n_ctx=512)


def test_a_sliding_window_keeps_the_window_and_one_micro_batch() -> None:
    gemma3_270m = model(
        "gemma3", 18, 640, 4, 1,
        attention__sliding_window=512, attention__key_length=256, attention__value_length=256,
    )  # fmt: skip
    assert kv_bytes(gemma3_270m, n_ctx=32768) == 111 * MIB
    assert kv_bytes(gemma3_270m, n_ctx=32768, swa_full=True) == 576 * MIB
    assert kv_bytes(gemma3_270m, n_ctx=32768, n_ubatch=256) == (96 + 15 * 768 // 1024) * MIB + MIB // 4


def test_the_file_may_list_which_layers_see_a_window() -> None:
    listed = model("gemma4", 4, 640, 4, 1, attention__sliding_window=512, attention__key_length=256,
                   attention__value_length=256, attention__key_length_swa=128, attention__value_length_swa=128,
                   attention__sliding_window_pattern=[True, True, True, False])  # fmt: skip
    assert kv_bytes(listed, n_ctx=8192) == 8192 * 2 * 256 * 2 + 3 * 1024 * 2 * 128 * 2


def test_a_window_that_the_library_ignores_is_no_window() -> None:
    assert kv_bytes(model("llama", 30, 576, 9, 3, attention__sliding_window=512), n_ctx=2048) == 45 * MIB


def test_latent_attention_keeps_one_compressed_key_and_no_values() -> None:
    deepseek_v2_lite = model(
        "deepseek2", 27, 2048, 16, 1, attention__key_length=576, attention__value_length=512,
        attention__key_length_mla=192, attention__value_length_mla=128,
    )  # fmt: skip
    assert kv_bytes(deepseek_v2_lite, n_ctx=4096) == 27 * 4096 * 576 * 2


def test_layers_that_share_or_only_predict_ahead_keep_nothing() -> None:
    shared = model("gemma4", 35, 1536, 8, 1, attention__shared_kv_layers=20, attention__key_length=256,
                   attention__value_length=256, attention__sliding_window=0)  # fmt: skip
    assert kv_bytes(shared, n_ctx=1024) == 15 * 1024 * 2 * 256 * 2
    ahead = model("deepseek2", 62, 7168, 128, 1, nextn_predict_layers=1, attention__key_length=576,
                  attention__value_length=512, attention__key_length_mla=192,
                  attention__value_length_mla=128)  # fmt: skip
    assert kv_bytes(ahead, n_ctx=1024) == 61 * 1024 * 576 * 2


@pytest.mark.parametrize("architecture", ["deepseek32", "minimax-m3"])
def test_caches_of_which_no_formula_is_known_are_missing_with_the_reason(architecture: str) -> None:
    found = kv_bytes(model(architecture, 2, 64, 4, 2), n_ctx=512)
    assert isinstance(found, Unavailable)
    assert architecture in found.reason


def test_a_file_that_does_not_tell_its_heads_is_missing() -> None:
    without = {key: value for key, value in SMOLLM2.metadata.items() if "head_count" not in key}
    assert isinstance(kv_bytes(replace(SMOLLM2, metadata=without), n_ctx=512), Unavailable)


@given(st.integers(1, 2**20), st.integers(1, 2**20))
def test_more_context_never_takes_less(shorter: int, longer: int) -> None:
    shorter, longer = sorted((shorter, longer))
    one, other = kv_bytes(SMOLLM2, n_ctx=shorter), kv_bytes(SMOLLM2, n_ctx=longer)
    assert isinstance(one, int)
    assert isinstance(other, int)
    assert one <= other
