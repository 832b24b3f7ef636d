"""Models by their published dimensions: facts without a file; what llama.cpp makes of each quantization.

`models.csv` beside this module holds the models that are worth downloading, with the source and date of each. The
tensors of a model follow from its dimensions, and the type of each tensor from llama.cpp's own rules, so that sizes are
computed, not stated.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.gguf import FILE_TYPES, TENSOR_TYPES, GgufArray, GgufHeader, Tensor, Value
from edgetop.fit.model_facts import ModelFacts, facts_of

_TABLE = Path(__file__).with_name("models.csv")
_PACKING = {packing.name: packing for packing in TENSOR_TYPES.values()}
_ALIGNMENT_BYTES = 32
_NUMBERS = {label: number for number, label in FILE_TYPES.items()}
_INSTEAD = {
    "q2_K": "q4_0", "q3_K": "iq4_nl", "q4_K": "q5_0", "q5_K": "q5_1", "q6_K": "q8_0", "iq3_xxs": "iq4_nl",
    "iq3_s": "iq4_nl", "iq4_xs": "iq4_nl",
}  # fmt: skip
"""What llama.cpp takes where a row does not divide into blocks of 256 (llama-quant.cpp, tensor_type_fallback)."""


class Mix(NamedTuple):
    """How llama.cpp makes a quantization; a part that is empty is made as usual."""

    usual: str
    value: str = ""
    """Value projections, `value_more` those of layers that count more, as `down_more` below."""
    value_more: str = ""
    down: str = ""
    down_more: str = ""
    joined: str = ""
    """Attention output."""
    output: str = "q6_K"
    some: str = "more"
    """Which layers count more: `more` as use_more_bits has it, `eighth` the first eighth of them."""


MIXES: dict[str, Mix] = {
    "F16": Mix("f16", output="f16"),
    "Q8_0": Mix("q8_0", output="q8_0"),
    "Q6_K": Mix("q6_K"),
    "Q5_1": Mix("q5_1"),
    "Q5_K_M": Mix("q5_K", value_more="q6_K", down_more="q6_K"),
    "Q5_0": Mix("q5_0"),
    "Q5_K_S": Mix("q5_K"),
    "Q4_1": Mix("q4_1"),
    "Q4_K_M": Mix("q4_K", value_more="q6_K", down_more="q6_K"),
    "Q4_K_S": Mix("q4_K", value_more="q5_K", down_more="q5_K", some="eighth"),
    "IQ4_NL": Mix("iq4_nl", value_more="q5_K", down_more="q5_K", some="eighth"),
    "Q4_0": Mix("q4_0"),
    "IQ4_XS": Mix("iq4_xs", value_more="q5_K", down_more="q5_K", some="eighth"),
    "Q3_K_L": Mix("q3_K", value="q5_K", down="q5_K", joined="q5_K"),
    "Q3_K_M": Mix("q3_K", value="q4_K", value_more="q5_K", down="q4_K", down_more="q5_K", joined="q4_K", some="eighth"),
    "IQ3_M": Mix("iq3_s", value="q4_K", down="iq3_s", down_more="q4_K", joined="q4_K", some="eighth"),
    "Q3_K_S": Mix("q3_K"),
    "IQ3_XS": Mix("iq3_s"),
    "Q2_K": Mix("q2_K", value="q3_K", down="q3_K", joined="q3_K"),
}
"""After llama_tensor_get_type in llama-quant.cpp, the largest first; the exceptions of single architectures and of very
large models are left out, which moves the size by a few per cent."""


def requantized(facts: ModelFacts, label: str) -> ModelFacts:
    """The facts of the same model with the label of another quantization, one of MIXES."""
    tied = all(tensor.name != "output.weight" for tensor in facts.tensors)
    tensors = tuple(
        _in_order(_requantized(tensor, label, tied=tied, n_layer=facts.n_layer or 1) for tensor in facts.tensors)
    )
    weights_bytes = sum(tensor.size_bytes for tensor in tensors)
    made = facts_of(
        [GgufHeader(3, {**facts.metadata, "general.file_type": _NUMBERS[label]}, tensors, 0)],
        source=facts.source,
        sizes_bytes=[facts.size_bytes - facts.tensor_bytes + weights_bytes],
        files=facts.files,
    )
    return replace(made, name=facts.name)


def _in_order(tensors: Iterable[Tensor]) -> Iterator[Tensor]:
    """One behind the other, as a file has them."""
    offset = 0
    for tensor in tensors:
        yield Tensor(tensor.name, tensor.shape, tensor.type_name, offset, tensor.size_bytes)
        offset += -(-tensor.size_bytes // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES


def _requantized(tensor: Tensor, label: str, *, tied: bool, n_layer: int) -> Tensor:
    # Norms, biases and the router of a mixture of experts stay as they are.
    if len(tensor.shape) < 2 or not tensor.name.endswith("weight") or "_norm" in tensor.name:
        return tensor
    if (
        "ffn_gate_inp" in tensor.name
        or ".conv." in tensor.name
        or "conv1d" in tensor.name
        or tensor.type_name not in _PACKING
    ):
        return tensor
    kind = _divisible(_kind_of(tensor.name, MIXES[label], tied=tied, n_layer=n_layer), tensor.shape[0])
    packing = _PACKING[kind]
    size_bytes = tensor.elements // packing.block_elements * packing.block_bytes
    return Tensor(tensor.name, tensor.shape, kind, tensor.offset, size_bytes)


def _kind_of(name: str, mix: Mix, *, tied: bool, n_layer: int) -> str:
    if name == "output.weight" or (tied and name == "token_embd.weight"):
        return mix.output
    number = name.split(".")[1] if name.startswith("blk.") else ""
    layer = int(number) if number.isdecimal() else 0
    eighth = n_layer // 8
    more = layer < eighth
    if mix.some == "more":
        more = more or layer >= 7 * n_layer // 8 or (layer - eighth) % 3 == 2
    if "attn_v." in name:
        return (mix.value_more if more else "") or mix.value or mix.usual
    if "ffn_down" in name:
        return (mix.down_more if more else "") or mix.down or mix.usual
    return (mix.joined or mix.usual) if "attn_output" in name else mix.usual


def _divisible(kind: str, row: int) -> str:
    """`kind`, or what takes its place where rows do not divide into its blocks."""
    if row % _PACKING[kind].block_elements == 0:
        return kind
    kind = _INSTEAD.get(kind, kind)
    return kind if row % _PACKING[kind].block_elements == 0 else "f16"


class Listed(Struct, frozen=True, eq=False, kw_only=True):
    """A model of the table."""

    name: str
    repository: str
    """On Hugging Face, of its GGUF files; empty where none is named."""
    quantizations: tuple[str, ...]
    """In which it can be downloaded there."""
    license: str
    source: str
    date: str
    """Of its publication, year and month."""
    stated: Mapping[str, int]
    """Bytes of the files by quantization, where somebody has looked (`benchmarks/refresh_models.py`)."""
    row: Mapping[str, str]
    """All columns."""

    def reference(self, quantization: str) -> str:
        """What `-m` takes."""
        return f"hf:{self.repository}:{quantization}" if self.repository else self.name

    def facts(self, quantization: str) -> ModelFacts:
        """What its file says, one of MIXES, without a vocabulary: sizes are computed."""
        facts = requantized(_unquantized(self), quantization)
        size_bytes = self.stated.get(quantization, facts.size_bytes)
        return replace(facts, source=self.reference(quantization), name=self.name, size_bytes=size_bytes)


@cache
def listed_models(table: Path = _TABLE) -> tuple[Listed, ...]:
    """The models of a table in the form of `models.csv`."""
    with table.open(newline="", encoding="utf-8") as opened:
        return tuple(
            Listed(
                name=row["name"],
                repository=row["repository"],
                quantizations=tuple(row["quantizations"].split()),
                license=row["license"],
                source=row["source"],
                date=row["date"],
                stated={name: int(size) for name, _, size in (each.partition("=") for each in row["sizes"].split())},
                row=row,
            )
            for row in csv.DictReader(opened)
        )


_WINDOWS = {"gemma3": (26, 512, 1024), "gemma2": (0, 4096, 4096)}
"""Sliding windows by architecture: of models with up to so many layers, and of larger ones, as config.json of google's
models has them."""

_NORMED_HEADS = frozenset({"qwen3", "qwen3moe", "gemma3", "lfm2"})
_NORMED_RESULTS = frozenset({"gemma2", "gemma3", "olmo2"})
_BIASED = frozenset({"qwen2"})


@cache
def _unquantized(model: Listed) -> ModelFacts:
    row = model.row
    architecture = row["architecture"]
    numbers = {name: int(row[name] or 0) for name in ("n_layer", "n_embd", "n_head", "n_head_kv", "head", "n_vocab")}
    attending = {int(layer) for layer in row["layers_attending"].split()} or set(range(numbers["n_layer"]))
    heads_kv = tuple(numbers["n_head_kv"] * (layer in attending) for layer in range(numbers["n_layer"]))
    metadata: dict[str, Value] = {
        "general.architecture": architecture, "general.name": model.name, "general.license": model.license,
        f"{architecture}.block_count": numbers["n_layer"], f"{architecture}.embedding_length": numbers["n_embd"],
        f"{architecture}.feed_forward_length": int(row["n_ff"]), f"{architecture}.context_length": int(row["n_ctx"]),
        f"{architecture}.vocab_size": numbers["n_vocab"], f"{architecture}.attention.head_count": numbers["n_head"],
        f"{architecture}.attention.head_count_kv": numbers["n_head_kv"] if len(attending) == numbers["n_layer"]
        else GgufArray(len(heads_kv), heads_kv),
        f"{architecture}.attention.key_length": numbers["head"],
        f"{architecture}.attention.value_length": numbers["head"],
        f"{architecture}.attention.layer_norm_rms_epsilon": 1e-5,
        "tokenizer.chat_template": "{{ messages }}",
    }  # fmt: skip
    if architecture in _WINDOWS:
        up_to, short, long = _WINDOWS[architecture]
        metadata[f"{architecture}.attention.sliding_window"] = short if numbers["n_layer"] <= up_to else long
    if len(attending) != numbers["n_layer"]:
        metadata[f"{architecture}.shortconv.l_cache"] = 3
    if architecture == "granite":
        metadata |= {f"granite.{name}": 1.0 for name in ("logit_scale", "residual_scale", "embedding_scale")}
    if row["experts"]:
        metadata |= {
            f"{architecture}.expert_count": int(row["experts"]),
            f"{architecture}.expert_used_count": int(row["used"]),
            f"{architecture}.expert_feed_forward_length": int(row["n_ff"]),
        }
    tensors = tuple(
        Tensor(name, shape, kind, 0, math.prod(shape) * _PACKING[kind].block_bytes)
        for name, shape, kind in _tensors(architecture, numbers, row, attending)
    )
    size_bytes = sum(tensor.size_bytes for tensor in tensors)
    return facts_of([GgufHeader(3, metadata, tensors, 0)], source=model.name, sizes_bytes=[size_bytes])


def _tensors(
    architecture: str, numbers: Mapping[str, int], row: Mapping[str, str], attending: set[int]
) -> Iterator[tuple[str, tuple[int, ...], str]]:
    """Name, shape and type of each tensor of the model in 16 bits, as llama.cpp converts it."""
    embd, head, ff = numbers["n_embd"], numbers["head"], int(row["n_ff"])
    width, width_kv = numbers["n_head"] * head, numbers["n_head_kv"] * head
    yield "token_embd.weight", (embd, numbers["n_vocab"]), "f16"
    if row["tied"] == "0":
        yield "output.weight", (embd, numbers["n_vocab"]), "f16"
    yield f"{'token_embd' if architecture == 'lfm2' else 'output'}_norm.weight", (embd,), "f32"
    experts, fused = int(row["experts"] or 0), architecture == "phi3"
    for layer in range(numbers["n_layer"]):
        block = f"blk.{layer}."
        norms = [] if architecture == "olmo2" else ["attn_norm", "ffn_norm"]
        if architecture in _NORMED_RESULTS:
            norms += ["post_attention_norm", "post_ffw_norm"]
        yield from ((f"{block}{name}.weight", (embd,), "f32") for name in norms)
        if layer in attending:
            widths = {"qkv": width + 2 * width_kv} if fused else {"q": width, "k": width_kv, "v": width_kv}
            yield from ((f"{block}attn_{name}.weight", (embd, wide), "f16") for name, wide in widths.items())
            yield f"{block}attn_output.weight", (width, embd), "f16"
            if architecture in _BIASED:
                yield from ((f"{block}attn_{name}.bias", (wide,), "f32") for name, wide in widths.items())
            if architecture in _NORMED_HEADS:
                yield from ((f"{block}attn_{name}_norm.weight", (head,), "f32") for name in "qk")
            if architecture == "olmo2":
                yield from ((f"{block}attn_{name}_norm.weight", (widths[name],), "f32") for name in "qk")
        else:
            yield f"{block}shortconv.in_proj.weight", (embd, 3 * embd), "f16"
            yield f"{block}shortconv.conv.weight", (3, embd), "f32"
            yield f"{block}shortconv.out_proj.weight", (embd, embd), "f16"
        suffix, count = ("_exps", (experts,)) if experts else ("", ())
        if experts:
            yield f"{block}ffn_gate_inp.weight", (embd, experts), "f32"
        up = {"up": 2 * ff} if fused else {"gate": ff, "up": ff}
        yield from ((f"{block}ffn_{name}{suffix}.weight", (embd, wide, *count), "f16") for name, wide in up.items())
        yield f"{block}ffn_down{suffix}.weight", (ff, embd, *count), "f16"
