"""Which part of each weight tensor is read to decode one token.

Tensor names are llama.cpp's, and its graphs say what is multiplied, what is looked up by rows and what is left alone
(llama-arch.cpp and src/models of llama.cpp 0c1e57098).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from edgetop.core.gguf import GgufHeader, Tensor

Use = Literal["multiplied", "looked up", "unused", "not loaded"]

_BLOCK = re.compile(r"blk\.(\d{1,6})\.(.+)")
_EXPERTS = re.compile(r"ffn_(?:gate|up|down|gate_up)_(?:ch)?exps\.")
_LOOKED_UP = frozenset({"per_layer_token_embd.weight", "position_embd.weight", "token_types.weight"})
_NOT_FOR_DECODING = ("enc.", "cls.", "dense_2.", "dense_3.")
"""The encoder of T5 runs once per prompt; the others make classes or embeddings."""
_KEY_OR_VALUE = re.compile(r"attn_(?:k|v|k_norm|v_norm)\.")


class ModelShape(Struct, frozen=True, kw_only=True):
    """What the use of a tensor depends on beside its name."""

    n_layer: int
    n_layer_ahead: int
    """Layers at the end that predict tokens further ahead (MTP); plain decoding leaves them alone."""
    n_layer_shared_kv: int
    """Layers at the end that attend to the keys and values of an earlier one and compute none."""
    n_expert: int
    n_expert_used: tuple[int, ...]
    """Experts a token uses, one number for all layers or one per layer; empty where the file does not say."""
    tied: bool
    """The token embedding is the output matrix too."""


class TensorUse(Struct, frozen=True):
    """How a tensor takes part in decoding one token."""

    use: Use
    share: float
    """Part of its bytes that is read, 0 to 1."""


_WHOLE = TensorUse("multiplied", 1.0)
_UNUSED = TensorUse("unused", 0.0)
_NOT_LOADED = TensorUse("not loaded", 0.0)


def shape_of(header: GgufHeader) -> ModelShape:
    """The shape of a model whose metadata and tensors, of all files, are in one header."""

    def count(key: str) -> int:
        return max(0, header.whole(f"{header.architecture}.{key}") or 0)

    embeds = count("pooling_type") > 0 or header.metadata.get(f"{header.architecture}.attention.causal") is False
    return ModelShape(
        n_layer=count("block_count"),
        n_layer_ahead=count("nextn_predict_layers"),
        n_layer_shared_kv=count("attention.shared_kv_layers"),
        n_expert=count("expert_count"),
        n_expert_used=header.whole_numbers(f"{header.architecture}.expert_used_count") or (),
        tied=not embeds and not any(tensor.name == "output.weight" for tensor in header.tensors),
    )


def uses_of(tensors: Sequence[Tensor], shape: ModelShape) -> list[TensorUse]:
    """How much of each tensor decoding one token reads."""
    return [_use_of(tensor, shape) for tensor in tensors]


def _use_of(tensor: Tensor, shape: ModelShape) -> TensorUse:
    name = tensor.name
    if name == "token_embd.weight":
        return _WHOLE if shape.tied else _row(tensor)
    if name in _LOOKED_UP:
        return _row(tensor)
    if name.startswith(_NOT_FOR_DECODING):
        return _UNUSED
    block = _BLOCK.fullmatch(name)
    return _WHOLE if block is None else _use_in_block(tensor, int(block[1]), block[2], shape)


def _use_in_block(tensor: Tensor, layer: int, name: str, shape: ModelShape) -> TensorUse:
    if shape.n_layer - shape.n_layer_ahead <= layer < shape.n_layer:
        return _NOT_LOADED
    if shape.n_layer - shape.n_layer_shared_kv <= layer < shape.n_layer and _KEY_OR_VALUE.match(name):
        return _UNUSED
    if name.startswith("vis_"):  # CogVLM's experts for images
        return _UNUSED
    if _EXPERTS.match(name) and tensor.shape:
        return TensorUse("multiplied", _share(shape, layer, tensor.shape[-1]))
    if name.startswith("ffn_gate_tid2eid"):  # a token's experts, from a table
        return _row(tensor)
    return _WHOLE


def _share(shape: ModelShape, layer: int, n_expert: int) -> float:
    """Part of the experts that one token uses in a layer; all of them where the file does not say."""
    used = shape.n_expert_used
    if not used:
        return 1.0
    number = used[layer] if layer < len(used) else used[0]
    return min(1.0, max(0, number) / n_expert)


def _row(tensor: Tensor) -> TensorUse:
    return TensorUse("looked up", tensor.shape[0] / tensor.elements if tensor.shape else 1.0)
