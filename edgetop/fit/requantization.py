"""The facts that a model would have in another quantization, so that it can be assessed without being made."""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from edgetop.core.gguf import GgufHeader, Tensor
from edgetop.core.gguf_types import FILE_TYPES, TENSOR_TYPES
from edgetop.fit.model_facts import ModelFacts, facts_of

_PACKING = {packing.name: packing for packing in TENSOR_TYPES.values()}
_NUMBERS = {label: number for number, label in FILE_TYPES.items()}
_INSTEAD = {"q2_K": "q4_0", "q3_K": "q4_0", "q4_K": "q5_0", "q5_K": "q5_1", "q6_K": "q8_0"}
"""What llama.cpp takes where a row does not divide into blocks of 256 (llama-quant.cpp, tensor_type_fallback)."""


class Mix(NamedTuple):
    """How llama.cpp makes a quantization."""

    usual: str
    sensitive: str
    """For half of the value and down projections."""
    output: str


MIXES: dict[str, Mix] = {
    "Q8_0": Mix("q8_0", "q8_0", "q8_0"),
    "Q6_K": Mix("q6_K", "q6_K", "q6_K"),
    "Q5_K_M": Mix("q5_K", "q6_K", "q6_K"),
    "Q4_K_M": Mix("q4_K", "q6_K", "q6_K"),
    "Q4_0": Mix("q4_0", "q4_0", "q6_K"),
    "Q3_K_M": Mix("q3_K", "q5_K", "q6_K"),
    "Q2_K": Mix("q2_K", "q3_K", "q6_K"),
}
"""After llama_tensor_get_type in llama-quant.cpp, the largest first; the exceptions of single architectures and of very
large models are left out, which moves the size by a few per cent."""


def requantized(facts: ModelFacts, label: str) -> ModelFacts:
    """The facts of the same model with the label of another quantization, one of MIXES."""
    mix = MIXES[label]
    tied = all(tensor.name != "output.weight" for tensor in facts.tensors)
    tensors = tuple(_requantized(tensor, mix, tied=tied) for tensor in facts.tensors)
    metadata = {**facts.metadata, "general.file_type": _NUMBERS[label]}
    weights_bytes = sum(tensor.size_bytes for tensor in tensors)
    made = facts_of(
        [GgufHeader(3, metadata, tensors, 0)],
        source=facts.source,
        sizes_bytes=[facts.size_bytes - facts.tensor_bytes + weights_bytes],
        files=facts.files,
    )
    return replace(made, name=facts.name)


def _requantized(tensor: Tensor, mix: Mix, *, tied: bool) -> Tensor:
    # Norms, biases and the router of a mixture of experts stay as they are.
    if len(tensor.shape) < 2 or not tensor.name.endswith("weight") or "_norm" in tensor.name:
        return tensor
    if "ffn_gate_inp" in tensor.name or tensor.type_name not in _PACKING:
        return tensor
    kind = _divisible(_kind_of(tensor.name, mix, tied=tied), tensor.shape[0])
    packing = _PACKING[kind]
    size_bytes = tensor.elements // packing.block_elements * packing.block_bytes
    return Tensor(tensor.name, tensor.shape, kind, tensor.offset, size_bytes)


def _kind_of(name: str, mix: Mix, *, tied: bool) -> str:
    if name == "output.weight" or (tied and name == "token_embd.weight"):
        return mix.output
    layer = name.split(".")[1] if name.startswith("blk.") else ""
    if any(part in name for part in ("attn_v.", "ffn_down")) and layer.isdigit() and int(layer) % 2:
        return mix.sensitive
    return mix.usual


def _divisible(kind: str, row: int) -> str:
    """`kind`, or what takes its place where rows do not divide into its blocks."""
    if row % _PACKING[kind].block_elements == 0:
        return kind
    kind = _INSTEAD.get(kind, kind)
    return kind if row % _PACKING[kind].block_elements == 0 else "f16"
