"""Size of the buffer for intermediate results, planned as llama.cpp plans it: for a full micro-batch at full context.

The graph of the model is laid out from the shapes of its weights and the allocator of ggml is run over it. The terms
that count are, per token of the micro-batch: a few times the width of the residual stream, two or three times the
width of the feed-forward part (times the experts used), the mask (two bytes for each token of the context) and, without
flash attention, four bytes for each head and token of the context.
"""

from __future__ import annotations

from msgspec import Struct

from edgetop.core.engine import EngineSettings
from edgetop.core.records import Missing
from edgetop.fit.attention_graph import Attention, attend, attention_of
from edgetop.fit.feed_forward_graph import feed_forward
from edgetop.fit.graph_allocator import Result
from edgetop.fit.graph_parts import F32_BYTES, I32_BYTES, GraphParts
from edgetop.fit.kv_cache import N_BATCH_DEFAULT, N_UBATCH_DEFAULT, is_quantized, padded
from edgetop.fit.layers import layers_of
from edgetop.fit.model_facts import ModelFacts
from edgetop.fit.recurrent_graph import is_known, remember

CHECKED = frozenset(
    {"llama", "qwen2", "qwen3", "qwen2moe", "qwen3moe", "olmoe", "gemma2", "gemma3", "gpt2", "phi3", "deepseek2",
     "mamba", "jamba", "lfm2"}
)  # fmt: skip
"""Architectures whose buffers are compared with the library's in the tests."""

_OWN_GRAPHS = frozenset({"gemma3n"})
"""Several residual streams side by side."""
_ALIKE_MAX = 3
"""From the third layer of a kind on the plan repeats itself."""


class ComputeBuffer(Struct, frozen=True):
    """What is planned for intermediate results."""

    size_bytes: int
    note: str = ""
    """What is not known of this architecture; empty where all is."""


def compute_buffer(facts: ModelFacts, settings: EngineSettings, *, n_ctx: int) -> ComputeBuffer | Missing:
    """The buffer for a context of `n_ctx` tokens, or why no formula is known."""
    layers = layers_of(facts)
    if isinstance(layers, Missing):
        return layers
    n_tokens = micro_batch(settings, n_ctx)
    n_ctx = padded(n_ctx)
    parts = GraphParts(facts, layers, n_tokens)
    attention = attention_of(parts, settings, n_ctx=n_ctx, flash=uses_flash_attention(facts, settings))
    unknown = [index for index, layer in enumerate(layers) if layer.recurrent and not is_known(parts, index)]
    if unknown or facts.architecture in _OWN_GRAPHS:
        return Missing(f"no formula is known for the intermediate results of {facts.architecture} models")
    n_outputs = min(n_tokens, max(1, settings.n_outputs_max))
    stream = _embedded(parts)
    for index in _telling(parts):
        last = index == len(layers) - 1
        stream = _layer(parts, attention, index, stream, n_outputs if last else n_tokens)
    normed = parts.normalise(stream, parts.n_embd, n_tokens=n_outputs)
    parts.compute(facts.n_vocab or 0, normed, n_tokens=n_outputs)
    checked = facts.architecture in CHECKED
    note = "" if checked else f"intermediate results of {facts.architecture} taken as a plain decoder's"
    return ComputeBuffer(parts.graph.buffer_bytes(), note)


def micro_batch(settings: EngineSettings, n_ctx: int) -> int:
    """Tokens computed together: what is asked for, as far as batch and context allow."""
    n_batch = min(n_ctx, max(1, settings.n_batch or N_BATCH_DEFAULT))
    return min(n_batch, max(1, settings.n_ubatch or N_UBATCH_DEFAULT))


def uses_flash_attention(facts: ModelFacts, settings: EngineSettings) -> bool:
    """Whether the processor computes attention in one go; it can for every model but Grok's."""
    if facts.architecture == "grok":
        return False
    return settings.flash_attention != "off" or is_quantized(settings.type_v)


def _telling(parts: GraphParts) -> list[int]:
    """The layers that decide the size: of those that are alike the first few, and the last one."""
    seen: dict[object, int] = {}
    telling = []
    for index, layer in enumerate(parts.layers):
        kind = (layer, parts.shapes_of(index))
        seen[kind] = seen.get(kind, 0) + 1
        if seen[kind] <= _ALIKE_MAX or index == len(parts.layers) - 1:
            telling.append(index)
    return telling


def _embedded(parts: GraphParts) -> Result:
    tokens = parts.graph.input(I32_BYTES * parts.n_tokens)
    # Room for embeddings in place of tokens, which is there whether it is used or not.
    parts.graph.input(F32_BYTES * parts.n_embd * parts.n_tokens)
    stream = parts.compute(parts.n_embd, tokens)
    if parts.has_global("position_embd"):
        looked_up = parts.compute(parts.n_embd, parts.place())
        stream = parts.compute(parts.n_embd, stream, looked_up, in_place=True)
    return stream


def _layer(parts: GraphParts, attention: Attention, index: int, stream: Result, n_out: int) -> Result:
    """One layer; of the last one only the rows of `n_out` tokens go on to the feed-forward part."""
    width = parts.n_embd
    normed = parts.normalise(stream, width) if parts.length(index, "attn_norm") else stream
    mixed = _mixed(parts, attention, index, stream, normed)
    if n_out != parts.n_tokens:
        rows = parts.graph.input(I32_BYTES * n_out)
        mixed = parts.compute(width, mixed, rows, n_tokens=n_out)
        stream = parts.compute(width, stream, rows, n_tokens=n_out)
    after_attention = bool(parts.length(index, "post_attention_norm"))
    before_ffn = bool(parts.length(index, "ffn_norm"))
    if after_attention and (before_ffn or not parts.length(index, "attn_norm")):
        mixed = parts.normalise(mixed, width, n_tokens=n_out)
    if not parts.has(index, "ffn_down", "ffn_down_exps"):
        return parts.compute(width, mixed, stream, n_tokens=n_out, in_place=True)
    if not before_ffn and not after_attention and normed is not stream and n_out == parts.n_tokens:
        # Attention and feed-forward part side by side, of the same normalised stream.
        hidden = feed_forward(parts, index, normed, n_out)
        mixed = parts.compute(width, hidden, mixed, n_tokens=n_out, in_place=True)
        return parts.compute(width, mixed, stream, n_tokens=n_out, in_place=True)
    stream = parts.compute(width, mixed, stream, n_tokens=n_out, in_place=True)
    has_norm = before_ffn or after_attention
    hidden = feed_forward(parts, index, parts.normalise(stream, width, n_tokens=n_out) if has_norm else stream, n_out)
    if parts.length(index, "post_ffw_norm"):
        hidden = parts.normalise(hidden, width, n_tokens=n_out)
    return parts.compute(width, hidden, stream, n_tokens=n_out, in_place=True)


def _mixed(parts: GraphParts, attention: Attention, index: int, stream: Result, normed: Result) -> Result:
    layer = parts.layers[index]
    if layer.recurrent and layer.keeps_kv:
        attended = attend(parts, attention, index, normed)
        recalled = remember(parts, index, parts.normalise(stream, parts.n_embd))
        return parts.compute(parts.n_embd, attended, recalled, in_place=True)
    if layer.recurrent:
        return remember(parts, index, normed)
    if layer.keeps_kv or parts.has(index, "attn_q"):
        return attend(parts, attention, index, normed)
    return normed
