"""What llama.cpp's loader refuses, or aborts on, in metadata that a reader can make sense of.

The bounds are llama.cpp's own (llama-model.cpp and llama-hparams.h of llama.cpp 0c1e57098). What it loads silently,
such as a context length of 0, is let through here as well.
"""

from __future__ import annotations

import re

from edgetop.core.gguf import GgufArray, GgufError, GgufHeader
from edgetop.fit.architectures import ARCHITECTURES

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
    if header.is_projector:
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
    for tensor in header.tensors:
        block = _ATTENTION.match(tensor.name)
        if block and int(block[1]) < n_layer and not heads[int(block[1]) if len(heads) > 1 else 0]:
            raise GgufError(_offset(header, key), f"{key} is 0, but layer {block[1]} attends")


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
