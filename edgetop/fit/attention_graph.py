"""The attention of one layer as a compute graph, after build_qkv and build_attn of llama-graph.cpp (0c1e57098)."""

from __future__ import annotations

from msgspec import Struct

from edgetop.core.engine import EngineSettings
from edgetop.fit.graph_allocator import Result
from edgetop.fit.graph_parts import F32_BYTES, I64_BYTES, GraphParts
from edgetop.fit.kv_cache import cells_of, is_quantized
from edgetop.fit.layers import Layer

_ROTATION_MIN = 64
"""Keys and values of quantized caches are rotated by Hadamard matrices of at least this size."""
_NO_ROPE = frozenset({"bloom", "gpt2", "mpt", "refact", "starcoder", "jais", "jamba", "granitehybrid", "nemotron_h"})


class Attention(Struct):
    """What all attention layers share: how they are computed, and the inputs that are made when first used."""

    flash: bool
    settings: EngineSettings
    n_ctx: int
    rotation_k: int = 0
    """Size of the Hadamard matrix for keys; 0 without one."""
    rotation_v: int = 0
    inputs: dict[tuple[str, int], Result] = {}


def attention_of(parts: GraphParts, settings: EngineSettings, *, n_ctx: int, flash: bool) -> Attention:
    """The attention of a model with these settings."""
    keeping = [layer for layer in parts.layers if layer.keeps_kv]
    keys, values = {layer.key_length for layer in keeping}, {layer.value_length for layer in keeping}
    rotation_k = rotation_v = 0
    if is_quantized(settings.type_k) and len(keys) == 1:
        rotation_k = _largest_rotation(keys.pop())
    if is_quantized(settings.type_v) and len(values) == 1 and values.pop() % _ROTATION_MIN == 0:
        rotation_v = _ROTATION_MIN
    return Attention(
        flash=flash, settings=settings, n_ctx=n_ctx, rotation_k=rotation_k, rotation_v=rotation_v, inputs={}
    )


def attend(parts: GraphParts, attention: Attention, index: int, normed: Result) -> Result:
    """What the attention of layer `index` adds to the residual stream."""
    if parts.has(index, "attn_kv_a_mqa") and not parts.layers[index].value_length:
        return _attend_latent(parts, attention, index, normed)
    layer = parts.layers[index]
    if parts.has(index, "attn_qkv"):
        qkv = parts.compute(parts.width(index, "attn_qkv"), normed)
        query, key, value = (parts.graph.view(qkv) for _ in range(3))
        query = _turned(parts, index, "attn_q_norm", query, layer.n_head * layer.key_length)
        query = _rotated(parts, attention, layer, query, what="k", width=layer.n_head * layer.key_length)
        key = _turned(parts, index, "attn_k_norm", key, layer.key_width)
        key = _rotated(parts, attention, layer, key, what="k", width=layer.key_width)
        value = _rotated(parts, attention, layer, value, what="v", width=layer.value_width)
    else:
        width = parts.width(index, "attn_q")
        query = _turned(parts, index, "attn_q_norm", parts.compute(width, normed), width)
        query = _rotated(parts, attention, layer, query, what="k", width=width)
        if not layer.keeps_kv:  # it reads what an earlier layer has kept
            return _mixed(parts, attention, query, layer)
        value = parts.graph.view(parts.compute(layer.value_width, normed))
        value = _rotated(parts, attention, layer, value, what="v", width=layer.value_width)
        key = _turned(parts, index, "attn_k_norm", parts.compute(layer.key_width, normed), layer.key_width)
        key = _rotated(parts, attention, layer, key, what="k", width=layer.key_width)
    _keep(parts, attention, layer, key, value)
    return _mixed(parts, attention, query, layer)


def _attend_latent(parts: GraphParts, attention: Attention, index: int, normed: Result) -> Result:
    """MLA with the matrices for keys absorbed into the queries (src/models/deepseek2.cpp)."""
    graph, layer = parts.graph, parts.layers[index]
    rank = parts.length(index, "attn_kv_a_norm")
    rope = layer.key_length - rank
    if parts.has(index, "attn_q_a"):
        narrow = parts.width(index, "attn_q_a")
        compressed = parts.normalise(parts.compute(narrow, normed), narrow)
        query = parts.compute(parts.width(index, "attn_q_b"), compressed)
    else:
        query = parts.compute(parts.width(index, "attn_q"), normed)
    query = graph.view(query)
    absorbed = parts.compute(rank * layer.n_head, graph.view(graph.view(query)))
    turned = parts.compute(rope * layer.n_head, graph.view(query), parts.place())
    query = parts.compute(layer.key_length * layer.n_head, graph.view(absorbed), turned)
    latent = parts.compute(layer.key_length, normed)
    value = graph.view(parts.normalise(graph.view(latent), rank))
    place = parts.compute(rope, graph.view(latent), parts.place())
    key = parts.compute(layer.key_length, value, place)
    key = _rotated(parts, attention, layer, key, what="k", width=layer.key_length)
    graph.store(graph.view(key), _indexes(parts, attention, "k", layer))
    mask = _mask(parts, attention, layer)
    if attention.flash:
        mixed = parts.compute(rank * layer.n_head, graph.view(query), mask)
    else:
        mixed = parts.compute(rank * layer.n_head, _scores(parts, attention, layer, graph.view(query), mask))
    heads = parts.length(index, "attn_output")
    mixed = parts.compute(heads, graph.view(mixed) if attention.flash else mixed)
    mixed = parts.compute(heads, graph.view(mixed))
    return parts.compute(parts.n_embd, graph.view(mixed) if attention.flash else mixed)


def _turned(parts: GraphParts, index: int, norm: str, source: Result, width: int) -> Result:
    """Normalise per head where the model does, then turn by position. Both take a view, so each needs new memory."""
    if parts.length(index, norm):
        if parts.length(index, norm) == width:  # all heads as one
            source = parts.graph.view(parts.normalise(source, width))
        else:
            source = parts.compute(width, parts.graph.view(source))
            return parts.compute(width, source, parts.place(), in_place=True)
    elif source.view_of is None:
        source = parts.graph.view(source)
    if parts.facts.architecture in _NO_ROPE or parts.has_global("position_embd"):
        return source
    return parts.compute(width, source, parts.place())


def _rotated(parts: GraphParts, attention: Attention, layer: Layer, source: Result, *, what: str, width: int) -> Result:
    size = attention.rotation_k if what == "k" else attention.rotation_v
    if not size:
        return source
    matrix = _input(parts, attention, f"rotation {what}", layer, F32_BYTES * size * size)
    return parts.graph.view(parts.compute(width, matrix, parts.graph.view(source)))


def _keep(parts: GraphParts, attention: Attention, layer: Layer, key: Result, value: Result) -> None:
    parts.graph.store(parts.graph.view(key), _indexes(parts, attention, "k", layer))
    parts.graph.store(parts.graph.view(value), _indexes(parts, attention, "v", layer))


def _mixed(parts: GraphParts, attention: Attention, query: Result, layer: Layer) -> Result:
    graph = parts.graph
    width = layer.n_head * layer.value_length
    query = graph.view(graph.view(query))
    mask = _mask(parts, attention, layer)
    if attention.flash:
        mixed = graph.view(parts.compute(width, query, mask))
    else:
        weighted = parts.compute(width, _scores(parts, attention, layer, query, mask))
        mixed = parts.compute(width, graph.view(weighted))
    mixed = _rotated(parts, attention, layer, mixed, what="v", width=width)
    return parts.compute(parts.n_embd, mixed)


def _scores(parts: GraphParts, attention: Attention, layer: Layer, query: Result, mask: Result) -> Result:
    width = layer.n_head * _cells(parts, attention, layer)
    return parts.compute(width, parts.compute(width, query), mask, in_place=True)


def _cells(parts: GraphParts, attention: Attention, layer: Layer) -> int:
    full = attention.settings.swa_full
    return cells_of(layer, n_ctx=attention.n_ctx, n_ubatch=parts.n_tokens, swa_full=full)


def _mask(parts: GraphParts, attention: Attention, layer: Layer) -> Result:
    """Which tokens each token sees: f16 for flash attention, else f32."""
    number_bytes = 2 if attention.flash else F32_BYTES
    size_bytes = number_bytes * _cells(parts, attention, layer) * parts.n_tokens
    return _input(parts, attention, "mask", layer, size_bytes)


def _indexes(parts: GraphParts, attention: Attention, what: str, layer: Layer) -> Result:
    """Where in the cache to write; without flash attention values lie transposed, so that each number has its own."""
    widest = max(each.value_width for each in parts.layers) if what == "v" and not attention.flash else 1
    return _input(parts, attention, what, layer, I64_BYTES * parts.n_tokens * widest)


def _input(parts: GraphParts, attention: Attention, what: str, layer: Layer, size_bytes: int) -> Result:
    key = (what, 1 if layer.window else 0)
    if key not in attention.inputs:
        attention.inputs[key] = parts.graph.input(size_bytes)
    return attention.inputs[key]


def _largest_rotation(key_length: int) -> int:
    if key_length % _ROTATION_MIN:
        return 0
    size = _ROTATION_MIN
    while key_length % (2 * size) == 0:
        size *= 2
    return size
