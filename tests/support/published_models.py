"""Facts of models that published measurements name: shapes by their cards, sizes by their quantization."""

from __future__ import annotations

from msgspec import Struct

from edgetop.core.gguf import TENSOR_TYPES, GgufHeader, Tensor, Value
from edgetop.fit.model_facts import ModelFacts, facts_of

MIB = 2**20
_PACKING = {packing.name: packing for packing in TENSOR_TYPES.values()}


class Shape(Struct, frozen=True):
    """A model by its card; `n_active` is of a mixture of experts."""

    parameters: float
    n_layer: int
    n_embd: int
    n_head: int
    n_head_kv: int
    n_vocab: int
    tied: bool
    head: int = 0
    """Length of a head where it is not n_embd / n_head."""
    n_active: float = 0.0
    n_attention: int = 0
    """Layers with attention where that is not all of them."""


SHAPES = {
    "smollm2-135m": Shape(0.1345e9, 30, 576, 9, 3, 49_152, tied=True),
    "smollm2-360m": Shape(0.362e9, 32, 960, 15, 5, 49_152, tied=True),
    "lfm2.5-1.2b": Shape(1.17e9, 16, 2048, 32, 8, 65_536, tied=True, n_attention=6),
    "llama-3.2-1b": Shape(1.236e9, 16, 2048, 32, 8, 128_256, tied=True),
    "llama3.2:3b": Shape(3.213e9, 28, 3072, 24, 8, 128_256, tied=True),
    "llama3.1:8b": Shape(8.03e9, 32, 4096, 32, 8, 128_256, tied=False),
    "llama 3.2 3b": Shape(3.213e9, 28, 3072, 24, 8, 128_256, tied=True),
    "llama 3.1 8b": Shape(8.03e9, 32, 4096, 32, 8, 128_256, tied=False),
    "llama 3.3 70b": Shape(70.55e9, 80, 8192, 64, 8, 128_256, tied=False),
    "qwen 3 4b": Shape(4.02e9, 36, 2560, 32, 8, 151_936, tied=True, head=128),
    "qwen 3 8b": Shape(8.19e9, 36, 4096, 32, 8, 151_936, tied=False, head=128),
    "qwen 3 32b": Shape(32.76e9, 64, 5120, 64, 8, 151_936, tied=False, head=128),
    "qwen 3 30b-a3b": Shape(30.53e9, 48, 2048, 32, 4, 151_936, tied=False, head=128, n_active=3.35e9),
    "qwen2.5 7b": Shape(7.62e9, 28, 3584, 28, 4, 152_064, tied=False),
    "gemma 2 2b": Shape(2.61e9, 26, 2304, 8, 4, 256_000, tied=True, head=256),
    "gemma 2 9b": Shape(9.24e9, 42, 3584, 16, 8, 256_000, tied=True, head=256),
    "phi 3.5 3b": Shape(3.82e9, 32, 3072, 32, 32, 32_064, tied=False),
    "llama-3.1-8b": Shape(8.03e9, 32, 4096, 32, 8, 128_256, tied=False),
    "llama-7b": Shape(6.74e9, 32, 4096, 32, 32, 32_000, tied=False),
    "llama2:13b": Shape(13.02e9, 40, 5120, 40, 40, 32_000, tied=False),
    "deepseek-r1:14b": Shape(14.77e9, 48, 5120, 40, 8, 152_064, tied=False),
    "gemma-3-1b": Shape(1.0e9, 26, 1152, 4, 1, 262_144, tied=True, head=256),
    "qwen2.5-1.5b": Shape(1.544e9, 28, 1536, 12, 2, 151_936, tied=True),
    "qwen3.5-2b": Shape(1.9e9, 24, 2048, 8, 2, 248_320, tied=True, head=256, n_attention=6),
    "qwen3-30b-a3b": Shape(30.53e9, 48, 2048, 32, 4, 151_936, tied=False, head=128, n_active=3.35e9),
    "cosmos-reason2-2b": Shape(1.72e9, 28, 2048, 16, 8, 151_936, tied=True, head=128),
}
"""By the beginning of the name, in small letters."""
MIXES: dict[str, dict[str, float]] = {
    "Q8_0": {"q8_0": 1.0},
    "Q4_0": {"q4_0": 1.0},
    "Q4_K_M": {"q4_K": 0.74, "q6_K": 0.26},
    "Q3_K_L": {"q3_K": 0.55, "q5_K": 0.24, "q6_K": 0.21},
    "Q3_K_M": {"q3_K": 0.62, "q4_K": 0.17, "q6_K": 0.21},
    "Q8_K_XL": {"q8_0": 0.85, "f16": 0.15},
    "INT4": {"q4_0": 1.0},
    "W4A16": {"q4_0": 1.0, "f16": 0.0},
    "byteshape 2.70bpw": {"q3_K": 0.3, "iq3_s": 0.2, "q2_K": 0.5},
}
"""Shares of the weights by type, as llama.cpp mixes them in models of this size."""
ODD_MIXES: dict[str, dict[str, dict[str, float]]] = {
    "gemma-3-1b": {
        "Q4_K_M": {"q5_0": 0.60, "q8_0": 0.30, "q4_K": 0.10},
        "Q3_K_M": {"iq4_nl": 0.60, "q8_0": 0.30, "q3_K": 0.10},
    },
    "smollm2-135m": {"Q4_K_M": {"q5_0": 0.58, "q8_0": 0.22, "q6_K": 0.09, "q4_K": 0.11}},
}
"""Rows of 576 and 1152 weights cannot be packed in blocks of 256, and llama.cpp takes other types instead."""


def facts_of_published(model: str, quant: str, file_mb: float | None, *, mebibytes: bool) -> ModelFacts | None:
    """The facts of a model as a table names it; `None` where its shape is not known here."""
    name = model.lower()
    key = next((each for each in SHAPES if name.startswith(each)), None)
    label = next((each for each in MIXES if quant.startswith(each)), None)
    if key is None or label is None:
        return None
    shape = SHAPES[key]
    mix = ODD_MIXES.get(key, {}).get(label) or MIXES[label]
    size_bytes = None if file_mb is None else file_mb * (MIB if mebibytes else 1e6)
    tensors = list(_matrices(shape, mix))
    planned = sum(tensor.size_bytes for tensor in tensors)
    if size_bytes is not None:  # the file is the better witness of how many bits are used
        factor = size_bytes / planned
        tensors = [
            Tensor(each.name, each.shape, each.type_name, 0, round(each.size_bytes * factor)) for each in tensors
        ]
    metadata: dict[str, Value] = {
        "general.architecture": "llama", "general.name": model, "llama.block_count": shape.n_layer,
        "llama.embedding_length": shape.n_embd, "llama.attention.head_count": shape.n_head,
        "llama.attention.head_count_kv": shape.n_head_kv, "llama.vocab_size": shape.n_vocab,
        "llama.context_length": 4096,
    }  # fmt: skip
    if shape.head:
        metadata |= {"llama.attention.key_length": shape.head, "llama.attention.value_length": shape.head}
    if shape.n_active:
        metadata |= {"llama.expert_count": 1000, "llama.expert_used_count": round(1000 * _used_share(shape))}
    return facts_of(
        [GgufHeader(3, metadata, tuple(tensors), 0)], source=model, sizes_bytes=[round(size_bytes or planned)]
    )


def _used_share(shape: Shape) -> float:
    """Part of the experts' weights that a token is multiplied with, all layers and the output being used whole."""
    output = shape.n_vocab * shape.n_embd
    return (shape.n_active - output) / (shape.parameters - 2 * output)


def _matrices(shape: Shape, mix: dict[str, float]) -> list[Tensor]:
    """Embedding, keys and all other weights as one matrix per layer and type."""
    embedding = shape.n_vocab * shape.n_embd
    largest = max(mix, key=lambda kind: mix[kind])
    # The large table of a small model has its own share of the mix.
    table = next((kind for kind in ("f16", "q8_0", "q6_K") if kind in mix), largest)
    named = ["token_embd.weight"] if shape.tied else ["token_embd.weight", "output.weight"]
    tensors = [_tensor(name, (shape.n_embd, shape.n_vocab), table) for name in named]
    rest = shape.parameters - embedding * len(named)
    taken = {table: embedding * len(named)}
    wanted = {kind: max(0.0, share * shape.parameters - taken.get(kind, 0.0)) for kind, share in mix.items()}
    total = sum(wanted.values())
    attention = shape.n_attention or shape.n_layer
    for matrix, (kind, count) in zip(("gate", "up", "down", "norm"), wanted.items(), strict=False):
        per_layer = round(count / total * rest / shape.n_layer)
        for layer in range(shape.n_layer):
            name = f"blk.{layer}.ffn_{matrix}{'_exps' if shape.n_active else ''}.weight"
            tensors.append(_tensor(name, (256, max(1, per_layer // 256), 1000 if shape.n_active else 1), kind))
    tensors += [Tensor(f"blk.{layer}.attn_k.weight", (1,), "f32", 0, 4) for layer in range(attention)]
    tensors += [
        Tensor(f"blk.{layer}.shortconv.conv.weight", (1,), "f32", 0, 4) for layer in range(attention, shape.n_layer)
    ]
    return tensors


def _tensor(name: str, shape: tuple[int, ...], kind: str) -> Tensor:
    packing = _PACKING[kind]
    if shape[-1] == 1000:  # experts: the same weights in a thousand parts
        shape = (shape[0], max(1, shape[1] // 1000), 1000)
    elements = 1
    for length in shape:
        elements *= length
    return Tensor(name, shape, kind, 0, elements * packing.block_bytes // packing.block_elements)
