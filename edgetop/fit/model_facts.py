"""What headers say: shape, weights per token, can it load; the same of published models, without a file.

The bounds are llama.cpp's own (llama-model.cpp and llama-hparams.h of llama.cpp 0c1e57098). What it loads silently,
such as a context length of 0, is let through here as well.

Tensor names are llama.cpp's, and its graphs say what is multiplied, what is looked up by rows and what is left alone
(llama-arch.cpp and src/models of llama.cpp 0c1e57098).

`models.csv` beside this module holds the models that are worth downloading, with the source and date of each. The
tensors of a model follow from its dimensions, and the type of each tensor from llama.cpp's own rules, so that sizes are
computed, not stated.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.engine_choices import LAYERS_MAX
from edgetop.core.errors import ModelError
from edgetop.core.gguf import FILE_TYPES, TENSOR_TYPES, GgufArray, GgufError, GgufHeader, Tensor, Value, layer_of
from edgetop.core.text import one_line
from edgetop.io.model_file import Purpose, purpose_of, read_headers, refused, require_text

_NAMES = """
    afmoe apertus arcee arctic arwkv7 baichuan bailingmoe bailingmoe2 bailingmoe3 bert bitnet bloom chameleon
    chatglm clip codeshell cogvlm cohere2 cohere2moe command-r dbrx deci deepseek deepseek2 deepseek2-ocr
    deepseek32 deepseek4 dflash dots1 dots3note dream eagle3 ernie4_5 ernie4_5-moe eurobert exaone exaone-moe
    exaone4 falcon falcon-h1 gemma gemma-embedding gemma2 gemma3 gemma3n gemma4 gemma4-assistant glm-dsa glm4
    glm4moe glm5-next gpt-oss gpt2 gptj gptneox granite granite_swa granitehybrid granitemoe graniteswitch grok
    grovemoe hrm_text hunyuan-dense hunyuan-moe hunyuan_vl hy_v3 hy_v4 internlm2 jais jais2 jamba jina-bert-v2
    jina-bert-v3 kimi-k3 kimi-linear laguna lfm2 lfm2moe llada llada-moe llama llama-embed llama4 maincoder
    mamba mamba2 maple mellum mimo2 minicpm minicpm3 minimax-01 minimax-m2 minimax-m3 mistral3 mistral4
    modern-bert mpt muse-glimmer nanbeige nemotron nemotron_h nemotron_h_moe neo-bert nomic-bert nomic-bert-moe
    olmo olmo2 olmoe openelm orion paddleocr pangu-embedded phi2 phi3 phimoe plamo plamo2 plamo3 plm pockettts
    qwen qwen2 qwen2moe qwen2vl qwen3 qwen35 qwen35moe qwen3moe qwen3next qwen3tts qwen3vl qwen3vlmoe qwen4exp
    refact rnd1 rwkv6 rwkv6qwen2 rwkv7 seed_oss smallthinker smollm3 spark2_5 stablelm starcoder starcoder2
    step35 t5 t5encoder talkie wavtokenizer-dec xverse
"""

ARCHITECTURES = frozenset(_NAMES.split())

EXPERTS_MAX = 1024
_METADATA_OFFSET = 24
_QUERIES = ("attn_q.weight", "attn_qkv.weight")
_PER_LAYER = ("attention.head_count", "attention.head_count_kv", "feed_forward_length", "expert_used_count")


def check_loadable(header: GgufHeader) -> None:
    """Raise GgufError, with the offset of the key that says it, for a model that llama.cpp cannot load.

    `header` has the metadata and the tensors of all files of a model.
    """
    architecture = header.architecture
    if not architecture:
        raise GgufError(_offset(header, "general.architecture"), "the file does not say its architecture")
    if architecture not in ARCHITECTURES:
        raise GgufError(
            _offset(header, "general.architecture"), f"llama.cpp does not know the architecture {architecture!r}"
        )
    if purpose_of(header).name == "projector":
        return
    n_layer = _required(header, "block_count", LAYERS_MAX)
    if header.tensors:
        _required(header, "embedding_length", 2**32 - 1)
        _required(header, "context_length", 2**32 - 1, lowest=0)
    _check_layers(header, n_layer)
    _check_experts(header)


def _required(header: GgufHeader, key: str, highest: int, *, lowest: int = 1) -> int:
    full = f"{header.architecture}.{key}"
    number = header.whole(full)
    if number is None:
        said = "is not there" if full not in header.metadata else "is not a whole number"
        raise GgufError(_offset(header, full), f"{full} {said}")
    if not lowest <= number <= highest:
        raise GgufError(_offset(header, full), f"{full} is {number}, and llama.cpp takes {lowest} to {highest}")
    return number


def _check_layers(header: GgufHeader, n_layer: int) -> None:
    name = header.architecture
    ahead = header.whole(f"{name}.nextn_predict_layers") or 0
    if not 0 <= ahead < n_layer:
        key = f"{name}.nextn_predict_layers"
        raise GgufError(_offset(header, key), f"{key} is {ahead} of {n_layer} layers")
    for short in _PER_LAYER:
        key = f"{name}.{short}"
        value = header.metadata.get(key)
        if isinstance(value, GgufArray) and value.length != n_layer:
            raise GgufError(_offset(header, key), f"{key} has {value.length} values for {n_layer} layers")
        numbers = header.whole_numbers(key)
        if value is not None and (numbers is None or not all(0 <= number < 2**32 for number in numbers)):
            raise GgufError(_offset(header, key), f"{key} is not a count")
    there = {layer for tensor in header.tensors if (layer := layer_of(tensor.name)[0]) is not None}
    lacking = set(range(n_layer - ahead)) - there
    if there and lacking and name != "deci":  # whose pruned layers may be empty
        key = f"{name}.block_count"
        raise GgufError(_offset(header, key), f"{key} is {n_layer}, but there are no tensors of layer {min(lacking)}")
    _check_heads(header, n_layer)


def _check_heads(header: GgufHeader, n_layer: int) -> None:
    key = f"{header.architecture}.attention.head_count"
    heads = header.n_head
    if heads is None:
        return
    lengths = [f"{header.architecture}.attention.{each}_length" for each in ("key", "value")]
    widest = header.whole(f"{header.architecture}.embedding_length") or 2**32
    for tensor in header.tensors:
        layer, short = layer_of(tensor.name)
        if layer is None or layer >= n_layer or not short.startswith(_QUERIES):
            continue
        count = heads[layer if len(heads) > 1 else 0]
        if not count:
            raise GgufError(_offset(header, key), f"{key} is 0, but layer {layer} attends")
        if count > widest:
            raise GgufError(_offset(header, key), f"{key} is {count}, but an embedding has {widest} numbers")
        for length in lengths:
            if header.metadata.get(length, 1) == 0:
                raise GgufError(_offset(header, length), f"{length} is 0, but layer {layer} attends")


def _check_experts(header: GgufHeader) -> None:
    name = header.architecture
    key = f"{name}.expert_count"
    n_expert = header.whole(key) or 0
    if not 0 <= n_expert <= EXPERTS_MAX:
        raise GgufError(_offset(header, key), f"{key} is {n_expert}, and llama.cpp takes 0 to {EXPERTS_MAX}")
    key = f"{name}.expert_used_count"
    used = max(header.whole_numbers(key) or (0,))
    if name.startswith("hunyuan") and n_expert <= 1:
        return  # llama.cpp takes these for dense
    if used > n_expert or (n_expert and not used):
        raise GgufError(_offset(header, key), f"{key} is {used} of {n_expert} experts")


def _offset(header: GgufHeader, key: str) -> int:
    """Where a key stands, or where the metadata begin for one that is not there."""
    return header.key_offsets.get(key, _METADATA_OFFSET)


Use = Literal["multiplied", "looked up", "unused", "not loaded"]

_EXPERTS = tuple(f"ffn_{part}_{kind}." for part in ("gate", "up", "down", "gate_up") for kind in ("exps", "chexps"))
_LOOKED_UP = frozenset({"per_layer_token_embd.weight", "position_embd.weight", "token_types.weight"})
_NOT_FOR_DECODING = ("enc.", "cls.", "dense_2.", "dense_3.")
"""The encoder of T5 runs once per prompt; the others make classes or embeddings."""

_KEY_OR_VALUE = ("attn_k.", "attn_v.", "attn_k_norm.", "attn_v_norm.")


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
    layer, short = layer_of(name)
    return _WHOLE if layer is None else _use_in_block(tensor, layer, short, shape)


def _use_in_block(tensor: Tensor, layer: int, name: str, shape: ModelShape) -> TensorUse:
    if shape.n_layer - shape.n_layer_ahead <= layer < shape.n_layer:
        return _NOT_LOADED
    if shape.n_layer - shape.n_layer_shared_kv <= layer < shape.n_layer and name.startswith(_KEY_OR_VALUE):
        return _UNUSED
    if name.startswith("vis_"):  # CogVLM's experts for images
        return _UNUSED
    if name.startswith(_EXPERTS) and tensor.shape:
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


Derived = TypeVar("Derived")

_TEXT_MAX = 200
"""Of a name or a license, in characters; a file may hold any number."""


class ModelFacts(Struct, frozen=True, kw_only=True, dict=True):
    """A model of one or several GGUF files. Counts are of weights, sizes in bytes."""

    name: str
    source: str
    """As it was given: a path, https://..., hf:..."""
    files: tuple[str, ...]
    """Paths or addresses of all files, the first one first."""
    size_bytes: int
    """All files together."""
    architecture: str
    file_type: str
    """llama.cpp's label of the quantization, such as `Q4_K_M`; it hides mixes."""
    bits_per_weight: float | None
    """Bits really used per weight; `None` for a file without weights."""
    bytes_by_type: dict[str, int]
    """Bytes of weights by tensor type (`q4_K`, `f32`, ...), most bytes first."""
    parameters: int
    active_parameters: int
    """Without the experts, the layers of multi-token prediction and the per-layer embeddings that a token passes by."""
    tensor_bytes: int
    not_loaded_bytes: int
    """Of these, layers of multi-token prediction, which llama.cpp leaves in the file unless asked for them."""
    n_layer: int | None
    n_embd: int | None
    n_vocab: int | None
    n_ctx_train: int | None
    n_expert: int
    """Experts per layer; 0 for a dense model."""
    n_expert_used: int
    has_template: bool
    """Whether the file brings a chat template."""
    template_bytes: int
    license: str
    """As the file states it; empty if it does not."""
    purpose: Purpose
    """What the file is for."""
    weight_bytes_per_token: int
    """Bytes of weights read to decode one token, at batch 1: each weight once, of the experts the used share, of a
    table that is only looked up one row."""
    compute_parameters: int
    """Weights that one token is multiplied with, which is half the floating-point operations per token."""
    metadata: dict[str, Value]
    """Of all files, the first one first."""
    tensors: tuple[Tensor, ...]
    """Of all files."""

    def derived(self, make: Callable[[ModelFacts], Derived]) -> Derived:
        """What a function makes of these facts, which is made once: a prediction asks for it dozens of times."""
        known: dict[str, Any] = self.__dict__
        name = _name_of(make)
        if name not in known:
            known[name] = make(self)
        found: Derived = known[name]
        return found

    @property
    def is_projector(self) -> bool:
        """The vision or audio part of another model, of no use by itself."""
        return self.purpose.name == "projector"

    @property
    def header(self) -> GgufHeader:
        """Metadata and tensors of all files as one header, for the questions that it answers by name."""
        return self.derived(_header_of)


def _name_of(make: Callable[..., object]) -> str:
    return f"{make.__module__}.{make.__qualname__}"


def _header_of(facts: ModelFacts) -> GgufHeader:
    return GgufHeader(3, facts.metadata, facts.tensors, 0)


def tensor_uses(facts: ModelFacts) -> list[TensorUse]:
    """How much of each tensor decoding one token reads."""
    return facts.derived(_tensor_uses)


def _tensor_uses(facts: ModelFacts) -> list[TensorUse]:
    return uses_of(facts.tensors, shape_of(facts.header))


def facts_of(
    headers: Sequence[GgufHeader],
    *,
    source: str,
    sizes_bytes: Sequence[int],
    files: Sequence[str] = (),
    like: ModelFacts | None = None,
) -> ModelFacts:
    """Put the facts of a model together from the headers of its files, the first one first.

    `sizes_bytes` are the sizes of the files and `files` their paths or addresses, `source` if they are not given.
    `like` has the same metadata and tensors, of other types. Raises ModelError where the files contradict each other,
    and GgufError for what llama.cpp cannot load.
    """
    whole = _joined(headers)
    if like is None:
        check_loadable(whole)
    shape = shape_of(whole)
    every_use = uses_of(whole.tensors, shape) if like is None else tensor_uses(like)
    uses = list(zip(whole.tensors, every_use, strict=True))
    by_type = whole.bytes_by_type
    template = whole.chat_template
    name = whole.name or source.rstrip("/").rsplit("/", 1)[-1].removesuffix(".gguf")
    made = ModelFacts(
        name=one_line(name[:_TEXT_MAX]),
        source=source,
        files=tuple(files) or (source,),
        size_bytes=sum(sizes_bytes),
        architecture=whole.architecture,
        file_type=whole.file_type,
        bits_per_weight=whole.bits_per_weight,
        bytes_by_type={kind: by_type[kind] for kind in sorted(by_type, key=lambda kind: -by_type[kind])},
        parameters=whole.parameters,
        active_parameters=sum(
            tensor.elements if use.use == "looked up" else round(tensor.elements * use.share)
            for tensor, use in uses
            if tensor.name != "per_layer_token_embd.weight"
        ),
        tensor_bytes=whole.tensor_bytes,
        not_loaded_bytes=sum(tensor.size_bytes for tensor, use in uses if use.use == "not loaded"),
        n_layer=whole.n_layer,
        n_embd=whole.n_embd,
        n_vocab=_vocabulary(whole),
        n_ctx_train=whole.n_ctx_train or None,
        n_expert=shape.n_expert,
        n_expert_used=max(shape.n_expert_used, default=0),
        has_template=bool(template),
        template_bytes=len(template.encode("utf-8", "replace")),
        license=one_line(whole.license[:_TEXT_MAX]),
        purpose=purpose_of(whole),
        weight_bytes_per_token=sum(round(tensor.size_bytes * use.share) for tensor, use in uses),
        compute_parameters=sum(round(tensor.elements * use.share) for tensor, use in uses if use.use == "multiplied"),
        metadata=whole.metadata,
        tensors=whole.tensors,
    )
    made.__dict__[_name_of(_tensor_uses)] = every_use
    return made


def draft_within(facts: ModelFacts) -> ModelFacts | None:
    """The first layer that predicts further tokens (MTP) with the output matrix, as a draft model of its own.

    `None` for a model without such a layer.
    """
    return facts.derived(_draft_within)


_LAST_LAYER_ONLY = ("nextn_predict_layers", "attention.shared_kv_layers", "leading_dense_block_count")


def _draft_within(facts: ModelFacts) -> ModelFacts | None:
    shape, name = shape_of(facts.header), facts.architecture
    layer = f"blk.{shape.n_layer - shape.n_layer_ahead}."
    own = {tensor.name.removeprefix(layer): tensor for tensor in facts.tensors if tensor.name.startswith(layer)}
    if not shape.n_layer_ahead or not own:
        return None
    own.pop("nextn.embed_tokens.weight", None)
    head = own.pop("nextn.shared_head_head.weight", None)
    named = [("blk.0." + short, tensor) for short, tensor in own.items()]
    named += [(each.name, each) for each in facts.tensors
              if each.name == "token_embd.weight" or (each.name == "output.weight" and head is None)]  # fmt: skip
    named += [] if head is None else [("output.weight", head)]
    metadata = {
        key: value.values[-1]
        if isinstance(value, GgufArray) and value.values and value.length == shape.n_layer
        else value
        for key, value in facts.metadata.items()
    } | {f"{name}.block_count": 1, **{f"{name}.{key}": 0 for key in _LAST_LAYER_ONLY}}
    tensors = tuple(Tensor(as_named, each.shape, each.type_name, 0, each.size_bytes) for as_named, each in named)
    with suppress(GgufError, ModelError):
        size_bytes = sum(each.size_bytes for each in tensors)
        return facts_of([GgufHeader(3, metadata, tensors, 0)], source=facts.source, sizes_bytes=[size_bytes])
    return None


def _joined(headers: Sequence[GgufHeader]) -> GgufHeader:
    """The headers of all files as one; the first one's metadata win."""
    if not headers:
        raise ModelError("no file of the model was read", "name its GGUF file")
    first, *others = headers
    metadata = dict(first.metadata)
    names = {tensor.name for tensor in first.tensors}
    for header in others:
        metadata = header.metadata | metadata
        twice = names.intersection(tensor.name for tensor in header.tensors)
        if twice:
            raise ModelError(
                f"two files of the split model have the tensor {one_line(min(twice))}", "download the model again"
            )
        names.update(tensor.name for tensor in header.tensors)
    tensors = tuple(tensor for header in headers for tensor in header.tensors)
    return GgufHeader(first.version, metadata, tensors, first.data_offset, first.key_offsets)


def _vocabulary(header: GgufHeader) -> int | None:
    """Tokens in the vocabulary, or rows of the token embedding where the file has no vocabulary of its own."""
    n_vocab = header.n_vocab
    if n_vocab is not None and n_vocab > 0:
        return n_vocab
    for tensor in header.tensors:
        if tensor.name == "token_embd.weight" and len(tensor.shape) == 2:
            return tensor.shape[1]
    return None


def read_facts(path: Path) -> ModelFacts:
    """Read the headers of a model and give its facts. No weight is touched.

    `path` is a GGUF file, any part of a split model, or a folder with one model in it. Raises ModelError,
    also for a file that is not for generating text.
    """
    files, headers, sizes_bytes = read_headers(path)
    require_text(path.name, purpose_of(headers[0]))
    try:
        return facts_of(headers, source=str(path), sizes_bytes=sizes_bytes, files=[str(part) for part in files])
    except GgufError as error:
        raise refused(str(files[0]), error) from error


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
        like=facts,
    )
    return made if made.name == facts.name else replace(made, name=facts.name)


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


class PublishedModel(Struct, frozen=True, eq=False, kw_only=True):
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
def published_models(table: Path = _TABLE) -> tuple[PublishedModel, ...]:
    """The models of a table in the form of `models.csv`."""
    with table.open(newline="", encoding="utf-8") as opened:
        return tuple(
            PublishedModel(
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
def _unquantized(model: PublishedModel) -> ModelFacts:
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
