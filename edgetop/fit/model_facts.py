"""What headers say: shape, weights per token, can it load.

The bounds are llama.cpp's own (llama-model.cpp and llama-hparams.h of llama.cpp 0c1e57098). What it loads silently,
such as a context length of 0, is let through here as well.

Tensor names are llama.cpp's, and its graphs say what is multiplied, what is looked up by rows and what is left alone
(llama-arch.cpp and src/models of llama.cpp 0c1e57098).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from msgspec import Struct

from edgetop.core.errors import ModelError
from edgetop.core.gguf import GgufArray, GgufError, GgufHeader, Tensor, Value
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

LAYERS_MAX = 512
EXPERTS_MAX = 1024
_METADATA_OFFSET = 24
_BLOCK = re.compile(r"blk\.(\d{1,6})\.")
_ATTENTION = re.compile(r"blk\.(\d{1,6})\.attn_(?:q|qkv)\.weight")
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
    there = {int(block[1]) for tensor in header.tensors if (block := _BLOCK.match(tensor.name))}
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
        block = _ATTENTION.match(tensor.name)
        if not block or int(block[1]) >= n_layer:
            continue
        count = heads[int(block[1]) if len(heads) > 1 else 0]
        if not count:
            raise GgufError(_offset(header, key), f"{key} is 0, but layer {block[1]} attends")
        if count > widest:
            raise GgufError(_offset(header, key), f"{key} is {count}, but an embedding has {widest} numbers")
        for length in lengths:
            if header.metadata.get(length, 1) == 0:
                raise GgufError(_offset(header, length), f"{length} is 0, but layer {block[1]} attends")


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

_BLOCK_TENSOR = re.compile(r"blk\.(\d{1,6})\.(.+)")
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
    block = _BLOCK_TENSOR.fullmatch(name)
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
        name = f"{make.__module__}.{make.__qualname__}"
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


def _header_of(facts: ModelFacts) -> GgufHeader:
    return GgufHeader(3, facts.metadata, facts.tensors, 0)


def facts_of(
    headers: Sequence[GgufHeader], *, source: str, sizes_bytes: Sequence[int], files: Sequence[str] = ()
) -> ModelFacts:
    """Put the facts of a model together from the headers of its files, the first one first.

    `sizes_bytes` are the sizes of the files and `files` their paths or addresses, `source` if they are not given.
    Raises ModelError where the files contradict each other, and GgufError for what llama.cpp cannot load.
    """
    whole = _joined(headers)
    check_loadable(whole)
    shape = shape_of(whole)
    uses = list(zip(whole.tensors, uses_of(whole.tensors, shape), strict=True))
    by_type = whole.bytes_by_type
    template = whole.chat_template
    name = whole.name or source.rstrip("/").rsplit("/", 1)[-1].removesuffix(".gguf")
    return ModelFacts(
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
