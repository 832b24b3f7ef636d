"""Size of what a model remembers of the tokens it has seen: keys, values and the state of recurrent layers.

For one sequence, after llama-kv-cache.cpp, llama-kv-cache-iswa.cpp and llama-memory-recurrent.cpp of llama.cpp
0c1e57098.
"""

from __future__ import annotations

from edgetop.core.engine import KvType
from edgetop.core.gguf_types import TENSOR_TYPES
from edgetop.core.records import Missing
from edgetop.fit.layers import Layer, layers_of
from edgetop.fit.model_facts import ModelFacts

CELLS_STEP = 256
"""The context length, and the cache of a sliding window, are rounded up to a multiple of it."""
N_BATCH_DEFAULT, N_UBATCH_DEFAULT = 2048, 512
"""As llama_context_default_params has them."""
_STATE_BYTES = 4
"""Recurrent state is kept as f32."""
_TYPES = {each.name: each for each in TENSOR_TYPES.values()}


def kv_bytes(
    facts: ModelFacts,
    *,
    n_ctx: int,
    type_k: KvType = "f16",
    type_v: KvType = "f16",
    swa_full: bool = False,
    n_ubatch: int = N_UBATCH_DEFAULT,
) -> int | Missing:
    """Bytes of keys, values and recurrent state for a context of `n_ctx` tokens, or why no formula is known.

    A layer with a sliding window keeps the window and one micro-batch, unless `swa_full`.
    """
    layers = layers_of(facts)
    if isinstance(layers, Missing):
        return layers
    total = 0
    for layer in layers:
        cells = cells_of(layer, n_ctx=n_ctx, n_ubatch=n_ubatch, swa_full=swa_full)
        total += cells * (row_bytes(layer.key_width, type_k) + row_bytes(layer.value_width, type_v))
    state = state_bytes(facts, layers)
    return state if isinstance(state, Missing) else total + state


def cells_of(layer: Layer, *, n_ctx: int, n_ubatch: int, swa_full: bool) -> int:
    """For how many tokens a layer keeps keys and values."""
    n_ctx = padded(n_ctx)
    if not layer.window or swa_full:
        return n_ctx
    return padded(min(n_ctx, layer.window + n_ubatch))


def padded(cells: int) -> int:
    """Rounded up to a multiple of 256."""
    return -(-cells // CELLS_STEP) * CELLS_STEP


def row_bytes(width: int, type_name: KvType) -> int:
    """Bytes of `width` numbers of a type; blocks that are not full count whole."""
    packing = _TYPES[type_name]
    return -(-width // packing.block_elements) * packing.block_bytes


def is_quantized(type_name: KvType) -> bool:
    """Whether numbers of this type are packed in blocks."""
    return block_elements(type_name) > 1


def block_elements(type_name: KvType) -> int:
    """Numbers that are packed together; the length of a head has to be a multiple of it."""
    return _TYPES[type_name].block_elements


def state_bytes(facts: ModelFacts, layers: tuple[Layer, ...]) -> int | Missing:
    """Bytes of the state of all recurrent layers."""
    count = sum(layer.recurrent for layer in layers)
    if not count:
        return 0
    numbers = _state_numbers(facts, layers)
    if numbers is None:
        return Missing(f"no formula is known for the state that {facts.architecture} models keep")
    return count * numbers * _STATE_BYTES


def _state_numbers(facts: ModelFacts, layers: tuple[Layer, ...]) -> int | None:
    """Numbers that one recurrent layer keeps: of its convolution or token shift, and its state proper.

    After llama_hparams::n_embd_r and n_embd_s.
    """
    n_embd, n_head = facts.n_embd or 0, layers[0].n_head
    if (head := _count(facts, "wkv.head_size")) > 0:
        shifts = facts.header.whole(f"{facts.architecture}.token_shift_count")
        return (2 if shifts is None else max(0, shifts)) * n_embd + n_embd * head
    if (kept := _count(facts, "shortconv.l_cache")) > 0:
        return n_embd * (kept - 1)
    convolution = max(0, _count(facts, "ssm.conv_kernel") - 1)
    if (head := _count(facts, "kda.head_dim")) > 0:
        return 3 * (convolution or 3) * n_head * head + head * head * n_head
    inner, state = _count(facts, "ssm.inner_size"), _count(facts, "ssm.state_size")
    if not inner or not state:
        return None
    return convolution * (inner + 2 * _count(facts, "ssm.group_count") * state) + state * inner


def _count(facts: ModelFacts, key: str) -> int:
    return max(0, facts.header.whole(f"{facts.architecture}.{key}") or 0)
